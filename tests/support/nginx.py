"""A real nginx before a server, configured by the block that the documentation shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.paths import ROOT

__all__ = ["find_nginx", "free_port", "nginx"]

_START_S = 20.0


def find_nginx() -> str | None:
    """Return the path of nginx, or None."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def nginx(
    executable: str, folder: Path, *, port: int, upstream: int, cert: Path, key: Path
) -> AsyncIterator[None]:
    """Run nginx with the documented block.

    Args:
        executable: of nginx.
        folder: an empty one, for all that it writes.
        port: to listen on.
        upstream: port of the server behind it.
        cert: certificate.
        key: its key.
    """
    (block,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/serving.md").read_text(), re.DOTALL)
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/lab/fullchain.pem", str(cert)),
        ("/etc/ssl/lab/privkey.pem", str(key)),
        ("http://127.0.0.1:8765/", f"http://127.0.0.1:{upstream}/"),
    ):
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{block}}}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(executable, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_START_S):
            while not await _listens(port):
                if process.returncode is not None:
                    assert process.stderr is not None  # it is piped: narrows the library's type
                    raise RuntimeError(f"nginx ended: {(await process.stderr.read()).decode()}")
                await asyncio.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
