"""What clients ask for: markers and acknowledged notices become events for everybody."""

from __future__ import annotations

import json

import pytest
from facestage.core.errors import ProtocolError
from facestage.stream.protocol import (
    Marker,
    MarkerAdd,
    NoticeAck,
    NoticeAcknowledged,
    NoticeOff,
    NoticeOn,
    ScoreValue,
)
from facestage.stream.server.hub import MOST_NOTICES
from facestage.stream.server.requests import Requests

from tests.support.wire import client, frame, make_hub, run, serving

HIGH = ScoreValue(name="PSPI", value=6.0, low=6.0, high=6.0)


def notice_on(number: int) -> NoticeOn:
    return NoticeOn(
        score="PSPI", id=number, start=3, start_s=0.1, at=21, threshold=4.8, value=HIGH, text="…"
    )


def notice_off(number: int) -> NoticeOff:
    return NoticeOff(
        score="PSPI",
        id=number,
        start=3,
        start_s=0.1,
        end=63,
        end_s=2.1,
        at=108,
        duration_s=2.0,
        peak=HIGH,
        peak_s=1.0,
        reason="below",
        text="…",
    )


def test_a_marker_of_one_client_is_an_event_for_all() -> None:
    async def test() -> None:
        hub = make_hub()
        hub.publish_sample(frame(60), stream="cam", t_capture=1000.0)
        async with serving(hub) as server, client(server) as one, client(server) as other:
            await other.subscribe(topics=())
            await one.subscribe(topics=())
            await one.send(MarkerAdd(stream="cam", text=" she moved ", start_s=0.5, end_s=1.5))
            marker = await other.until("marker")
            assert marker.data == Marker(id=1, text="she moved", start_s=0.5, end_s=1.5)
            assert (marker.stream, marker.seq) == ("cam", 1)
            assert marker.t_capture == pytest.approx(1000.0 - 1.5)
            assert (await one.until("marker")).data == marker.data
            # Without a time it is at the latest frame, and a moment.
            await one.send(MarkerAdd(stream="cam", text="now"))
            assert (await other.until("marker")).data == Marker(
                id=2, text="now", start_s=2.0, end_s=2.0
            )

    run(test)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"stream": "cam", "text": "x", "start_s": 2.0, "end_s": 1.0}, "cannot end at 1 s before"),
        ({"stream": "cam", "text": "  "}, "has 1 to 500 characters"),
        ({"stream": "cam", "text": "x" * 501}, "has 1 to 500 characters"),
        ({"stream": "nobody", "text": "x"}, "there is no stream 'nobody'; name one of"),
        ({"stream": "file", "text": "x"}, "no frame of 'file' was analysed yet"),
        ({"stream": "cam", "text": "x", "end_s": 0.5}, "cannot end at 0.5 s before"),
        ({"stream": "cam", "text": "x", "colour": "red"}, "unknown field"),
    ],
)
def test_a_marker_that_cannot_be_is_refused_in_one_line(data: dict[str, object], says: str) -> None:
    async def test() -> None:
        hub = make_hub()
        hub.publish_sample(frame(60), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.connection.send(json.dumps({"v": 1, "type": "marker.add", "data": data}))
            said, code = await peer.closed()
            assert said[-1].data.code == "bad_message"
            assert says in said[-1].data.message
            assert code == 1007
        assert hub.range == (1, 0)

    run(test)


def test_markers_are_bounded_so_that_they_push_no_other_event_out() -> None:
    now = 0.0
    hub = make_hub()
    requests = Requests(hub, lambda message: None, ticks=lambda: now)
    wish = MarkerAdd(stream="cam", text="x", start_s=1.0)
    for _ in range(60):
        requests.take(wish)
    with pytest.raises(ProtocolError, match="more than 2 markers per second"):
        requests.take(wish)
    now = 0.5
    requests.take(wish)
    assert hub.range == (1, 61)


def test_a_notice_is_acknowledged_once_whoever_says_so() -> None:
    async def test() -> None:
        hub = make_hub()
        hub.publish_event(notice_on(1), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(topics=())
            (told,) = (await peer.until("snapshot")).data.notices
            assert (told.on, told.off, told.acknowledged) == (notice_on(1), None, False)
            for _ in range(2):
                await peer.send(NoticeAck(stream="cam", id=1))
            await peer.send(NoticeAck(stream="cam", id=9))  # is not open
            hub.publish_event(notice_off(1), stream="cam")
            seen = [await peer.next() for _ in range(3)]
            kinds = [message.type for message in seen if message.seq is not None]
            assert sorted(kinds) == ["notice.ack", "notice.off"]
        assert hub.range == (1, 3)
        # It has ended and was seen: whoever comes now is not told.
        assert hub.past().snapshots["cam"].notices == ()

    run(test)


def test_a_notice_that_ended_unseen_is_told_to_whoever_comes() -> None:
    hub = make_hub()
    for number in range(MOST_NOTICES + 5):
        hub.publish_event(notice_on(number), stream="cam")
        hub.publish_event(notice_off(number), stream="cam")
    notices = hub.past().snapshots["cam"].notices
    assert [notice.on.id for notice in notices] == list(range(5, MOST_NOTICES + 5))
    assert all(notice.off is not None and not notice.acknowledged for notice in notices)
    hub.publish_event(NoticeAcknowledged(id=7), stream="cam")
    assert 7 not in [notice.on.id for notice in hub.past().snapshots["cam"].notices]
    assert hub.past().snapshots["file"].notices == ()
