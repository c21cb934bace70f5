"""Reading labelled images from each of the places they may lie in."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from tests.workshop.conftest import colours
from tnn_edge.errors import DatasetError
from tnn_edge.nn.dataset import ImageSet, load_images, normalised

Pixels = npt.NDArray[np.uint8]
LABELS = ("cat", "dog")


def pixels(seed: int, size: int = 8) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")  # without loss, so pixels can be compared
    return file.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of three training images and one test image; seeds count up in the order of the names."""
    seed = 0
    for split, n in (("train", 3), ("test", 1)):
        for label in LABELS:
            (tmp_path / "tree" / split / label).mkdir(parents=True)
            for i in range(n):
                (tmp_path / "tree" / split / label / f"{i}.png").write_bytes(png(pixels(seed)))
                seed += 1
    return tmp_path / "tree"


def zipped(tree: Path, path: Path, compression: int = zipfile.ZIP_DEFLATED, within: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(tree.rglob("*.png")):
            archive.write(file, within / file.relative_to(tree))
    return path.parent


def assert_is_the_training_split(data: ImageSet) -> None:
    expected = np.stack([pixels(seed).transpose(2, 0, 1) for seed in range(6)])
    assert data.images.dtype == torch.uint8
    assert np.array_equal(data.images.numpy(), expected)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.labels == LABELS
    assert data.names == tuple(f"train/{label}/{i}.png" for label in LABELS for i in range(3))


def test_tree_is_read_in_the_order_of_its_names(tree: Path) -> None:
    assert_is_the_training_split(load_images(tree, "train", image_size=8))


def test_each_split_is_read_alone(tree: Path) -> None:
    data = load_images(tree, "test", image_size=8)
    assert data.names == ("test/cat/0.png", "test/dog/0.png")
    assert np.array_equal(data.images[0].numpy(), pixels(6).transpose(2, 0, 1))


def test_zip_of_a_tree_is_read_like_the_tree(tree: Path, tmp_path: Path) -> None:
    assert_is_the_training_split(load_images(zipped(tree, tmp_path / "zips" / "all.zip"), "train", image_size=8))


def test_tree_over_several_zips_is_one_set(tree: Path, tmp_path: Path) -> None:
    for label in LABELS:
        zipped(tree / "train" / label, tmp_path / "zips" / f"{label}.zip", within=f"train/{label}")
    assert_is_the_training_split(load_images(tmp_path / "zips", "train", image_size=8))


def test_image_that_is_in_two_zips_is_refused(tree: Path, tmp_path: Path) -> None:
    zipped(tree, tmp_path / "zips" / "a.zip")
    folder = zipped(tree / "train" / "dog", tmp_path / "zips" / "b.zip", within="train/dog")
    with pytest.raises(DatasetError, match=r"^train/dog/0\.png is in .*/a\.zip and in .*/b\.zip; remove one of them$"):
        load_images(folder, "train", image_size=8)
    assert len(load_images(folder, "test", image_size=8)) == 2


def test_files_that_are_no_images_of_a_class_are_left_out(tree: Path) -> None:
    (tree / "train" / "notes.png").write_bytes(b"not in a class")
    (tree / "train" / "cat" / "notes.txt").write_text("no image")
    (tree / "train" / "cat" / "deeper").mkdir()
    (tree / "train" / "cat" / "deeper" / "0.png").write_bytes(b"too deep")
    assert_is_the_training_split(load_images(tree, "train", image_size=8))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX"])
@pytest.mark.parametrize("is_zip", [False, True], ids=["tree", "zip"])
def test_hidden_folder_is_no_class(tree: Path, tmp_path: Path, hidden: str, is_zip: bool) -> None:
    (tree / "train" / hidden).mkdir()
    (tree / "train" / hidden / "0.png").write_bytes(png(pixels(60)))
    folder = zipped(tree, tmp_path / "zips" / "all.zip") if is_zip else tree
    assert_is_the_training_split(load_images(folder, "train", image_size=8))


def test_images_of_another_size_are_resized(tree: Path) -> None:
    flat = np.full((20, 12, 3), (10, 200, 90), dtype=np.uint8)
    (tree / "train" / "cat" / "0.png").write_bytes(png(flat))
    data = load_images(tree, "train", image_size=8)
    assert data.images.shape == (6, 3, 8, 8)
    assert data.images[0].flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 90]


def test_grey_images_get_three_equal_channels(tree: Path) -> None:
    grey = pixels(50)[:, :, 0]
    Image.fromarray(grey).save(tree / "train" / "cat" / "0.png")
    first = load_images(tree, "train", image_size=8).images[0].numpy()
    assert np.array_equal(first, np.stack([grey] * 3))


