"""Training: it learns, repeats with its seed, resumes exactly, and leaves a folder that is safe to read."""

from __future__ import annotations

import dataclasses
import json
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.workshop.conftest import LABELS, Exported, colours, small_recipe
from tests.workshop.test_recipe import RECIPES
from tnn_edge.errors import DatasetError, InputError, RunError
from tnn_edge.nn.checkpoint import (
    load_network,
    operating_points,
    point_at,
    read_checkpoint,
    read_run,
    read_statistics_table,
    use_point,
)
from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.norm import read_statistics
from train.augmentation import augmented
from train.classifier import train
from train.curve import DIAL, draw_curves, throttle_curve
from train.image_data import InMemoryImages
from train.processes import ALONE
from train.reading import read_images
from train.recipe import DataSettings, Recipe, read_recipe
from train.start import random_network
from train.untrained import write_untrained

CHANCE = 1 / 4
DATA = {"image_size": 16, "mean": (0.4, 0.4, 0.4), "std": (0.25, 0.25, 0.25)}


# --- learning


@pytest.mark.parametrize(("draw", "statistics"), [("none", "shared"), ("uniform", "shared"), ("sandwich", "per_point")])
@pytest.mark.parametrize("architecture", ["resnext_w", "resnet_d"])
def test_training_learns_a_task_that_can_be_learned(
    tmp_path: Path, architecture: str, draw: str, statistics: str
) -> None:
    recipe = small_recipe(architecture, draw=draw, statistics=statistics)
    train(recipe, colours(256), tmp_path / "run")
    unseen = colours(100, seed=77)
    network = load_network(tmp_path / "run")
    table = read_statistics_table(tmp_path / "run", network)
    points = network.schedule.operating_points()
    asked = range(len(points)) if draw != "none" else [len(points) - 1]  # trained without gating, only u = 1 counts
    for index in asked:
        use_point(network, table, index)
        judged = evaluate(network, points[index][1], unseen, mean=recipe.data.mean, std=recipe.data.std)
        assert judged.accuracy >= 0.9 > 2 * CHANCE
        assert CHANCE <= judged.confidence <= 1.0


def test_training_in_bfloat16_learns_and_keeps_float32_weights(tmp_path: Path) -> None:
    recipe = small_recipe("resnet_d", draw="none", statistics="shared", precision="bf16")
    train(recipe, colours(256), tmp_path / "run")
    network = load_network(tmp_path / "run")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    full = network.schedule.vector(1.0)
    judged = evaluate(network, full, colours(100, seed=77), mean=recipe.data.mean, std=recipe.data.std)
    assert judged.accuracy >= 0.9


def test_evaluation_counts_right_answers_and_confidence(resnet_d: Exported) -> None:
    network, data, recipe = load_network(resnet_d.run), colours(30, seed=5), resnet_d.recipe
    gates = network.schedule.vector(0.3)
    with torch.no_grad():
        x = normalised(data.images, recipe.data.mean, recipe.data.std)
        rows = [network(x[i : i + 1], as_masks(gates, 1)).softmax(dim=1) for i in range(len(data))]
    network.train()
    judged = evaluate(network, gates, data, mean=recipe.data.mean, std=recipe.data.std)
    assert judged.accuracy == sum(int(row.argmax()) == t for row, t in zip(rows, data.targets, strict=True)) / 30
    assert judged.confidence == pytest.approx(sum(float(row.max()) for row in rows) / 30, rel=1e-5)
    assert network.training  # left as it was


# --- seeds and resuming


def stored(run: Path) -> dict[str, Tensor]:
    """Every tensor of a run."""
    weights, extra, _ = read_checkpoint(run)
    table = read_statistics_table(run, load_network(run)) or []
    statistics = {f"{i}.{k}.{j}": v[j] for i, row in enumerate(table) for k, v in row.items() for j in (0, 1)}
    return {**weights, **extra, **statistics}


def assert_identical(run: Path, other: Path) -> None:
    tensors, expected = stored(run), stored(other)
    assert tensors.keys() == expected.keys()
    assert any(name.startswith("optimiser.") for name in tensors)
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


