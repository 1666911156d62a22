"""Behind a real nginx, under a path: the page, its sockets, and what the limits mean there."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from facestage.stream.protocol import Auth, SourceChanged
from facestage.stream.server import limits
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.certificates import make_certificate
from tests.support.chromium import find_chromium, open_page
from tests.support.nginx import find_nginx, free_port, nginx
from tests.support.wire import Peer, make_hub, run, serving, stage

NGINX = find_nginx()
TOKEN = "s3cret"

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine")


class Site:
    """A server, a proxy before it, and how to reach them under the proxy's name."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = make_certificate(folder, subject="lab.example")
        self.folder = folder
        self.hub = make_hub()

    async def __aenter__(self) -> Site:
        assert NGINX is not None
        self.port = free_port()
        self.origin = f"https://lab.example:{self.port}"
        origins = [self.origin]
        self.server = serving(self.hub, token=TOKEN, allowed_origins=origins)
        await self.server.__aenter__()
        self._proxy = nginx(
            NGINX,
            self.folder,
            port=self.port,
            upstream=self.server.port,
            cert=self.cert,
            key=self.key,
        )
        await self._proxy.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._proxy.__aexit__(None, None, None)
        await self.server.__aexit__(None, None, None)

    def connect(self, path: str = "/face/ws", **options: object) -> connect:
        trust = ssl.create_default_context(cafile=str(self.cert))
        return connect(
            f"wss://lab.example:{self.port}{path}",
            ssl=trust, host="127.0.0.1", port=self.port, **options,  # type: ignore[arg-type]
        )  # fmt: skip


def test_sockets_pass_and_foreign_pages_do_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with Site(tmp_path) as site:
            async with site.connect(origin=site.origin) as connection:
                peer = Peer(connection)
                await peer.send(Auth(token=TOKEN))
                assert (await peer.until("ack")).data.to == "auth"
                await peer.subscribe()
                site.hub.publish_event(stage(1), stream="cam")
                assert await peer.events(1) == [1]
            with pytest.raises(InvalidStatus, match="403"):
                async with site.connect(origin="https://evil.example"):
                    pass

    run(test)


def test_addresses_that_a_client_claims_do_not_help_it_to_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUESS_DELAY_S", 0.01)

    async def test() -> None:
        async with Site(tmp_path) as site:
            for guess in range(3):
                claimed = {
                    "X-Forwarded-For": f"192.0.2.{guess}",
                    "Forwarded": f"for=192.0.2.{guess}",
                }
                async with site.connect(additional_headers=claimed) as connection:
                    peer = Peer(connection)
                    await peer.send(Auth(token=f"wrong {guess}"))
                    assert (await peer.closed())[1] == 4401
            assert len(site.server._guesses) == 1

    run(test)


@pytest.mark.browser
@pytest.mark.parametrize("page_path", ["/face/", "/face/overlay"])
def test_the_page_works_under_a_path(tmp_path: Path, page_path: str) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine")

    async def test() -> None:
        flags = ("--host-resolver-rules=MAP lab.example 127.0.0.1", "--ignore-certificate-errors")
        async with Site(tmp_path) as site, open_page(chromium, *flags) as page:
            site.hub.publish_event(SourceChanged(state="live"), stream="cam")
            site.hub.publish_event(stage(1, "AU12_A"), stream="cam")
            await page.goto(f"{site.origin}{page_path}#token={TOKEN}")
            await page.until("document.getElementById('chips').textContent.includes('AU12_A')")
            if page_path == "/face/":
                async with asyncio.timeout(20):
                    while not site.hub.wants_pictures:
                        await asyncio.sleep(0.01)
            overlay = await page.evaluate("document.body.className")
            assert ("overlay" in overlay) == page_path.endswith("overlay")
            assert page.errors == []

    run(test)