@pytest.mark.parametrize("wanted", ["missing", "empty", "split", "zip"])
def test_folder_without_the_tree_says_what_was_expected(tree: Path, tmp_path: Path, wanted: str) -> None:
    root = tmp_path / wanted
    if wanted != "missing":
        root.mkdir()
    if wanted == "split":
        (tree / "test").rename(root / "test")
    if wanted == "zip":
        zipped(tree / "train", root / "a.zip")  # one level too low
    message = (
        rf"{root}.* does not exist; expected" if wanted == "missing" else rf"no train images below {root}; expected"
    )
    with pytest.raises(DatasetError, match=message + r" a torchvision CIFAR-10 root .* train/<class>/\*\.jpg"):
        load_images(root, "train", image_size=8)


def test_empty_class_folder_is_named(tree: Path) -> None:
    (tree / "train" / "cow").mkdir()
    (tree / "train" / ".cache").mkdir()
    (tree / "train" / "cow" / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match=r"class folder .*/train/cow holds no image; fill it, or remove it from"):
        load_images(tree, "train", image_size=8)
    assert len(load_images(tree, "test", image_size=8)) == 2


@pytest.mark.parametrize("damage", ["no zip", "truncated"])
def test_damaged_zip_is_named(tree: Path, tmp_path: Path, damage: str) -> None:
    folder = zipped(tree, tmp_path / "zips" / "data.zip")
    whole = (folder / "data.zip").read_bytes()
    (folder / "data.zip").write_bytes(b"no zip at all" if damage == "no zip" else whole[: len(whole) // 2])
    with pytest.raises(
        DatasetError, match=r"data\.zip: not a readable zip \(File is not a zip file\); make it anew, or unpack"
    ):
        load_images(folder, "train", image_size=8)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_damage_inside_a_zip_is_named(tree: Path, tmp_path: Path, compression: int) -> None:
    folder = zipped(tree, tmp_path / "zips" / "data.zip", compression)
    with zipfile.ZipFile(folder / "data.zip") as archive:
        member = archive.getinfo("train/dog/1.png")
    whole = bytearray((folder / "data.zip").read_bytes())
    start = member.header_offset + 30 + len(member.filename)  # a local header has 30 bytes and the name
    whole[start : start + 20] = b"\xff" * 20
    (folder / "data.zip").write_bytes(whole)
    with pytest.raises(DatasetError, match=r"data\.zip: train/dog/1\.png is damaged \(.*\); make the zip anew"):
        load_images(folder, "train", image_size=8)


def rewritten(path: Path, field: int, value: int) -> None:
    """A zip whose every member has two bytes of its header changed, here and in the directory at the end."""
    whole = bytearray(path.read_bytes())
    for signature, start in ((b"PK\x03\x04", field), (b"PK\x01\x02", field + 2)):  # the directory has a field more
        at = whole.find(signature)
        while at >= 0:
            whole[at + start : at + start + 2] = value.to_bytes(2, "little")
            at = whole.find(signature, at + 1)
    path.write_bytes(whole)


VERSION_NEEDED, FLAGS, COMPRESSION = 4, 6, 8  # bytes from the start of a local header


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (FLAGS, 1, r"train/cat/0\.png cannot be unpacked \(.* is encrypted, .*\); zip it anew, deflated and without a"),
        (COMPRESSION, 97, r"train/cat/0\.png cannot be unpacked \(That compression method is not supported\); zip it"),
        (COMPRESSION, zipfile.ZIP_LZMA, r"train/cat/0\.png is damaged \(.*\); make the zip anew"),
        (VERSION_NEEDED, 90, r"not a readable zip \(zip file version 9\.0\); make it anew, or unpack it beside"),
    ],
)
def test_zip_that_cannot_be_unpacked_here_is_named(
    tree: Path, tmp_path: Path, field: int, value: int, message: str
) -> None:
    folder = zipped(tree, tmp_path / "zips" / "data.zip", zipfile.ZIP_STORED)
    rewritten(folder / "data.zip", field, value)
    with pytest.raises(DatasetError, match=r"data\.zip: " + message):
        load_images(folder, "train", image_size=8)


def test_file_that_cannot_be_read_is_named(tree: Path) -> None:
    (tree / "train" / "dog" / "1.png").unlink()
    (tree / "train" / "dog" / "1.png").symlink_to("/proc/self/mem")  # a file that root cannot read either
    message = r"tree: cannot read train/dog/1\.png \(Input/output error\); make it readable or remove it"
    with pytest.raises(DatasetError, match=message):
        load_images(tree, "train", image_size=8)


