"""Training images: each process its part of the same batches, from memory or from an ImageNet-format folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tests.workshop.conftest import colours
from tnn_edge.errors import DatasetError
from tnn_edge.nn.dataset import normalised
from tnn_edge.nn.image_tree import ImageTree, read_image_tree
from train.image_data import FolderImages, InMemoryImages, TrainingImages
from train.processes import ALONE, Processes
from train.recipe import DataSettings

RESIZE, SIZE = 20, 16
MEAN, STD = (0.4, 0.5, 0.6), (0.25, 0.2, 0.3)
LABELS = ("n01440764", "n02102040")
SHAPES = ((30, 24), (24, 31), (20, 20), (17, 50), (64, 40))
LIGHT = {"lux": [1.0, 50.0], "share": 0.5}

pytestmark = pytest.mark.filterwarnings(  # from Python 3.12 on, of workers that fork
    r"ignore:This process \(pid=\d+\) is multi-threaded:DeprecationWarning"
)


def photo(seed: int, height: int, width: int) -> PIL.Image.Image:
    """Smooth in one direction, noise over it: every filter, crop and mirror that differs gives another picture."""
    noise = np.random.default_rng(seed).integers(0, 128, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise + np.linspace(0, 127, width, dtype=np.uint8).reshape(1, width, 1))


def write_split(folder: Path, n: int, seed: int) -> None:
    for c, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            image = photo(seed + c * n + i, *SHAPES[i % len(SHAPES)])
            image.save(folder / label / f"{label}_{i:03d}.JPEG", quality=95)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with 15 training and 5 validation images each. Read only."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_split(folder / "train", 15, seed=0)
    write_split(folder / "val", 5, seed=1000)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder to damage: two classes with two training images and one validation image each."""
    write_split(tmp_path / "own" / "train", 2, seed=0)
    write_split(tmp_path / "own" / "val", 1, seed=1000)
    return tmp_path / "own"


def tree(root: Path, split: Any = "train", workers: int = 0) -> ImageTree:
    return read_image_tree(root, split, short_side=RESIZE, image_size=SIZE, workers=workers)


def settings(**more: Any) -> DataSettings:
    return DataSettings.model_validate({"image_size": SIZE, "mean": MEAN, "std": STD, "held_out": 0, **more})


def folder_images(root: Path, *, seed: int = 7, workers: int = 0, **more: Any) -> FolderImages:
    asked = settings(format="folder", short_side=RESIZE, crop_padding=0, **more)
    return FolderImages(tree(root, workers=workers), asked, seed=seed)


def epoch_of(
    images: TrainingImages, epoch: int = 0, *, batch_size: int = 8, seed: int = 0, processes: Processes = ALONE
) -> list[tuple[Tensor, Tensor]]:
    return list(images.batches(epoch, batch_size, torch.Generator().manual_seed(seed), processes))


def some_of(count: int) -> list[Processes]:
    return [Processes(rank, count, torch.device("cpu")) for rank in range(count)]


