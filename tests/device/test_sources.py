"""Frames from folders, videos and cameras, and what is said when there are none."""

from __future__ import annotations

import io
import sys
import time
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from tnn_edge.camera import Camera, ImageFolder, VideoFile, open_source
from tnn_edge.camera.local_camera import _reason
from tnn_edge.errors import MissingExtraError, SourceError

N_FRAMES = 12
LEVEL_STEP = 20


def write_image(path: Path, level: int = 128, size: tuple[int, int] = (24, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
    return path


@pytest.fixture
def noise_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(params=[("mp4", "mp4v"), ("avi", "MJPG")], ids=["mp4", "avi"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clip whose n-th frame has the grey level n * LEVEL_STEP."""
    suffix, codec = request.param
    path = tmp_path / f"clip.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, (64, 48))
    for i in range(N_FRAMES):
        writer.write(np.full((48, 64, 3), i * LEVEL_STEP, np.uint8))
    writer.release()
    return path


def levels(frames: list[np.ndarray]) -> list[int]:
    return [round(float(image.mean()) / LEVEL_STEP) for image in frames]


def test_a_folder_gives_all_images_below_it_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.jpg", "a/x.WEBP", "c.bmp", "deep/er/y.ppm"):
        write_image(tmp_path / name)
    for name in (".thumbnails/t.jpg", "b/._2.png"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.name for frame in frames] == ["a/x.WEBP", "b/10.jpg", "b/2.png", "c.bmp", "deep/er/y.ppm"]
    assert [frame.index for frame in frames] == list(range(5))
    assert source.n_frames == 5
    assert all(frame.image is not None and frame.image.shape == (24, 32, 3) for frame in frames)


def test_the_folder_of_an_image_is_its_label_in_a_tree_of_classes_only(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/far/2.png", "3.png"):
        write_image(tmp_path / name)
    assert {frame.name: frame.label for frame in ImageFolder(tmp_path)} == {
        "cat/1.png": "cat",
        "cat/far/2.png": None,
        "3.png": None,
    }


def test_a_frame_carries_the_time_at_which_it_was_read(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "2.png")
    ticks = count(start=1000)
    assert [frame.captured_at for frame in ImageFolder(tmp_path, clock=lambda: next(ticks))] == [1000, 1001]


def test_images_that_do_not_decode_are_failed_frames_between_good_ones(
    tmp_path: Path, noise_jpeg: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    png = write_image(tmp_path / "1.png").read_bytes()
    (tmp_path / "2.jpg").write_bytes(noise_jpeg[: len(noise_jpeg) // 2])
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").write_text("not an image")
    (tmp_path / "5.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "6.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "7.ppm").write_text("P6 20000 20000 255\n")  # 1.2 GB of pixels, if one believes it
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "8.png", exif=b"MM\x8d*\0\0\0\x08")
    (tmp_path / "9.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    (tmp_path / "a.jpg").write_bytes(noise_jpeg)
    frames = list(ImageFolder(tmp_path))
    assert [frame.image is not None for frame in frames] == [True, *[False] * 8, True]
    errors = [frame.error or "" for frame in frames]
    assert errors[1].startswith("the image does not decode (image file is truncated (")
    assert errors[2] == "the image does not decode (the file is empty)"
    assert errors[3] == "the image does not decode (damaged, or no image of its kind)"
    assert errors[4] == "the image does not decode (image file is truncated)"
    assert "No such file" in errors[5]
    assert "(400000000 pixels) exceeds limit" in errors[6]
    assert errors[7].startswith("the image does not decode (not a TIFF file (header")
    assert errors[8] == errors[3]  # not even looked at: Pillow would start Ghostscript for it
    assert capfd.readouterr().err == ""


def test_a_jpeg_with_bytes_after_its_end_decodes(tmp_path: Path, noise_jpeg: bytes) -> None:
    (tmp_path / "1.jpg").write_bytes(noise_jpeg + b"maker's notes")
    assert [frame.error for frame in ImageFolder(tmp_path)] == [None]


def test_a_photo_is_turned_as_its_orientation_tag_says(tmp_path: Path) -> None:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:, 16:, 0] = 255  # right half red; the tag says: turn by 90 degrees, clockwise
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    PIL.Image.fromarray(picture).save(tmp_path / "1.png", exif=exif)
    (frame,) = ImageFolder(tmp_path)
    np.testing.assert_array_equal(frame.image, np.rot90(picture, -1))


def test_every_kind_of_image_becomes_red_green_blue_without_a_word(tmp_path: Path) -> None:
    red = PIL.Image.new("RGB", (8, 8), (255, 0, 0))
    red.save(tmp_path / "1.png")
    red.convert("RGBA").save(tmp_path / "2.png")
    red.quantize(2).save(tmp_path / "3.png", transparency=b"\0\0")  # of this Pillow warns
    PIL.Image.new("L", (8, 8), 77).save(tmp_path / "4.png")
    frames = list(ImageFolder(tmp_path))
    assert [frame.error for frame in frames] == [None] * 4
    assert [frame.image[5, 5].tolist() for frame in frames if frame.image is not None] == [
        [255, 0, 0], [255, 0, 0], [255, 0, 0], [77, 77, 77],
    ]  # fmt: skip


def test_one_image_file_is_a_source(tmp_path: Path) -> None:
    path = write_image(tmp_path / "one.png")
    with open_source(str(path)) as source:
        assert [frame.name for frame in source] == ["one.png"]


def test_a_video_gives_every_frame_in_order_and_ends(video: Path) -> None:
    with open_source(str(video)) as source:
        frames = list(source)
    assert source.n_frames == N_FRAMES
    assert [frame.index for frame in frames] == list(range(N_FRAMES))
    assert levels([frame.image for frame in frames if frame.image is not None]) == list(range(N_FRAMES))
    assert {frame.name for frame in frames} == {video.name}


def test_the_frames_of_a_video_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order
    writer.release()
    with VideoFile(path) as source:
        (frame,) = source
    assert frame.image is not None
    np.testing.assert_allclose(frame.image.mean(axis=(0, 1)), (255, 0, 0), atol=4)


def test_a_source_is_released_on_every_way_out(video: Path) -> None:
    source = VideoFile(video)
    frames = iter(source)
    with pytest.raises(ZeroDivisionError), source:
        1 / next(frames).index
    with pytest.raises(SourceError, match=r"video .* is closed; open it again to read on"):
        next(frames)
    source.close()  # again: nothing happens


@pytest.mark.parametrize(
    "content", [b"hello " * 100, b"", b"RIFF1234AVI " + b"x" * 500], ids=["text", "empty", "AVI without a list"]
)
def test_a_file_that_is_no_video_is_one_clear_error(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4 is not a video that OpenCV can read.*ffprobe"):
        open_source(str(path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("video", [("mp4", "mp4v")], indirect=True)  # what is left of an AVI may be readable
def test_a_video_cut_short_at_its_index_is_one_clear_error(video: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="cut short"):
        open_source(str(video))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("spec", ["nowhere", "nowhere.mp4", "nowhere.jpg"])
def test_a_missing_path_says_what_could_be_named(spec: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"{spec} does not exist; name an image folder, a video file or a camera"):
        open_source(str(tmp_path / spec))


def test_a_missing_video_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"video .*clip\.mp4 does not exist; name an image folder"):
        VideoFile(tmp_path / "clip.mp4")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceError, match=r"no image in .* or below it \(looked for \.bmp .*\.webp\)"):
        open_source(str(tmp_path))


def test_age_of_an_image_counts_from_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded_s: list[float] = []

    def decode(_data: bytes) -> np.ndarray:
        decoded_s.append(time.monotonic())
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr("tnn_edge.camera.image_folder.decode_image", decode)
    (frame,) = ImageFolder(write_image(tmp_path / "1.png"))
    assert frame.captured_s <= decoded_s[0]


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_options: bool) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(SourceError, match=r"images cannot be read \(Permission denied\); check its permissions"):
        open_source(str(tmp_path / "images"))


def test_a_number_is_a_camera_and_a_folder_with_that_name_needs_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "9997" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert [frame.name for frame in open_source("./9997")] == ["1.png"]
    with pytest.raises(SourceError, match="camera 9997"):
        open_source("9997")


@pytest.mark.parametrize("spec", ["9997", "/dev/video9997"])
def test_a_camera_that_is_not_there_is_one_clear_error(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"camera 9997 cannot be opened: there is no /dev/video9997 .*name one that"):
        open_source(spec)
    assert capfd.readouterr().err == ""


def test_a_camera_that_does_not_open_is_told_apart_from_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "video2").touch()
    assert _reason(0, tmp_path) == f"there is no {tmp_path}/video0 (there is video2); name one that is there"
    assert "is in use, or is not a capture device; try the next index" in _reason(2, tmp_path)


def test_a_camera_drops_the_frame_that_opened_it_and_says_when_it_stops(video: Path) -> None:
    capture = cv2.VideoCapture(str(video))
    images = []
    with Camera(0, capture=capture) as camera:
        frames = iter(camera)
        images += [next(frames).image for _ in range(N_FRAMES - 1)]
        with pytest.raises(SourceError, match=rf"camera 0 stopped delivering after {N_FRAMES - 1} frames; check its"):
            next(frames)
    assert levels([image for image in images if image is not None]) == list(range(1, N_FRAMES))
    assert not capture.isOpened()


def test_a_camera_without_frames_says_so_and_is_released(video: Path) -> None:
    capture = cv2.VideoCapture(str(video))
    while capture.grab():
        pass
    with pytest.raises(SourceError, match="camera 3 opens but delivers no frame; another program may be using it"):
        Camera(3, capture=capture)
    assert not capture.isOpened()


@pytest.mark.parametrize(("spec", "purpose"), [("clip.mp4", "a video"), ("0", "a camera")], ids=["video", "camera"])
def test_without_opencv_the_error_names_the_extra(
    spec: str, purpose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=rf"reading {purpose} needs OpenCV .*pip install 'tnn-edge\[camera\]'"):
        open_source(spec)