@pytest.mark.parametrize("kind", ["text", "PNG", "JPEG", "nothing"])
def test_image_that_does_not_decode_is_named(tree: Path, kind: str) -> None:
    file = io.BytesIO()
    if kind in ("PNG", "JPEG"):
        Image.fromarray(pixels(0, size=64)).save(file, kind)
    content = {"text": b"no picture", "nothing": b""}.get(kind, file.getvalue()[: file.tell() // 2])
    (tree / "train" / "dog" / "1.png").write_bytes(content)
    with pytest.raises(
        DatasetError, match=r"tree: train/dog/1\.png does not decode as an image .*remove or replace it"
    ):
        load_images(tree, "train", image_size=8)


def test_file_that_would_start_ghostscript_is_no_image(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eps = io.BytesIO()
    Image.fromarray(pixels(0, size=64)).save(eps, "EPS")
    (tree / "train" / "dog" / "1.png").write_bytes(eps.getvalue())
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args: started.append(args))
    with pytest.raises(DatasetError, match=r"train/dog/1\.png does not decode as an image"):
        load_images(tree, "train", image_size=8)
    assert not started


# --- torchvision's CIFAR-10


def cifar_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """A CIFAR-10 root of four training images and two test images in the real layout, with hashes that fit it."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = [pixels(seed, size=32) for seed in range(6)]
    rows = np.stack([image.transpose(2, 0, 1).ravel() for image in images])  # planes of red, green, blue

    def write(name: str, content: dict[str, object]) -> list[str]:
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    train = [
        write(f"data_batch_{i + 1}", {"data": rows[2 * i : 2 * i + 2], "labels": [i, 1 - i], "filenames": ["a", "b"]})
        for i in range(2)
    ]
    test = write("test_batch", {"data": rows[4:], "labels": [1, 0], "filenames": ["a", "b"]})
    meta = write("batches.meta", {"label_names": list(LABELS)})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [test])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return images


def test_torchvision_root_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cifar_root(tmp_path, monkeypatch)
    data = load_images(tmp_path, "train", image_size=32)
    assert np.array_equal(data.images.numpy(), np.stack([image.transpose(2, 0, 1) for image in images[:4]]))
    assert (data.targets.tolist(), data.labels) == ([0, 1, 1, 0], LABELS)
    assert len(set(data.names)) == 4
    assert load_images(tmp_path, "test", image_size=32).targets.tolist() == [1, 0]


def test_torchvision_images_are_resized_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cifar_root(tmp_path / "root", monkeypatch)
    (tmp_path / "tree" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "tree" / "train" / "cat" / "0.png").write_bytes(png(images[0]))
    expected = load_images(tmp_path / "tree", "train", image_size=16).images[0]
    assert torch.equal(load_images(tmp_path / "root", "train", image_size=16).images[0], expected)


def test_torchvision_root_that_is_not_the_real_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({"data": b"edited"}))
    with pytest.raises(
        DatasetError, match=r"not a complete CIFAR-10 root \(Dataset not found or corrupted.*--download"
    ):
        load_images(tmp_path, "train", image_size=32)


# --- sets of images


def test_held_out_images_repeat_and_are_not_in_the_rest() -> None:
    data = colours(50)
    rest, held_out = data.hold_out(12)
    again_rest, again_held_out = data.hold_out(12)
    assert (rest.names, held_out.names) == (again_rest.names, again_held_out.names)
    assert not set(rest.names) & set(held_out.names)
    assert set(rest.names) | set(held_out.names) == set(data.names)
    assert (len(rest), len(held_out)) == (38, 12)
    assert data.hold_out(12, seed=1)[1].names != held_out.names


def test_held_out_images_keep_their_targets() -> None:
    data = colours(50)
    by_name = {name: (int(data.targets[i]), data.images[i]) for i, name in enumerate(data.names)}
    for part in data.hold_out(12):
        for i, name in enumerate(part.names):
            assert int(part.targets[i]) == by_name[name][0]
            assert torch.equal(part.images[i], by_name[name][1])


@pytest.mark.parametrize("n", [-1, 50])
def test_more_images_than_there_are_cannot_be_held_out(n: int) -> None:
    with pytest.raises(DatasetError, match=f"cannot hold out {n} of 50 images; hold out fewer, or name a folder"):
        colours(50).hold_out(n)


def test_normalisation_follows_the_formula() -> None:
    images, mean, std = colours(4).images, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (images.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(normalised(images, mean, std).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_batches_go_over_every_image_once_in_order() -> None:
    data, mean, std = colours(10), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    made = list(data.batches(4, mean=mean, std=std))
    assert [len(x) for x, _ in made] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in made]), normalised(data.images, mean, std))
    assert torch.equal(torch.cat([targets for _, targets in made]), data.targets)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in made)


def test_the_real_data_is_read() -> None:
    named = os.environ.get("TNN_EDGE_DATA")
    if not named:
        pytest.skip("TNN_EDGE_DATA does not name a data folder")
    if not Path(named).is_dir():
        pytest.skip(f"TNN_EDGE_DATA names {named}, which does not exist")
    data = load_images(Path(named), "test", image_size=32)
    assert data.images.shape == (len(data), 3, 32, 32)
    assert sorted(data.targets.unique().tolist()) == list(range(len(data.labels)))
    assert list(data.labels) == sorted(data.labels)
    assert data.images.float().std() > 10  # not blank


def test_data_with_other_classes_than_the_networks_is_refused() -> None:
    data = ImageSet(
        images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        targets=torch.tensor([0, 1]),
        labels=("a", "b"),
        names=("0", "1"),
    )
    data.check_labels(["a", "b"])
    with pytest.raises(DatasetError, match=r"the data's classes are a, b, the network's b, a"):
        data.check_labels(["b", "a"])