def assert_same(made: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    for (x, targets), (expected_x, expected_targets) in zip(made, expected, strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(targets, expected_targets)


# --- what both promise

SOURCES: dict[str, Callable[[Path], TrainingImages]] = {
    "memory": lambda _: InMemoryImages(colours(30), settings(crop_padding=2)),
    "memory by light": lambda _: InMemoryImages(colours(30), settings(crop_padding=2, light=LIGHT)),
    "folder": folder_images,
    "folder by light": lambda root: folder_images(root, light=LIGHT),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, root: Path) -> TrainingImages:
    """Each source of 30 images in turn."""
    return SOURCES[request.param](root)


@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_the_processes_are_the_batch_of_one(source: TrainingImages, count: int) -> None:
    parts = [epoch_of(source, processes=one) for one in some_of(count)]
    assert {len(x) for part in parts for x, _ in part} == {8 // count}
    joined = [
        (torch.cat([x for x, _ in step]), torch.cat([targets for _, targets in step]))
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, epoch_of(source))


def test_processes_leave_the_generator_in_the_same_state(source: TrainingImages) -> None:
    states = []
    for one in some_of(4):
        generator = torch.Generator().manual_seed(0)
        list(source.batches(0, 8, generator, one))
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_batch_that_is_not_full_is_dropped(source: TrainingImages) -> None:
    made = epoch_of(source, batch_size=8)
    assert [x.shape for x, _ in made] == [(8, 3, SIZE, SIZE)] * (30 // 8)
    assert [targets.shape for _, targets in made] == [(8,)] * (30 // 8)


def test_images_are_float32_and_lie_channels_last(source: TrainingImages) -> None:
    for x, targets in epoch_of(source):
        assert (x.dtype, targets.dtype, x.device.type) == (torch.float32, torch.int64, "cpu")
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_epoch_repeats_with_its_generator_and_another_differs(source: TrainingImages) -> None:
    made = epoch_of(source, seed=3)
    assert_same(made, epoch_of(source, seed=3))
    assert not torch.equal(made[0][0], epoch_of(source, seed=4)[0][0])


def test_global_source_of_random_numbers_is_left_alone(source: TrainingImages) -> None:
    before = torch.get_rng_state()
    epoch_of(source)
    assert torch.equal(torch.get_rng_state(), before)


# --- a folder, in training


def resized(root: Path, name: str) -> npt.NDArray[np.uint8]:
    """The image as torchvision resizes it, shape [H, W, 3]."""
    with PIL.Image.open(root / name) as opened:
        return np.asarray(v2.Resize(RESIZE)(opened.convert("RGB")))


def place_of(view: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8]) -> tuple[int, int, bool] | None:
    """Where a square was cut from an image, and whether it was mirrored."""
    height, width = image.shape[:2]
    for top in range(height - SIZE + 1):
        for left in range(width - SIZE + 1):
            cut = image[top : top + SIZE, left : left + SIZE]
            for flipped, candidate in ((False, cut), (True, cut[:, ::-1])):
                if np.array_equal(candidate, view):
                    return top, left, flipped
    return None


def pixels(x: Tensor) -> npt.NDArray[np.uint8]:
    """Normalised images as uint8, shape [B, H, W, 3]."""
    scale, offset = (torch.tensor(values).view(1, 3, 1, 1) for values in (STD, MEAN))
    return ((x * scale + offset) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def views(root: Path, images: FolderImages, epoch: int, order_seed: int = 0) -> dict[str, npt.NDArray[np.uint8]]:
    """What an epoch shows of each image, by the image's name."""
    names, order = tree(root), torch.randperm(len(images), generator=torch.Generator().manual_seed(order_seed))
    shown = [image for x, _ in epoch_of(images, epoch, batch_size=5, seed=order_seed) for image in pixels(x)]
    return {names.name(int(i)): image for i, image in zip(order, shown, strict=True)}


def test_views_are_squares_of_the_resized_image_or_their_mirror(root: Path) -> None:
    places = set()
    for epoch in range(3):
        for name, view in views(root, folder_images(root), epoch).items():
            place = place_of(view, resized(root, name))
            assert place is not None, name
            places.add(place)
    assert len({top for top, _, _ in places}) > 4
    assert len({left for _, left, _ in places}) > 4


def test_half_of_the_views_are_mirrored_and_none_where_flip_is_off(root: Path) -> None:
    def flipped(images: FolderImages) -> list[bool]:
        shown = [item for epoch in range(4) for item in views(root, images, epoch).items()]
        places = [place_of(view, resized(root, name)) for name, view in shown]
        return [place[2] for place in places if place is not None]

    share = np.mean(flipped(folder_images(root)))
    assert abs(share - 0.5) < 4 * (0.25 / 120) ** 0.5
    assert not any(flipped(folder_images(root, flip=False)))


def test_targets_go_with_their_images(root: Path) -> None:
    names, order = tree(root), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    targets = torch.cat([targets for _, targets in epoch_of(folder_images(root), batch_size=5)])
    assert [LABELS[t] for t in targets] == [names.name(int(i)).split("/")[1] for i in order]


def test_view_depends_on_seed_epoch_and_image_alone(root: Path) -> None:
    images = folder_images(root)
    first, in_another_order = views(root, images, 0), views(root, images, 0, order_seed=99)
    assert list(first) != list(in_another_order)
    assert all(np.array_equal(view, in_another_order[name]) for name, view in first.items())
    for other in (views(root, images, 1), views(root, folder_images(root, seed=8), 0)):
        assert sum(not np.array_equal(view, other[name]) for name, view in first.items()) > 20


def test_negative_seed_is_a_seed(root: Path) -> None:
    assert len(epoch_of(folder_images(root, seed=-1))) == 3


def test_workers_read_what_one_process_reads(root: Path) -> None:
    assert_same(epoch_of(folder_images(root, workers=2)), epoch_of(folder_images(root)))


def test_share_of_the_views_is_seen_by_the_sensor(root: Path) -> None:
    plain, by_light = (views(root, folder_images(root, light=light), 0) for light in (None, LIGHT))
    differing = sum(not np.array_equal(view, by_light[name]) for name, view in plain.items())
    assert abs(differing / 30 - 0.5) < 4 * (0.25 / 30) ** 0.5


# --- a folder, in evaluation


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (256, 256), (80, 90), (257, 1000), (256, 259), (259, 256)])
def test_evaluation_sees_the_centre_that_torchvision_cuts(tmp_path: Path, shape: tuple[int, int]) -> None:
    (tmp_path / "val" / "a").mkdir(parents=True)
    photo(1, *shape).save(tmp_path / "val" / "a" / "0.png")
    data = read_image_tree(tmp_path, "test", short_side=256, image_size=224)
    expected = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])(photo(1, *shape))
    assert torch.equal(torch.from_numpy(data.centre(0).copy()), expected)


def test_evaluation_goes_over_every_image_once_in_order(root: Path) -> None:
    data = tree(root, "test")
    made = list(data.batches(4, mean=MEAN, std=STD))
    assert [len(x) for x, _ in made] == [4, 4, 2]
    assert torch.cat([targets for _, targets in made]).tolist() == [0] * 5 + [1] * 5
    centres = torch.from_numpy(np.stack([data.centre(i) for i in range(10)]))
    assert torch.equal(torch.cat([x for x, _ in made]), normalised(centres, MEAN, STD))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in made)
    assert_same(list(tree(root, "test", workers=2).batches(4, mean=MEAN, std=STD)), made)


