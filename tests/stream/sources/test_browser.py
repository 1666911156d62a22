"""The webcam of a browser as a source: what its pictures become, and what ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.stream.sources import BrowserCamera, Inbox, browser_name, may_appear, source_name
from facestage.stream.sources.pictures import jpeg_size

PAGE, OTHER = object(), object()


def jpeg(width: int = 64, height: int = 48, grey: int = 90) -> bytes:
    image = np.full((height, width, 3), grey, np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


class Sender:
    """A page that gives pictures; it keeps the answers."""

    def __init__(self, inbox: Inbox, giver: object = PAGE) -> None:
        self.inbox, self.giver = inbox, giver
        self.answers: list[str] = []
        self.may = inbox.claim(giver, self.answers.append)

    def send(self, data: bytes, time_s: float) -> bool:
        return self.inbox.offer(self.giver, data, time_s)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox("browser")


@pytest.fixture
def camera(inbox: Inbox) -> Iterator[BrowserCamera]:
    with BrowserCamera(inbox) as source:
        yield source


def test_names() -> None:
    assert browser_name("browser:") == source_name("browser:") == "browser"
    assert browser_name("browser:left") == source_name("browser:left") == "browser left"
    assert may_appear("browser:left")
    for other in ("browser", "browser:a b", "browser:../x", "0", "browser:" + "x" * 33):
        assert browser_name(other) is None


def test_a_picture_is_what_the_page_sent_at_the_time_of_the_page(
    inbox: Inbox, camera: BrowserCamera
) -> None:
    page = Sender(inbox)
    for number, time_s in enumerate((100.0, 100.4, 102.0)):
        assert page.send(jpeg(grey=50 * number), time_s)
        grab = camera.read()
        assert grab is not None
        assert grab.index == number
        assert grab.pts == pytest.approx(time_s - 100.0)
        assert abs(int(grab.image[20, 20, 0]) - 50 * number) < 3
    assert page.answers == ["taken"] * 3
    assert (camera.size, camera.endless, camera.live) == ((64, 48), True, True)


def test_a_clock_of_the_page_that_stands_or_runs_back_still_gives_growing_times(
    inbox: Inbox, camera: BrowserCamera
) -> None:
    page = Sender(inbox)
    times = []
    for time_s in (5.0, 5.0, 1.0, 9.0):
        page.send(jpeg(), time_s)
        grab = camera.read()
        assert grab is not None
        times.append(grab.pts)
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (jpeg()[:-40], "broken"),
        (jpeg()[:30], "broken"),
        (b"\xff\xd8\xff", "broken"),
        (b"GIF89a" + b"\0" * 40, "broken"),
        (b"\0", "broken"),
        (jpeg(4104, 8), "too_large"),
    ],
    ids=["cut", "header", "mark", "gif", "zero", "wide"],
)
def test_what_cannot_be_taken_is_answered_left_out_and_counted(
    inbox: Inbox, camera: BrowserCamera, data: bytes, result: str
) -> None:
    page = Sender(inbox)
    reading = threading.Thread(target=lambda: grabs.append(camera.read()))
    grabs: list[object] = []
    page.send(data, 1.0)
    reading.start()
    wait_for(lambda: page.answers == [result])
    assert page.send(jpeg(), 2.0)  # it may go on at once
    reading.join(20)
    assert page.answers == [result, "taken"]
    assert camera.skipped == 1
    assert [getattr(grab, "index", None) for grab in grabs] == [1]  # its place stays empty


def wait_for(condition: object) -> None:
    assert callable(condition)
    done = threading.Event()
    for _ in range(4000):
        if condition():
            return
        done.wait(0.005)
    raise AssertionError("it never came true")


def test_pictures_of_another_size_are_given_as_they_are(
    inbox: Inbox, camera: BrowserCamera
) -> None:
    page = Sender(inbox)
    sizes = []
    for number, size in enumerate([(64, 48), (48, 64), (320, 240)]):
        page.send(jpeg(*size), float(number))
        grab = camera.read()
        assert grab is not None
        sizes.append(grab.image.shape[1::-1])
    assert sizes == [(64, 48), (48, 64), (320, 240)]


def test_a_second_picture_before_the_answer_is_not_taken(inbox: Inbox) -> None:
    page = Sender(inbox)
    assert page.send(jpeg(), 0.0)
    assert not page.send(jpeg(), 0.1)


def test_one_page_at_a_time(inbox: Inbox, camera: BrowserCamera) -> None:
    first = Sender(inbox)
    second = Sender(inbox, OTHER)
    assert (first.may, second.may) == (True, False)
    assert not second.send(jpeg(), 0.0)
    inbox.release(OTHER, "not its own")  # changes nothing
    assert first.send(jpeg(), 0.0)
    assert camera.read() is not None
    inbox.release(PAGE, "the first has left")
    assert Sender(inbox, OTHER).may
    with pytest.raises(SourceError, match="the first has left"):
        camera.read()


def test_the_answer_to_a_page_that_left_goes_to_nobody(inbox: Inbox, camera: BrowserCamera) -> None:
    first = Sender(inbox)
    first.send(jpeg(), 0.0)
    inbox.release(PAGE, "left")
    second = Sender(inbox, OTHER)
    assert second.send(jpeg(), 0.0)  # what the first left behind is not in the way
    assert camera.read() is not None
    assert (first.answers, second.answers) == ([], ["taken"])


def test_a_pause_is_a_loss_with_the_reason_of_the_page_and_the_next_picture_ends_it(
    inbox: Inbox, camera: BrowserCamera
) -> None:
    page = Sender(inbox)
    inbox.pause(PAGE, "never seen: nothing was given yet")
    page.send(jpeg(), 0.0)
    assert camera.read() is not None
    for _ in range(3):
        inbox.pause(PAGE, "the page is hidden")
    page.send(jpeg(), 9.0)
    with pytest.raises(SourceError, match="the page is hidden"):
        camera.read()
    again = BrowserCamera(inbox)
    assert page.answers == ["taken", "late"]  # what waited meanwhile is old
    page.send(jpeg(), 10.0)
    grab = again.read()
    assert grab is not None
    assert (grab.index, grab.pts) == (0, 0.0)


def test_the_wait_for_a_page_can_be_ended(camera: BrowserCamera) -> None:
    grabs: list[object] = []
    reading = threading.Thread(target=lambda: grabs.append(camera.read()))
    reading.start()
    camera.wake()
    reading.join(20)
    assert grabs == [None]


def test_givers_that_come_and_go_pile_nothing_up(inbox: Inbox) -> None:
    for number in range(1000):
        giver = object()
        Sender(inbox, giver).send(jpeg(8, 8), float(number))
        inbox.release(giver, "left")
    assert len(inbox._waiting) == 1


def test_the_size_of_a_jpeg_is_read_from_its_header() -> None:
    assert jpeg_size(jpeg(640, 360)) == (640, 360)
    assert jpeg_size(jpeg(640, 360)[:400]) in ((640, 360), None)
    assert jpeg_size(b"\xff\xd8\xff\xe0\x00\x00") is None
    assert jpeg_size(b"\x89PNG") is None
