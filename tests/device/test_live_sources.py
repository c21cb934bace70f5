"""Cameras without hardware: the test picture, a stream served on this machine, links to device files."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tnn_edge.camera import Camera, NetworkStream, SyntheticCamera, open_source
from tnn_edge.camera.network_stream import without_credentials
from tnn_edge.errors import SourceError
from tnn_edge.plant import ImageSensor

N_STREAMED = 40


class Clock:
    """Monotonic seconds that pass in `sleep` alone."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.now_s += seconds


def test_test_source_keeps_its_pace() -> None:
    clock = Clock()
    camera = SyntheticCamera(fps=20.0, width=32, height=16, n_frames=41, monotonic=clock, sleep=clock.sleep)
    captured = [frame.captured_s for frame in camera]
    assert captured == pytest.approx([100.0 + i / 20 for i in range(41)])


def test_test_source_keeps_its_pace_while_frames_are_worked_on() -> None:
    clock = Clock()
    captured = []
    for frame in SyntheticCamera(fps=20.0, width=32, height=16, n_frames=20, monotonic=clock, sleep=clock.sleep):
        captured.append(frame.captured_s)
        clock.now_s += 0.03  # of the 0.05 s to the next frame
    assert captured == pytest.approx([100.0 + i / 20 for i in range(20)])


def test_test_source_does_not_wait_for_frames_that_are_late() -> None:
    clock = Clock()
    camera = SyntheticCamera(fps=20.0, width=32, height=16, n_frames=20, monotonic=clock, sleep=clock.sleep)
    frames = iter(camera)
    next(frames)
    clock.now_s += 10.0
    assert [frame.captured_s for frame in frames] == [110.0] * 19


def test_test_picture_moves_and_is_exposed_for_its_light() -> None:
    with open_source("test:?fps=1000&size=64x48&frames=3&lux=200") as source:
        first, second, third = source
    assert first.image is not None and second.image is not None
    assert first.image.shape == (48, 64, 3) and first.image.dtype == np.uint8
    assert (np.roll(first.image, 4, axis=1) == second.image).all()
    assert (first.image != second.image).any()
    assert third.index == 2
    assert first.exposure == ImageSensor().exposure(200.0)


@pytest.mark.parametrize("lux", [3.0, 30.0, 300.0, 3000.0, 30000.0])
def test_light_of_the_test_source_can_be_read_off_its_picture(lux: float) -> None:
    (frame,) = SyntheticCamera(fps=1000.0, width=320, height=240, n_frames=1, lux=lux)
    assert frame.image is not None and frame.exposure is not None
    estimate = ImageSensor().estimate_lux(frame.image, frame.exposure)
    assert estimate is not None
    assert abs(np.log2(estimate / lux)) < 0.5


def test_same_test_source_gives_the_same_pictures() -> None:
    pictures = [[frame.image for frame in open_source("test:?fps=1000&size=32x32&frames=4")] for _ in range(2)]
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("test:?fps=0", r"fps must lie in \(0, 1000\], got 0"),
        ("test:?fps=nan", r"fps must lie in \(0, 1000\], got nan"),
        ("test:?fps=fast", r"test:\?fps=fast: could not convert .*; write for example test:\?fps=30&size=640x480"),
        ("test:?size=640", r"test:\?size=640: size is WIDTHxHEIGHT; write for example"),
        ("test:?size=0x10", "size must lie between 1x1 and 8294400 pixels, got 0x10"),
        ("test:?frames=-1", "frames must not be negative"),
        ("test:?lux=-1", r"lux must lie in \[0, 1000000\], got -1"),
        ("test:?color=red", "a test source has no option color; it has fps, size, frames and lux"),
    ],
)
def test_mistake_in_a_test_source_is_named(spec: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(spec)


class _Mjpeg(BaseHTTPRequestHandler):
    """What many cheap network cameras serve: JPEGs in one endless multipart answer. Ours ends, after N_STREAMED."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(N_STREAMED):
                jpeg = io.BytesIO()
                PIL.Image.fromarray(np.full((48, 64, 3), 6 * i, np.uint8)).save(jpeg, "JPEG")
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.tell()}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg.getvalue() + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has seen enough

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    """Address of an MJPEG camera on this machine."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Mjpeg)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"127.0.0.1:{http.server_port}/camera.mjpg"
    http.shutdown()
    thread.join()
    http.server_close()


def test_network_stream_is_read_frame_by_frame(server: str) -> None:
    with open_source(f"http://{server}") as source:
        assert source.is_live
        frames = list(islice(source, 10))
    assert [frame.index for frame in frames] == list(range(10))
    levels = [float(frame.image.mean()) for frame in frames if frame.image is not None]
    assert levels == pytest.approx([levels[0] + 6 * i for i in range(10)], abs=2.0)


def test_network_stream_that_ends_says_so(server: str) -> None:
    with (
        NetworkStream(f"http://admin:secret@{server}", timeout_s=5.0) as source,
        pytest.raises(SourceError, match=r"stream http://127.* ended after \d+ frames; check the camera") as raised,
    ):
        list(source)
    assert "secret" not in str(raised.value)


def test_network_stream_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(SourceError, match=r"stream rtsp://127\.0\.0\.1:9/live cannot be opened: nothing") as raised:
        open_source("rtsp://admin:secret@127.0.0.1:9/live")
    assert "secret" not in str(raised.value)


def test_user_and_password_are_cut_out_of_an_address() -> None:
    assert without_credentials("rtsp://u:p%40@cam.local:554/a?b=c") == "rtsp://cam.local:554/a?b=c"
    assert without_credentials("rtsp://cam.local/a@b") == "rtsp://cam.local/a@b"


def test_scheme_that_no_stream_has_is_refused() -> None:
    with pytest.raises(SourceError, match=r"ftp:// streams cannot be read; a stream begins with one of rtsp://"):
        open_source("ftp://cam.local/a")


def test_camera_named_by_a_link_that_is_not_there_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "usb-left").touch()
    with pytest.raises(SourceError, match=r"there is no camera .*usb-right \(there is usb-left\); name one that is"):
        Camera(tmp_path / "usb-right")


def test_link_to_something_else_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "usb-left").symlink_to(tmp_path / "disk")
    (tmp_path / "disk").touch()
    with pytest.raises(SourceError, match=r"usb-left is no camera's device file; name /dev/videoN or a link below"):
        Camera(tmp_path / "usb-left")


def test_link_leads_to_the_camera_it_names(tmp_path: Path) -> None:
    (tmp_path / "video4711").touch()
    (tmp_path / "usb-left").symlink_to(tmp_path / "video4711")
    with pytest.raises(SourceError, match=r"camera .*usb-left cannot be opened: there is no /dev/video4711"):
        Camera(tmp_path / "usb-left")