def test_images_in_memory_are_the_centres(root: Path) -> None:
    data = tree(root, "test")
    loaded = data.load()
    assert loaded.images.dtype == torch.uint8
    assert np.array_equal(loaded.images.numpy(), np.stack([data.centre(i) for i in range(10)]))
    assert loaded.names == tuple(f"val/{label}/{label}_{i:03d}.JPEG" for label in LABELS for i in range(5))
    assert (loaded.labels, loaded.targets.tolist()) == (LABELS, data.targets.tolist())
    assert_same(list(loaded.batches(4, mean=MEAN, std=STD)), list(data.batches(4, mean=MEAN, std=STD)))


def test_same_images_are_held_out_from_disk_and_from_memory(root: Path) -> None:
    data = tree(root)
    from_disk, from_memory = data.hold_out(9), data.load().hold_out(9)
    for files, images in zip(from_disk, from_memory, strict=True):
        assert files.load().names == images.names
        assert torch.equal(files.load().images, images.images)
        assert torch.equal(files.targets, images.targets)
    assert [len(part) for part in from_disk] == [21, 9]
    with pytest.raises(DatasetError, match="cannot hold out 30 of 30 images"):
        data.hold_out(30)


def test_test_folder_serves_where_there_is_no_val(own: Path) -> None:
    (own / "val").rename(own / "test")
    assert tree(own, "test").name(0).startswith("test/")


