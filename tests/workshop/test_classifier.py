"""Training: it learns, repeats with its seed, resumes exactly, and leaves a folder that is safe to read."""

from __future__ import annotations

import copy
import json
import math
import pickletools
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.workshop.conftest import Exported, colours, randomise_norms, small_recipe
from tnn_edge.errors import DatasetError, RunError
from tnn_edge.nn import GateSchedule, build_network
from tnn_edge.nn.checkpoint import load_network, read_checkpoint, read_run, read_statistics_table, use_point
from tnn_edge.nn.dataset import normalised
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.norm import read_statistics
from train.batches import augmented, batches
from train.classifier import learning_rate, train
from train.curve import DIAL, draw_curves, throttle_curve
from train.draws import DRAWS
from train.recipe import DataSettings, OptimiserSettings, Recipe
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
    assert any(name.startswith("momentum.") for name in tensors)
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


@pytest.mark.parametrize("draw", sorted(DRAWS))
def test_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path, draw: str) -> None:
    recipe = small_recipe("resnet_d", draw=draw, epochs=1)
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        train(recipe.model_copy(update={"seed": seed}), colours(128), tmp_path / name)
    assert_identical(tmp_path / "first", tmp_path / "second")
    weight = "blocks.stage1_block1.conv1.weight"
    assert not torch.equal(stored(tmp_path / "first")[weight], stored(tmp_path / "other")[weight])


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C before a step, counted over all epochs from 0."""
    seen = iter(range(10**6))

    def interrupted(*args: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(*args):
            if next(seen) == step:
                raise KeyboardInterrupt("Ctrl-C")
            yield batch

    monkeypatch.setattr("train.classifier.batches", interrupted)


@pytest.mark.parametrize("architecture", ["resnext_w", "resnet_d"])
@pytest.mark.parametrize("finished_epochs", [0, 1])
def test_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, finished_epochs: int
) -> None:
    recipe, data = small_recipe(architecture), colours(160)  # 128 without the held-out: 4 steps an epoch
    train(recipe, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4 * finished_epochs + 2)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train(recipe, data, tmp_path / "resumed")
    assert (tmp_path / "resumed" / "checkpoint.safetensors").exists() == (finished_epochs > 0)
    assert not (tmp_path / "resumed" / "statistics.safetensors").exists()
    train(recipe, data, tmp_path / "resumed", resume=True)
    assert_identical(tmp_path / "resumed", tmp_path / "whole")
    assert read_run(tmp_path / "resumed").training["epochs"] == recipe.optimiser.epochs


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    recipe, data = small_recipe("resnet_d", epochs=1), colours(96)
    train(recipe, data, tmp_path / "run")
    before = stored(tmp_path / "run")
    train(recipe, data, tmp_path / "run", resume=True)
    after = stored(tmp_path / "run")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_resuming_where_there_is_no_run_starts_one(tmp_path: Path) -> None:
    train(small_recipe("resnet_d", epochs=1), colours(96), tmp_path / "run", resume=True)
    assert load_network(tmp_path / "run").schedule.sizes


def test_resuming_with_another_recipe_is_refused(resnet_d: Exported) -> None:
    other = resnet_d.recipe.model_copy(update={"seed": 9})
    with pytest.raises(RunError, match=r"run was started with another recipe; resume it with that one or choose"):
        train(other, colours(96), resnet_d.run, resume=True)


def test_run_is_not_overwritten(resnet_d: Exported) -> None:
    before = (resnet_d.run / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"run already holds a run; --resume goes on with it, another --out starts anew"):
        train(resnet_d.recipe, colours(96), resnet_d.run)
    with pytest.raises(RunError, match=r"run already holds a run; choose another --out"):
        write_untrained(resnet_d.recipe, resnet_d.run)
    assert (resnet_d.run / "run.json").read_bytes() == before


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


# --- one step


def test_sandwich_updates_running_statistics_at_full_throttle_only() -> None:
    recipe = small_recipe("resnext_w")
    network = randomise_norms(build_network("resnext_w", recipe.network.sizes)).train()
    plain = copy.deepcopy(network)
    data = colours(32)
    images = normalised(data.images, recipe.data.mean, recipe.data.std)
    DRAWS["sandwich"](network, images, data.targets, recipe, torch.Generator().manual_seed(0))
    plain(images)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    assert int(network.state_dict()["stem.norm.num_batches_tracked"]) == 1


def test_sandwich_gradient_is_that_of_its_three_losses() -> None:
    """Labels at u = 1; at the smallest and one random u the answers at u = 1, masked here where the draw slices."""
    recipe = small_recipe("resnext_w")
    weight = 0.3
    throttle = recipe.throttle.model_copy(update={"student_weight": weight})
    recipe = recipe.model_copy(update={"throttle": throttle})
    network = randomise_norms(build_network("resnext_w", recipe.network.sizes)).train()
    other = copy.deepcopy(network)
    data = colours(32)
    images = normalised(data.images, recipe.data.mean, recipe.data.std)
    DRAWS["sandwich"](network, images, data.targets, recipe, torch.Generator().manual_seed(0))

    drawn = float(torch.rand((), generator=torch.Generator().manual_seed(0)))
    full = other(images)
    loss = F.cross_entropy(full, data.targets)
    taught_by = full.detach().softmax(dim=1)
    for u in (0.0, drawn):
        student = other(images, as_masks(other.schedule.vector(u), len(images)))
        loss = loss - weight * (taught_by * student.log_softmax(dim=1)).sum(dim=1).mean()
    loss.backward()
    for (name, p), q in zip(network.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * float(q.grad.abs().max()) + 1e-6, msg=name)


def test_uniform_draw_gives_each_example_its_own_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe("resnext_w", draw="uniform", statistics="shared")
    network = build_network("resnext_w", recipe.network.sizes).train()
    seen: list[Tensor] = []
    masks = GateSchedule.masks

    def recording(self: GateSchedule, u: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        seen.append(u)
        return masks(self, u, generator)

    monkeypatch.setattr(GateSchedule, "masks", recording)
    data = colours(64)
    DRAWS["uniform"](network, data.images.float(), data.targets, recipe, torch.Generator().manual_seed(0))
    (u,) = seen
    assert len(u.unique()) == 64
    assert 0.0 <= u.min() < 0.1
    assert 0.9 < u.max() <= 1.0


# --- learning rate, augmentation, batches


def test_learning_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    settings = OptimiserSettings.model_validate({"epochs": 10, "learning_rate": 0.2, "warmup_epochs": 2})
    rates = [learning_rate(step, 50, settings) for step in range(500)]
    assert rates[:100] == pytest.approx([0.2 * (step + 1) / 100 for step in range(100)])
    assert rates[100] == max(rates) == 0.2
    assert rates[300] == pytest.approx(0.2 / 2)  # half way between 100 and 500
    assert rates[200] == pytest.approx(0.2 * math.cos(math.pi / 8) ** 2)  # (1 + cos x) / 2 = cos(x / 2) ** 2
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0.0 < rates[-1] < 1e-5


def test_learning_rate_without_warm_up_starts_at_the_top() -> None:
    settings = OptimiserSettings.model_validate({"epochs": 1, "learning_rate": 0.2, "warmup_epochs": 0})
    assert learning_rate(0, 7, settings) == 0.2


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
    made = list(batches(data, settings, 32, torch.Generator().manual_seed(0)))
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
