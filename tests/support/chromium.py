"""Drive a real headless Chromium over its DevTools websocket; nothing but ``websockets`` needed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

__all__ = ["Page", "find_chromium", "open_page"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_START_S = 60.0


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Page:
    """One tab.

    Attributes:
        errors: uncaught exceptions, console errors and refused resources, as text.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method and return its result."""
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._connection.send(
            json.dumps({"id": number, "method": method, "params": parameters})
        )
        message = await answer
        if "error" in message:
            raise RuntimeError(f"{method} failed: {message['error']}")
        return message["result"]

    async def listen(self) -> None:
        """Sort what the browser says; runs as a task while the page is open."""
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message["method"] == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                text = details.get("exception", {}).get("description", details["text"])
                self.errors.append(text)
            elif message["method"] == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] == "error":
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}")

    async def goto(self, url: str) -> None:
        """Load an address, and wait until it is there."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(_START_S):
            await self._loaded.wait()

    async def size(self, width: int, height: int, scale: float = 1, mobile: bool = False) -> None:
        """Set the size of the view, CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    async def media(self, **features: str) -> None:
        """Say what the reader's system prefers: ``prefers_color_scheme="dark"``, and so on."""
        wanted = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=wanted)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression (awaited if it is a promise)."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 30.0) -> Any:
        """Wait until an expression is true, and return its value."""
        value = None
        try:
            async with asyncio.timeout(timeout_s):
                while not value:
                    try:
                        value = await self.evaluate(expression)
                    except RuntimeError as error:
                        # Asked of the page before, while the next one was on its way.
                        if "navigated" not in str(error):
                            raise
                    await asyncio.sleep(0 if value else 0.05)
        except TimeoutError:
            raise AssertionError(
                f"still false after {timeout_s:g} s: {expression}; errors: {self.errors}"
            ) from None
        return value

    async def screenshot(self, path: Path, *, transparent: bool = False) -> None:
        """Write what is seen as PNG."""
        colour = {"color": {"r": 0, "g": 0, "b": 0, "a": 0}} if transparent else {}
        await self.call("Emulation.setDefaultBackgroundColorOverride", **colour)
        shot = await self.call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_page(executable: str, *extra_flags: str) -> AsyncIterator[Page]:
    """Start a browser with a profile of its own, and hand out its first tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            executable,
            *_FLAGS,
            f"--user-data-dir={profile}",
            *extra_flags,
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            address = await _tab_address(Path(profile), process)
            async with connect(address, max_size=None, ping_interval=None) as connection:
                page = Page(connection)
                listener = asyncio.create_task(page.listen())
                try:
                    for domain in ("Page", "Runtime", "Log"):
                        await page.call(f"{domain}.enable")
                    yield page
                finally:
                    listener.cancel()
                    await asyncio.gather(listener, return_exceptions=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _tab_address(profile: Path, process: asyncio.subprocess.Process) -> str:
    port_file = profile / "DevToolsActivePort"
    async with asyncio.timeout(_START_S):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"Chromium ended at once with status {process.returncode}")
            lines = port_file.read_text().splitlines() if port_file.exists() else []
            if len(lines) >= 2:
                tabs = await asyncio.to_thread(_list_tabs, int(lines[0]))
                if tabs:
                    return tabs[0]
            await asyncio.sleep(0.05)


def _list_tabs(port: int) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    return [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
