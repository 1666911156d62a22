"""Pages and files: a fixed list, with safe headers, and nothing else."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from facestage.stream import protocol
from facestage.stream.server import server as server_module

from tests.support.paths import ROOT
from tests.support.wire import PATIENCE_S, make_hub, run, serving


def get(
    port: int, path: str, headers: tuple[tuple[str, str], ...] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.putrequest("GET", path, skip_accept_encoding=True, skip_host=headers is not None)
    for name, value in headers or ():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def fetch(path: str, **options: Any) -> tuple[int, http.client.HTTPMessage, bytes]:
    results: list[tuple[int, http.client.HTTPMessage, bytes]] = []

    async def test() -> None:
        async with serving(make_hub(), **options) as server:
            results.append(await asyncio.to_thread(get, server.port, path))

    run(test)
    return results[0]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/overlay", "text/html"),
        ("/overlay?show=stage", "text/html"),
        ("/kiosk", "text/html"),
        ("/?theme=x", "text/html"),
        ("/overlay.css", "text/css"),
        ("/app.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
        ("/schema.json", "application/json"),
        ("/healthz", "application/json"),
    ],
)
def test_files_of_the_list_are_served_with_safe_headers(path: str, kind: str) -> None:
    status, headers, body = fetch(path)
    assert status == 200
    assert headers.get_content_type() == kind
    assert int(headers["Content-Length"]) == len(body) > 0
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    # The style sheet of an OBS user must work on the overlay; nothing else may be inline.
    inline = " 'unsafe-inline'" if path.startswith("/overlay") and "." not in path else ""
    assert f"style-src 'self'{inline};" in policy
    assert policy.count("unsafe") == bool(inline)


@pytest.mark.parametrize(
    "path",
    [
        "/server.py",
        "/index.html.bak",
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/%2e%2e/pyproject.toml",
        "//etc/passwd",
        "/app.js/",
        "/./app.js",
        "/APP.JS",
        "/app.js%00.html",
        "/ws/../app.js",
        "/ws/frames/",
        "/protocol.d.ts",
        "/tsconfig.json",
    ],
)
def test_anything_else_is_not_found(path: str) -> None:
    status, headers, body = fetch(path)
    assert status == 404
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"import" not in body


def test_every_file_of_the_page_is_on_the_list_and_has_no_inline_script() -> None:
    folder = server_module._OVERLAY
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in server_module._MIME
    }
    pages = set(server_module._PAGES.values())
    assert present == {*server_module._FILES, *pages, "tsconfig.json"}
    for name in pages:
        page = (folder / name).read_text()
        assert "<script>" not in page
        assert "style=" not in page
        assert " onclick" not in page


def test_schema_and_health_say_what_they_should() -> None:
    assert json.loads(fetch("/schema.json")[2]) == json.loads(json.dumps(protocol.json_schema()))
    assert json.loads(fetch("/healthz")[2]) == {"status": "ok", "clients": 0, "first": 1, "last": 0}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("192.0.2.7", 200),
        ("[::1]:{port}", 200),
        ("localhost", 200),
        ("LOCALHOST.:{port}", 200),
        ("lab.example", 200),
        (socket.gethostname(), 200),
        (None, 200),
        ("evil.example", 421),
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example:{port}", 421),
        ("localhost.evil.example", 421),
        ("lab.example.evil.example", 421),
        ("user@evil.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
@pytest.mark.parametrize("token", [None, "s3cret"])
def test_health_is_told_under_the_servers_own_names_only(
    host: str | None, status: int, token: str | None
) -> None:
    async def test() -> None:
        options = {"token": token, "allowed_origins": ["https://lab.example"]}
        async with serving(make_hub(), **options) as server:
            headers = () if host is None else (("Host", host.format(port=server.port)),)
            got, _, body = await asyncio.to_thread(get, server.port, "/healthz", headers)
            assert got == status
            assert (b"clients" in body) == (status == 200)

    run(test)


def test_the_codes_of_errors_in_the_documentation_are_those_that_are_sent() -> None:
    folder = Path(server_module.__file__).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    sent = set(re.findall(r"""(?:_Refusal|Excess)\(\s*"([a-z_]+)\"""", source))
    documented = (ROOT / "docs/protocol.md").read_text().partition("Codes: ")[2].partition(".")[0]
    assert sent == set(re.findall("`([a-z_]+)`", documented))