@pytest.mark.parametrize("draw", ["none", "per_example", "sandwich"])
def test_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path, draw: str) -> None:
    recipe = small_recipe("resnet_d", draw=draw, epochs=1)
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        train(recipe.model_copy(update={"seed": seed}), colours(128), tmp_path / name)
    assert_identical(tmp_path / "first", tmp_path / "second")
    weight = "blocks.stage1_block1.conv1.weight"
    assert not torch.equal(stored(tmp_path / "first")[weight], stored(tmp_path / "other")[weight])


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C before a step, counted over all epochs from 0."""
    seen, batches = iter(range(10**6)), InMemoryImages.batches

    def interrupted(*args: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(*args):
            if next(seen) == step:
                raise KeyboardInterrupt("Ctrl-C")
            yield batch

    monkeypatch.setattr(InMemoryImages, "batches", interrupted)


ADAM = {"kind": "adam", "weight_decay": 1e-4}
MIXTURE = {"kind": "mixture", "share_at_one": 0.2, "rest": {"kind": "beta", "a": 0.5, "b": 1.0}}


@pytest.mark.parametrize(
    ("finished_epochs", "recipe"),
    [
        (0, small_recipe("resnext_w")),
        pytest.param(1, small_recipe("resnext_w"), marks=pytest.mark.slow),
        (1, small_recipe("resnet_d", optimiser=ADAM, learning_rate={"kind": "constant", "rate": 1e-3})),
        pytest.param(
            1,
            small_recipe("resnext_w", draw={"kind": "per_example", "u": MIXTURE}, statistics="shared"),
            marks=pytest.mark.slow,
        ),
        (2, small_recipe("resnet_d", draw={"kind": "sandwich", "u": {"kind": "annealed", "fall_per_epoch": 0.5}})),
    ],
    ids=["in the first epoch", "sgd", "adam", "mixture", "annealed"],
)
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, finished_epochs: int
) -> None:
    data = colours(160)  # 128 without the held-out: 4 steps an epoch
    train(recipe, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4 * finished_epochs + 2)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train(recipe, data, tmp_path / "resumed")
    assert (tmp_path / "resumed" / "checkpoint.safetensors").exists() == (finished_epochs > 0)
    assert not (tmp_path / "resumed" / "statistics.safetensors").exists()
    train(recipe, data, tmp_path / "resumed", resume=True)
    assert_identical(tmp_path / "resumed", tmp_path / "whole")
    assert read_run(tmp_path / "resumed").training["epochs"] == recipe.training.epochs


def test_dropout_draws_the_same_after_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = small_recipe("resnet_d", draw="none", statistics="shared", epochs=2).model_dump()
    fields["network"] = {
        "architecture": "efficientnet_lite",
        "sizes": {
            "channels": [8], "blocks": [1], "kernels": [3], "strides": [2], "stem_channels": [6, 4],
            "head_channels": 16, "expansion": 2, "n_components": 2, "dropout": 0.5, "n_classes": 4,
        },
    }  # fmt: skip
    recipe, data = Recipe.model_validate(fields), colours(160)
    train(recipe, data, tmp_path / "whole")
    torch.manual_seed(99)  # another program's state
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train(recipe, data, tmp_path / "resumed")
    torch.manual_seed(98)
    train(recipe, data, tmp_path / "resumed", resume=True)
    assert_identical(tmp_path / "resumed", tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    recipe, data = small_recipe("resnet_d", epochs=1), colours(96)
    train(recipe, data, tmp_path / "run")
    before = stored(tmp_path / "run")
    train(recipe, data, tmp_path / "run", resume=True)
    after = stored(tmp_path / "run")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_statistics_of_an_untrained_run_do_not_outlive_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data, run = small_recipe("resnet_d"), colours(160), tmp_path / "run"
    write_untrained(recipe, run, data)
    assert read_statistics_table(run, load_network(run)) is not None
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4 + 2)  # in the second epoch
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train(recipe, data, run, resume=True)
    with pytest.raises(RunError, match=r"statistics\.safetensors is missing; finish the training \(--resume\)"):
        read_statistics_table(run, load_network(run))
    train(recipe, data, run, resume=True)
    assert read_statistics_table(run, load_network(run)) is not None


def test_resuming_where_there_is_no_run_starts_one(tmp_path: Path) -> None:
    train(small_recipe("resnet_d", epochs=1), colours(96), tmp_path / "run", resume=True)
    assert load_network(tmp_path / "run").schedule.sizes


def test_resuming_with_another_recipe_is_refused(resnet_d: Exported) -> None:
    fields = resnet_d.recipe.model_dump()
    fields["seed"] = 9
    fields["optimiser"]["momentum"] = 0.5
    changes = r"\(optimiser\.momentum was 0\.9, is 0\.5, seed was 3, is 9\)"
    message = rf"run was started with another recipe; resume it with that one or choose another --out {changes}"
    with pytest.raises(RunError, match=message):
        train(Recipe.model_validate(fields), colours(96), resnet_d.run, resume=True)


def test_run_is_not_overwritten(resnet_d: Exported) -> None:
    before = (resnet_d.run / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"run already holds a run; --resume goes on with it, another --out starts anew"):
        train(resnet_d.recipe, colours(96), resnet_d.run)
    with pytest.raises(RunError, match=r"run already holds a run; choose another --out"):
        write_untrained(resnet_d.recipe, resnet_d.run)
    assert (resnet_d.run / "run.json").read_bytes() == before


# --- a training that diverges


def spoil_at(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """One pixel that is no number, in one batch."""
    batches = InMemoryImages.batches

    def spoiled(images: InMemoryImages, number: int, *args: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for i, (x, targets) in enumerate(batches(images, number, *args)):
            if (number, i) == (epoch, step):
                x[3, 0, 5, 5] = math.nan
            yield x, targets

    monkeypatch.setattr(InMemoryImages, "batches", spoiled)


def test_training_stops_where_the_loss_is_no_number_and_goes_on_once_the_cause_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = small_recipe("resnet_d"), colours(160)  # 4 steps an epoch
    train(recipe, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        spoil_at(patch, epoch=1, step=2)
        where, kept = "the loss is nan in epoch 2, step 3 of 4", r".*run/checkpoint\.safetensors keeps epoch 1"
        with pytest.raises(RunError, match=rf"{where}; {kept}\. Try a lower learning rate, .* --resume goes on from"):
            train(recipe, data, tmp_path / "run")
    weights, _, progress = read_checkpoint(tmp_path / "run")
    assert progress["epochs"] == 1
    assert all(tensor.isfinite().all() for tensor in weights.values())
    train(recipe, data, tmp_path / "run", resume=True)
    assert_identical(tmp_path / "run", tmp_path / "whole")


def test_training_that_diverges_at_once_says_that_there_is_no_checkpoint(tmp_path: Path) -> None:
    recipe = small_recipe("resnet_d", learning_rate={"kind": "constant", "rate": 1e30}, clip_norm=None)
    with pytest.raises(
        RunError, match=r"the loss is (nan|inf) in epoch 1, step \d of 4; .*run holds no checkpoint yet\."
    ):
        train(recipe, colours(160), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    """The last step of an epoch spoils the weights, its loss was still sound."""
    recipe = small_recipe(
        "resnet_d",
        optimiser={"kind": "sgd", "weight_decay": 1e3},
        learning_rate={"kind": "constant", "rate": 1e37},
        clip_norm=None,
    )
    with pytest.raises(
        RunError, match=r"^stem\.conv\.weight is not finite after epoch 1; .*run holds no checkpoint yet"
    ):
        train(recipe, colours(64), tmp_path / "run")  # one step
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


# --- weights to start from


def starting_from(weights: Path, **changes: Any) -> Recipe:
    return small_recipe("resnet_d", **changes).with_weights(str(weights))


def assert_same_weights(run: Path, other: Path) -> None:
    network, expected = load_network(run), dict(load_network(other).named_parameters())
    assert all(torch.equal(parameter, expected[name]) for name, parameter in network.named_parameters())


def test_training_starts_from_the_weights_of_the_recipe(resnet_d: Exported, tmp_path: Path) -> None:
    checkpoint = resnet_d.run / "checkpoint.safetensors"
    standing = {"kind": "constant", "rate": 1e-30}
    recipe = starting_from(checkpoint, epochs=1, learning_rate=standing)
    train(recipe, colours(96), tmp_path / "run")
    assert_same_weights(tmp_path / "run", resnet_d.run)
    assert read_run(tmp_path / "run").training["weights"] == str(checkpoint)
    train(recipe, colours(96), tmp_path / "run", resume=True)  # finished: from its own checkpoint
    assert_same_weights(tmp_path / "run", resnet_d.run)
    with pytest.raises(
        RunError, match=r"another recipe; .*\(network\.weights was '.*checkpoint\.safetensors', is 'none'\)"
    ):
        train(recipe.with_weights("none"), colours(96), tmp_path / "run", resume=True)


def test_weights_of_other_classes_leave_the_classifier_at_random(
    resnet_d: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = starting_from(resnet_d.run / "checkpoint.safetensors", epochs=1).model_dump()
    fields["network"]["sizes"]["n_classes"] = 3
    data = colours(96)
    three = dataclasses.replace(data, targets=data.targets % 3, labels=data.labels[:3])
    train(Recipe.model_validate(fields), three, tmp_path / "run")
    told = " ".join(capsys.readouterr().err.split())
    assert "head.classifier.weight and head.classifier.bias start at random" in told


def test_untrained_run_has_the_weights_of_the_recipe_as_they_are(resnet_d: Exported, tmp_path: Path) -> None:
    checkpoint = resnet_d.run / "checkpoint.safetensors"
    assert write_untrained(starting_from(checkpoint), tmp_path / "run") == f"weights {checkpoint}"
    assert_same_weights(tmp_path / "run", resnet_d.run)
    training = read_run(tmp_path / "run").training
    assert training.items() >= {"weights": str(checkpoint), "data": f"none: weights {checkpoint}"}.items()
    statistics, expected = (read_statistics(load_network(run)) for run in (tmp_path / "run", resnet_d.run))
    assert all(torch.equal(statistics[name][0], mean) for name, (mean, _) in expected.items())


@pytest.mark.parametrize("start", [train, lambda recipe, data, run: write_untrained(recipe, run)])
def test_weights_of_another_network_are_refused(start: Any, resnext_w: Exported, tmp_path: Path) -> None:
    recipe = starting_from(resnext_w.run / "checkpoint.safetensors")
    with pytest.raises(RunError, match=r"checkpoint\.safetensors does not hold the weights of resnet_d with channels"):
        start(recipe, colours(96), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- operating points, images of a folder, the recipes of the paper


def test_recipe_decides_how_many_operating_points_have_statistics(tmp_path: Path) -> None:
    train(small_recipe("resnext_w", epochs=1, points=3), colours(96), tmp_path / "run")
    network = load_network(tmp_path / "run")
    table = read_statistics_table(tmp_path / "run", network)
    assert table is not None
    assert len(table) == len(network.schedule.operating_points(3, 3)) == 3 < len(network.schedule.operating_points())


def test_throttle_selects_the_last_point_that_opens_at_or_below_it() -> None:
    points = [(u, {"b": (1,)}) for u in (0.0, 0.25, 0.5)]
    assert [point_at(points, u) for u in (0.0, 0.2499, 0.25, 0.4999, 0.5, 1.0)] == [0, 0, 1, 1, 2, 2]


def write_tree(root: Path, data: ImageSet) -> Path:
    for name, image in zip(data.names, data.images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / name)
    return root


def test_training_learns_from_the_images_of_a_folder(tmp_path: Path) -> None:
    fields = small_recipe("resnet_d").model_dump()
    fields["data"] |= {"format": "folder", "short_side": 18, "crop_padding": 0}
    recipe = Recipe.model_validate(fields)
    data = read_images(write_tree(tmp_path / "tree", colours(256, size=20)), "train", recipe.data, workers=0)
    train(recipe, data, tmp_path / "run")
    network, unseen = load_network(tmp_path / "run"), colours(100, seed=77)
    table = read_statistics_table(tmp_path / "run", network)
    for index, (_, gates) in enumerate(network.schedule.operating_points()):
        use_point(network, table, index)
        judged = evaluate(network, gates, unseen, mean=recipe.data.mean, std=recipe.data.std)
        assert judged.accuracy >= 0.9


PAPER = [path for path in RECIPES if path.stem.startswith(("cifar10_paper", "imagenet"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_recipe_of_the_paper_trains_some_steps(tmp_path: Path, path: Path) -> None:
    fields = read_recipe(path).model_dump()
    fields["network"]["sizes"]["n_classes"] = len(LABELS)
    fields["network"]["weights"] = "none"
    fields["data"]["held_out"] = 2
    fields["training"] |= {"epochs": 2, "batch_size": 4}
    recipe = Recipe.model_validate(fields)
    data = read_images(write_tree(tmp_path / "tree", colours(10, size=260)), "train", recipe.data, workers=0)
    described = train(recipe, data, tmp_path / "run")
    weights, _, progress = read_checkpoint(tmp_path / "run")
    start = random_network(recipe).state_dict()
    assert progress["epochs"] == 2
    assert described.training["images"] == 8  # two steps an epoch
    moved = [name for name, tensor in weights.items() if not torch.equal(tensor, start[name])]
    assert {"head.classifier.weight", "head.classifier.bias"} <= set(moved)
    assert len(moved) > 0.8 * len(weights)


# --- data that does not fit


def test_data_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe("resnet_d").model_dump()
    recipe["network"]["sizes"]["n_classes"] = 5
    with pytest.raises(DatasetError, match="the recipe's network has 5 classes, the data 4"):
        train(Recipe.model_validate(recipe), colours(96), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="8 training images do not fill one batch of 32"):
        train(small_recipe("resnet_d"), colours(40), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_class_that_no_bundle_could_name_is_refused(tmp_path: Path) -> None:
    data = dataclasses.replace(colours(96), labels=("red", "gr\neen", "blue", "grey"))
    with pytest.raises(DatasetError, match=r"class name gr\\neen holds an unprintable character; rename its folder"):
        train(small_recipe("resnet_d"), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the folder of a run


def test_run_folder_holds_no_pickle(resnext_w: Exported) -> None:
    files = [path for path in resnext_w.run.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"run.json", "checkpoint.safetensors", "statistics.safetensors"}
    for path in files:
        assert path.suffix not in {".pt", ".pth", ".pkl", ".ckpt", ".npz", ".npy"}
        assert not zipfile.is_zipfile(path)  # as torch.save writes
        assert path.read_bytes()[:1] != b"\x80"  # PROTO, the first opcode since protocol 2
        with pytest.raises(ValueError):  # noqa: PT011 (any byte that is no opcode)
            list(pickletools.genops(path.read_bytes()))


def test_pickles_would_be_noticed(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights")
    assert zipfile.is_zipfile(tmp_path / "weights")


def copied(run: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("run.json", "checkpoint.safetensors", "statistics.safetensors"):
        (folder / name).write_bytes((run / name).read_bytes())
    return folder


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_truncated_checkpoint_is_named(resnet_d: Exported, tmp_path: Path, keep: float) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    for name, message in (("checkpoint", "damaged checkpoint"), ("statistics", "damaged")):
        whole = (run / f"{name}.safetensors").read_bytes()
        network = load_network(run)
        (run / f"{name}.safetensors").write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(RunError, match=rf"{name}\.safetensors: {message} \("):
            load_network(run) if name == "checkpoint" else read_statistics_table(run, network)
        (run / f"{name}.safetensors").write_bytes(whole)


def test_missing_parts_of_a_run_are_named(resnet_d: Exported, tmp_path: Path) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    network = load_network(run)
    (run / "statistics.safetensors").unlink()
    with pytest.raises(RunError, match=r"statistics\.safetensors is missing; finish the training .*--resume"):
        read_statistics_table(run, network)
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match=r"holds no checkpoint yet .*train\.classifier --resume makes one"):
        load_network(run)
    (run / "run.json").unlink()
    with pytest.raises(
        RunError, match=r"is not a training run: run\.json is missing; train one with train\.classifier"
    ):
        load_network(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2}', r"run\.json: format 2, this version reads format 1"),
        ('{"format": 1, "colour": 1}', r"run\.json: cannot be read \(.*unexpected keyword argument 'colour'"),
        ('{"format": 1, "na', r"run\.json: cannot be read \("),
        ("{}", r"run\.json: cannot be read \('format'\)"),
        ("[]", r"run\.json: cannot be read \("),
        ("\xff", r"run\.json: cannot be read \(.*codec can't decode"),
    ],
)
def test_description_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=message):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("image_size", "32", "a valid integer"),
        ("labels", 5, ""),
        ("mean", [0.5], "at least 3 items.*"),
        ("std", None, ""),
    ],
)
def test_description_that_was_edited_is_named(
    resnet_d: Exported, tmp_path: Path, key: str, value: Any, fault: str
) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    fields = json.loads((run / "run.json").read_text()) | {key: value}
    (run / "run.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match=rf"run\.json: damaged: {key}.*{fault}; train the run again"):
        read_run(run)


@pytest.mark.parametrize(("points", "fault"), [(1, "division by zero"), ("3", "'str'")])
def test_number_of_points_that_was_edited_is_named(resnet_d: Exported, tmp_path: Path, points: Any, fault: str) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    fields = json.loads((run / "run.json").read_text())
    fields["recipe"]["throttle"]["points"] = points
    (run / "run.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match=rf"run\.json .* damaged seed or throttle\.points: .*{fault}"):
        operating_points(read_run(run), load_network(run))


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    """A safetensors file with other tensors or metadata."""
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (no mapping)
    change(tensors, metadata)
    save_file(tensors, str(path), metadata=metadata)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda tensors, _: tensors.pop("generator"), "KeyError"),
        (lambda tensors, _: tensors.update(generator=torch.zeros(3)), "ByteTensor"),
        (lambda tensors, _: tensors.update({"optimiser.momentum_buffer.lost": torch.zeros(3)}), "KeyError.'lost'"),
        (lambda _, metadata: metadata.update(progress="{}"), "KeyError.'epochs'"),
        (lambda _, metadata: metadata.update(progress='{"epochs": "two"}'), "epochs 'two'"),
        (lambda _, metadata: metadata.update(progress='{"epochs": 1, "wall_minutes": NaN}'), "wall_minutes nan"),
    ],
)
def test_checkpoint_that_cannot_be_resumed_is_named(
    resnet_d: Exported, tmp_path: Path, change: Any, fault: str
) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    rewritten(run / "checkpoint.safetensors", change)
    before = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match=f"lacks what resuming needs, or holds it damaged .*{fault}"):
        train(resnet_d.recipe, colours(256), run, resume=True)
    assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop(next(iter(tensors))),
        lambda tensors, _: tensors.update({"lost.mean": torch.zeros(3)}),
        lambda tensors, _: tensors.update({name: tensor[:1].clone() for name, tensor in tensors.items()}),
    ],
)
def test_statistics_of_other_points_are_refused(resnet_d: Exported, tmp_path: Path, change: Any) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    rewritten(run / "statistics.safetensors", change)
    with pytest.raises(
        RunError, match=r"statistics\.safetensors: does not hold the \d+ operating points .*; delete it"
    ):
        read_statistics_table(run, load_network(run))


def test_run_goes_on_with_its_own_classes_alone(resnet_d: Exported, tmp_path: Path) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    others = dataclasses.replace(colours(256), labels=tuple(reversed(colours(1).labels)))
    with pytest.raises(DatasetError, match="name the data that it was trained on"):
        train(resnet_d.recipe, others, run, resume=True)


def test_run_goes_on_with_as_many_images_as_it_began_with(resnet_d: Exported, tmp_path: Path) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    before = (run / "run.json").read_bytes()
    with pytest.raises(DatasetError, match="the data has 257 training images, that of the training had 256: images"):
        train(resnet_d.recipe, colours(257), run, resume=True)
    assert (run / "run.json").read_bytes() == before


def test_run_of_a_learned_gate_is_not_resumed_as_a_network(resnet_d: Exported, tmp_path: Path) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    (run / "gate.safetensors").touch()
    with pytest.raises(RunError, match=r"is the run of a learned gate; train\.gate --resume goes on with it"):
        train(resnet_d.recipe, colours(256), run, resume=True)


def test_run_that_cannot_be_written_is_refused(resnet_d: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"folder .*file.* cannot be made \(.*\); name another"):
            train(resnet_d.recipe, colours(256), run)
    with pytest.raises(RunError, match=r"cannot look into .* \(File name too long\); choose another folder"):
        train(resnet_d.recipe, colours(256), tmp_path / ("n" * 300))


def test_checkpoint_of_another_network_is_refused(resnet_d: Exported, tmp_path: Path) -> None:
    run = copied(resnet_d.run, tmp_path / "run")
    fields = json.loads((run / "run.json").read_text())
    fields["sizes"]["blocks"] = [1, 1]
    (run / "run.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match=r"the checkpoint does not fit the network that run\.json describes"):
        load_network(run)


def test_description_records_what_made_the_run(resnet_d: Exported) -> None:
    described = read_run(resnet_d.run)
    assert described.recipe == resnet_d.recipe.model_dump(mode="json")
    assert described.training.items() >= {"data": "colours", "images": 256 - 32, "held_out": 32, "epochs": 3}.items()
    assert described.training.items() >= {"weights": "none", "processes": 1, "device": "cpu"}.items()
    assert {"cpu", "torch", "wall_minutes", "cpu_minutes"} <= described.training.keys()


def test_statistics_of_full_throttle_are_the_running_ones(resnext_w: Exported) -> None:
    network = load_network(resnext_w.run)
    table = read_statistics_table(resnext_w.run, network)
    assert table is not None and len(table) == len(network.schedule.operating_points())
    running = read_statistics(network)
    for name, (mean, var) in running.items():
        assert torch.equal(table[-1][name][0], mean)
        assert torch.equal(table[-1][name][1], var)
    assert any(not torch.equal(table[1][name][0], mean) for name, (mean, _) in running.items())


def test_untrained_run_answers_differently_at_each_point(tmp_path: Path) -> None:
    write_untrained(small_recipe("resnext_w"), tmp_path / "run")
    network = load_network(tmp_path / "run")
    table = read_statistics_table(tmp_path / "run", network)
    x = torch.randn(2, 3, 16, 16)
    answers = []
    for index, (_, gates) in enumerate(network.schedule.operating_points()):
        use_point(network, table, index)
        answers.append(network.sliced(x, gates))
    assert all(not torch.allclose(a, b, rtol=1e-2) for a, b in pairwise(answers))


# --- augmentation, batches


def test_augmented_images_are_crops_of_the_reflected_image_or_their_mirror() -> None:
    settings = DataSettings.model_validate({**DATA, "crop_padding": 2})
    image = colours(1, size=6).images
    repeated = image.expand(200, -1, -1, -1)
    made = augmented(repeated, settings, torch.Generator().manual_seed(0))
    assert (made.shape, made.dtype) == (repeated.shape, torch.uint8)
    padded = np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    crops = [padded[:, i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    possible = {crop.tobytes() for crop in crops} | {crop[:, :, ::-1].tobytes() for crop in crops}
    found = {each.numpy().tobytes() for each in made}
    assert found <= possible
    assert len(found) > 40  # of 50: each example draws for itself


def test_augmentation_can_be_switched_off() -> None:
    settings = DataSettings.model_validate({**DATA, "crop_padding": 0, "flip": False})
    images = colours(8).images
    assert torch.equal(augmented(images, settings, torch.Generator().manual_seed(0)), images)


def test_epoch_shows_each_image_at_most_once_and_whole_batches_only() -> None:
    settings = DataSettings.model_validate({**DATA, "crop_padding": 0, "flip": False})
    data = colours(70)
    made = list(InMemoryImages(data, settings).batches(0, 32, torch.Generator().manual_seed(0), ALONE))
    assert [len(targets) for _, targets in made] == [32, 32]
    images = {
        image.numpy().tobytes(): int(t) for image, t in zip(normalised(data.images, **STATS), data.targets, strict=True)
    }
    shown = [(image.numpy().tobytes(), int(t)) for x, targets in made for image, t in zip(x, targets, strict=True)]
    assert len(set(shown)) == 64
    assert all(images[image] == t for image, t in shown)


STATS: dict[str, Any] = {"mean": DATA["mean"], "std": DATA["std"]}


# --- the throttle curve


def test_throttle_curve_measures_the_seventeen_settings(resnext_w: Exported, tmp_path: Path) -> None:
    data = colours(40, seed=9)
    curve = throttle_curve(resnext_w.run, data)
    rows = curve["points"]
    assert [row["u"] for row in rows] == list(DIAL) == [i / 16 for i in range(17)]
    network = load_network(resnext_w.run)
    with torch.no_grad():
        x = normalised(data.images, resnext_w.recipe.data.mean, resnext_w.recipe.data.std)
        right = float((network(x).argmax(dim=1) == data.targets).float().mean())
    assert rows[-1]["accuracy"] == pytest.approx(right)
    assert rows[-1]["utilisation"] == 1.0
    assert rows[0]["utilisation"] == 0.0
    for row in rows:
        k = min(4, math.floor(row["u"] * 5))
        assert row["utilisation"] == pytest.approx(k / 4)
        assert row["macs"] == network.macs(network.schedule.vector(row["u"]), 16)
    draw_curves([curve], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