def test_test_images_without_classes_do_not_stand_for_val(own: Path) -> None:
    """As ImageNet has them, whose test labels are secret."""
    (own / "test").mkdir()
    photo(0, 30, 30).save(own / "test" / "ILSVRC2012_test_00000001.JPEG")
    assert len(tree(own)) == 4
    assert tree(own, "test").name(0).startswith("val/")


def test_training_split_alone_is_enough(own: Path) -> None:
    (own / "val").rename(own / "elsewhere")
    assert tree(own).labels == LABELS


def test_files_of_other_kinds_and_hidden_folders_are_left_out(own: Path) -> None:
    (own / "train" / "synset_words.txt").write_text("n01440764 tench")
    (own / "train" / LABELS[0] / "notes.txt").write_text("no image")
    (own / "train" / ".cache").mkdir()
    assert len(tree(own)) == 4


def test_names_of_any_letters_are_kept(own: Path) -> None:
    photo(0, 30, 30).save(own / "train" / LABELS[0] / "Zürich.jpg")
    names = [tree(own).name(i) for i in range(5)]
    assert f"train/{LABELS[0]}/Zürich.jpg" in names
    assert tree(own).load().names == tuple(names)


# --- folders that do not hold


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data folder .*/none does not exist; expected train/<class>/\*\.JPEG"):
        tree(tmp_path / "none")


@pytest.mark.parametrize("kind", ["no split", "no classes"])
def test_split_without_class_folders_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "no classes":
        (tmp_path / "train").mkdir()
        photo(0, 30, 30).save(tmp_path / "train" / "0.JPEG")
    with pytest.raises(DatasetError, match=rf"{tmp_path}/train holds no class folders; expected train/<class>/"):
        tree(tmp_path)


def test_empty_class_folder_is_named(own: Path) -> None:
    for split in ("train", "val"):
        (own / split / "n00000000").mkdir()
    with pytest.raises(
        DatasetError, match=r"class folder .*/train/n00000000 holds no image; fill it, or remove it from every split"
    ):
        tree(own)


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_that_differ_between_the_splits_are_named(own: Path, split: str) -> None:
    (own / "val" / LABELS[1]).rename(own / "val" / "n09999999")
    with pytest.raises(DatasetError) as caught:
        tree(own, split)
    first, second = ("train", "val") if split == "train" else ("val", "train")
    only = {"train": "n02102040", "val": "n09999999"}
    faults = "; ".join(f"only in {name}: {only[name]}" for name in (first, second))
    assert str(caught.value) == f"the classes of {first}/ and {second}/ differ; {faults}"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["text", "half", "gone"])
def test_image_that_cannot_be_read_is_named_when_it_is_read(own: Path, damage: str, workers: int) -> None:
    bad = own / "train" / LABELS[1] / f"{LABELS[1]}_001.JPEG"
    images, data = folder_images(own, workers=workers), tree(own, workers=workers)
    whole = bad.read_bytes()
    bad.unlink() if damage == "gone" else bad.write_bytes(b"text" if damage == "text" else whole[: len(whole) // 2])
    name = f"train/{LABELS[1]}/{LABELS[1]}_001.JPEG"
    with pytest.raises(DatasetError) as caught:
        epoch_of(images, batch_size=4)
    expected = (
        f"{own}: cannot read {name} (No such file or directory)"
        if damage == "gone"
        else f"{own}: {name} does not decode as an image ("
    )
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)  # nothing of a worker's traceback
    with pytest.raises(DatasetError, match=r"_001\.JPEG"):
        data.load()


def test_crop_larger_than_the_resized_image_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="short_side must be at least image_size 224, got 200"):
        read_image_tree(root, "train", short_side=200, image_size=224)


def test_data_with_other_classes_than_the_networks_is_refused(root: Path) -> None:
    tree(root).check_labels(LABELS)
    with pytest.raises(DatasetError, match=r"the data's classes are n01440764, n02102040, the network's cat, dog"):
        tree(root).check_labels(["cat", "dog"])


def test_batch_that_does_not_divide_is_refused(source: TrainingImages) -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be divided among 3 processes; choose a multiple"):
        epoch_of(source, batch_size=8, processes=some_of(3)[0])
