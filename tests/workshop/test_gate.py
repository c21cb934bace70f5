"""Phase 2: a gate learns over a network that stays as it is, resumes exactly, and leaves a run like any other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import train.gate
from tests.workshop.conftest import COLOURS, LABELS, colours, small_recipe
from tests.workshop.test_programs import call, write_tree
from tnn_edge.errors import DatasetError, InputError, RunError
from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.checkpoint import (
    load_network,
    read_checkpoint,
    read_run,
    read_statistics_table,
    write_checkpoint,
    write_run,
)
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import BlindController
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gate_file import GATE_FILE, load_gates, read_gate, write_gate
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.learned_gates import LearnedGates
from train.estimators import Reinforce
from train.gate_settings import GateSettings
from train.gate_step import GateStep, fixed_data_path
from train.gate_training import train_gate
from train.image_data import InMemoryImages
from train.penalty import Penalty
from train.recipe import Recipe
from train.training import train as train_data_path

N = 8
HELD_OUT = 64


def faint(n: int, seed: int = 0) -> ImageSet:
    """`colours` of a tint so faint that spoilt components drown it."""
    data = colours(n, seed=seed)
    tint = torch.tensor(COLOURS)[data.targets].view(n, 3, 1, 1)
    return dataclasses.replace(data, images=(data.images.int() - 42 * tint).to(torch.uint8))


def useful(index: int) -> bool:
    """Whether a component of the runs below is left as it was trained."""
    return index % 2 == 0


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained with independent gates, every other component of whose modules is spoilt since. Read only."""
    fields = small_recipe("resnext_w", draw="uniform", statistics="shared").model_dump(mode="json")
    fields["network"]["sizes"] |= {"order": "independent", "n_components": N, "component_channels": [2, 2]}
    fields["data"]["held_out"] = HELD_OUT
    run = tmp_path_factory.mktemp("spoilt")
    train_data_path(Recipe.model_validate(fields), faint(480), run)
    network = load_network(run)
    generator = torch.Generator().manual_seed(0)
    for block in network.gated_blocks.values():
        weight = block.get_parameter("conv3.weight").data  # [out, components * 2, 1, 1]
        noise = torch.randn(weight.shape, generator=generator) * 16 * weight.std()
        spoils = torch.tensor([not useful(i) for i in range(N)]).repeat_interleave(2)
        weight[:, spoils] = noise[:, spoils]
    write_checkpoint(run, network, extra={}, progress={})
    return run


@pytest.fixture(scope="module")
def per_point(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose operating points have statistics of their own. Read only."""
    run = tmp_path_factory.mktemp("per_point")
    recipe = small_recipe("resnet_d", epochs=1)
    data = recipe.data.model_copy(update={"held_out": HELD_OUT})
    train_data_path(recipe.model_copy(update={"data": data}), faint(128), run)
    return run


def settings_for(run: Path, **others: Any) -> GateSettings:
    sizes = load_network(run).schedule.sizes
    defaults: dict[str, Any] = {
        "penalty": Penalty(), "costs": {name: (1.0,) * n for name, n in sizes.items()}, "epochs": 2, "batch_size": 32,
        "held_out": HELD_OUT, "learning_rate": 0.02,
    }  # fmt: skip
    return GateSettings(**(defaults | others))


def gates_of(run: Path) -> LearnedGates:
    gates = load_gates(run, Components.of(build(run).schedule))
    assert gates is not None
    return gates


def build(run: Path) -> ThrottleableNetwork:
    description = read_run(run)
    return build_network(description.architecture, description.sizes)


# --- learning


@pytest.mark.parametrize("method", ["reinforce", "concrete"])
def test_learned_gates_beat_random_ones_of_the_same_utilisation(spoilt: Path, tmp_path: Path, method: str) -> None:
    rate = {"reinforce": 0.03, "concrete": 0.1}[method]
    settings = settings_for(spoilt, method=method, epochs=8, learning_rate=rate)
    train_gate(spoilt, faint(480), settings, tmp_path / "run")
    network, recipe, unseen = load_network(spoilt), read_run(spoilt), faint(200, seed=5)
    components = Components.of(network.schedule)

    def accuracy(gates: GateVector) -> float:
        return evaluate(network, gates, unseen, mean=recipe.mean, std=recipe.std).accuracy

    generator = torch.Generator().manual_seed(0)
    compared = 0
    for _, vector in gates_of(tmp_path / "run").operating_points():
        n_on = sum(sum(bits) for bits in vector.values())
        if not 0.25 <= n_on / len(components) <= 0.6:
            continue
        orders = [torch.randperm(len(components), generator=generator) for _ in range(8)]
        random = [accuracy(components.vector((order < n_on).float())) for order in orders]
        assert accuracy(vector) > sum(random) / len(random) + 0.15
        compared += 1
    assert compared >= 2


def test_contextual_gates_are_trained_and_gathered_into_codes(spoilt: Path, tmp_path: Path) -> None:
    settings = settings_for(spoilt, controller="contextual")
    description = train_gate(spoilt, faint(200), settings, tmp_path / "run")
    gates = gates_of(tmp_path / "run")
    assert gates.codebook is not None
    record = description.training["gate"]
    assert [point["u"] for point in record["points"]] == gates.codebook.dial
    assert [point["u"] for point in record["by_image"]] == [i / 16 for i in range(17)]
    network, mean, std = load_network(spoilt), description.mean, description.std
    _, held_out = faint(200).hold_out(HELD_OUT)
    ((x, targets),) = held_out.batches(HELD_OUT, mean=mean, std=std)
    with torch.no_grad():  # one masked pass over images that differ in their gates, against the table's sliced ones
        masks = gates.masks(torch.full((HELD_OUT,), 0.5), images=x)
        answers = network(x, masks).argmax(dim=1)
    middle = record["by_image"][8]
    assert middle["accuracy"] == pytest.approx(float((answers == targets).float().mean()), abs=1.5 / HELD_OUT)
    on = float(torch.cat(list(masks.values()), dim=1).mean())
    assert middle["utilisation"] == pytest.approx(on, rel=1e-5)


@pytest.mark.parametrize("fixture", ["spoilt", "per_point"])
def test_the_network_is_not_changed(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run: Path = request.getfixturevalue(fixture)
    before = read_checkpoint(run)[0]
    train_gate(run, faint(64 + HELD_OUT), settings_for(run, epochs=1), tmp_path / "run")
    after = read_checkpoint(tmp_path / "run")[0]
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_points_of_a_learned_gate_get_statistics_of_their_own(per_point: Path, tmp_path: Path) -> None:
    train_gate(per_point, faint(64 + HELD_OUT), settings_for(per_point, epochs=1), tmp_path / "run")
    network = load_network(tmp_path / "run")
    assert isinstance(network.schedule, LearnedGates)
    table = read_statistics_table(tmp_path / "run", network)
    assert table is not None
    assert len(table) == len(network.schedule.operating_points())


def test_what_must_be_on_is_on_in_every_draw() -> None:
    network = build_network(
        "vgg", {"channels": [8, 8], "convolutions": [1, 1], "hidden": [16], "n_components": 4, "image_size": 16}
    )
    components = Components.of(network.schedule)
    assert set(components.least.values()) == {1}
    seen: list[Mapping[str, Tensor]] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    controller = BlindController(len(components))
    controller.open_at(torch.full((len(components),), 0.9), 50.0)  # nearly all are off at u = 0
    step = GateStep(
        network=network, controller=controller, components=components, costs=torch.ones(len(components)),
        penalty=Penalty(), estimator=Reinforce(first_alpha=1.0),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with fixed_data_path(network, by_batch=False):
        images, targets = torch.randn(16, 3, 16, 16, generator=generator), torch.zeros(16, dtype=torch.long)
        _, draws = step(images, targets, torch.zeros(16), epoch=0.0, generator=generator)
    assert len(seen) == len(draws) == 2
    for masks, judged in zip(seen, draws, strict=True):
        assert all((mask.sum(dim=1) == 1).all() for mask in masks.values())
        assert judged.utilisation.tolist() == pytest.approx([1 / 4] * 16)


def test_task_loss_and_penalty_of_a_draw_are_those_of_its_gates(spoilt: Path) -> None:
    network = load_network(spoilt)
    components = Components.of(network.schedule)
    given = torch.tensor([[1.0, 0.0] * N, [1.0] * 2 * N])
    found: list[Tensor] = []

    def judge(logits: Tensor, objective: Any, *, epoch: float, generator: torch.Generator) -> Tensor:
        found.append(objective(given))
        return logits.sum()

    step = GateStep(
        network=network, controller=BlindController(2 * N), components=components, costs=torch.ones(2 * N),
        penalty=Penalty(lambda_=3.0), estimator=judge,
    )  # fmt: skip
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets, u = torch.tensor([2, 1]), torch.tensor([0.2, 0.7])
    with fixed_data_path(network, by_batch=False), torch.no_grad():
        step(images, targets, u, epoch=0.0, generator=torch.Generator())
        for i, (c, row) in enumerate(zip([0.5, 1.0], given, strict=True)):
            logits = network.sliced(images[i : i + 1], components.vector(row))[0]
            expected = -float(logits.log_softmax(dim=0)[targets[i]]) + 3.0 * (c - float(u[i])) ** 2
            assert float(found[0][i]) == pytest.approx(expected, rel=1e-4)


# --- resuming, and starting from a learned gate


def stored(run: Path) -> dict[str, Tensor]:
    gate = read_gate(run)
    assert gate is not None
    codes = {} if gate.codebook is None else {"codes": gate.codebook.codes}
    return {**gate.controller.state_dict(), **gate.training, **codes}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C before a step, counted over all epochs from 0."""
    seen = iter(range(10**6))
    original = InMemoryImages.batches

    def interrupted(self: InMemoryImages, *args: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in original(self, *args):
            if next(seen) == step:
                raise KeyboardInterrupt("Ctrl-C")
            yield batch

    monkeypatch.setattr(InMemoryImages, "batches", interrupted)


@pytest.mark.parametrize(
    ("method", "controller", "finished_epochs"),
    [("reinforce", "blind", 0), ("reinforce", "contextual", 1), ("concrete", "blind", 1)],
)
def test_resumed_training_ends_with_the_same_bits(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, controller: str, finished_epochs: int
) -> None:
    settings, data = settings_for(spoilt, method=method, controller=controller), faint(64 + HELD_OUT)  # 2 steps
    train_gate(spoilt, data, settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2 * finished_epochs + 1)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train_gate(spoilt, data, settings, tmp_path / "resumed")
    gate = read_gate(tmp_path / "resumed")
    assert gate is not None
    assert gate.progress["epochs"] == finished_epochs
    train_gate(spoilt, data, settings, tmp_path / "resumed", resume=True)
    found, expected = stored(tmp_path / "resumed"), stored(tmp_path / "whole")
    assert found.keys() == expected.keys()
    assert any(name.startswith("optimiser.") for name in found)
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_learned_gate_is_where_the_next_training_starts(spoilt: Path, tmp_path: Path) -> None:
    data = faint(64 + HELD_OUT)
    train_gate(spoilt, data, settings_for(spoilt), tmp_path / "first")
    slow = {"learning_rate": 1e-9, "epochs": 1}
    train_gate(tmp_path / "first", data, settings_for(spoilt, starts_anew=False, **slow), tmp_path / "on")
    train_gate(tmp_path / "first", data, settings_for(spoilt, starts_anew=True, **slow), tmp_path / "fresh")
    before, on, fresh = (stored(tmp_path / name)["output.weight"] for name in ("first", "on", "fresh"))
    torch.testing.assert_close(on, before, rtol=0, atol=1e-6)
    assert not torch.allclose(fresh, before, atol=1e-3)


def test_a_gate_of_another_kind_is_no_start(spoilt: Path, tmp_path: Path) -> None:
    data = faint(64 + HELD_OUT)
    train_gate(spoilt, data, settings_for(spoilt, epochs=1), tmp_path / "first")
    settings = settings_for(spoilt, controller="contextual", starts_anew=False)
    with pytest.raises(
        RunError, match=r"first has learned a blind gate; pass --controller blind, or --fresh to start a"
    ):
        train_gate(tmp_path / "first", data, settings, tmp_path / "second")
    assert not (tmp_path / "second").exists()


# --- what ends a training


def test_resuming_with_other_settings_is_refused(spoilt: Path, tmp_path: Path) -> None:
    data = faint(64 + HELD_OUT)
    train_gate(spoilt, data, settings_for(spoilt, epochs=1), tmp_path / "run")
    other = settings_for(spoilt, epochs=1, penalty=Penalty(lambda_=3.0))
    with pytest.raises(
        RunError, match=r"other settings; resume it with those or choose another --out \(penalty was .*3.0"
    ):
        train_gate(spoilt, data, other, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"run already holds a run; --resume goes on with it, another --out starts anew"):
        train_gate(spoilt, data, settings_for(spoilt, epochs=1), tmp_path / "run")


def test_resuming_over_another_network_is_refused(spoilt: Path, tmp_path: Path) -> None:
    data, settings = faint(64 + HELD_OUT), settings_for(spoilt, epochs=1)
    train_gate(spoilt, data, settings, tmp_path / "run")
    network = load_network(spoilt)
    network.head.get_parameter("classifier.bias").data += 1.0
    write_run(tmp_path / "other", read_run(spoilt))
    write_checkpoint(tmp_path / "other", network, extra={}, progress={})
    with pytest.raises(RunError, match=r"run was started from another network; resume with its run or choose another"):
        train_gate(tmp_path / "other", data, settings, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"other is a run whose gates are not learned; choose another --out"):
        train_gate(spoilt, data, settings, tmp_path / "other", resume=True)


def test_loss_that_is_no_number_ends_the_training(spoilt: Path, tmp_path: Path) -> None:
    network = load_network(spoilt)
    network.head.get_parameter("classifier.bias").data[0] = torch.nan
    write_run(tmp_path / "broken", read_run(spoilt))
    write_checkpoint(tmp_path / "broken", network, extra={}, progress={})
    message = (
        r"the loss is nan in epoch 1, step 1 of 2; the gate of epoch 0 is kept in .*run. Try a lower --learning-rate"
    )
    with pytest.raises(RunError, match=message):
        train_gate(tmp_path / "broken", faint(64 + HELD_OUT), settings_for(spoilt), tmp_path / "run")


def test_controller_that_overflows_ends_the_training_and_keeps_the_last_epoch(spoilt: Path, tmp_path: Path) -> None:
    settings = settings_for(spoilt, method="concrete", learning_rate=3e38, epochs=3)
    with pytest.raises(
        RunError, match=r"of the controller is not finite after epoch 1; the gate of epoch 0 is kept in"
    ):
        train_gate(spoilt, faint(64 + HELD_OUT), settings, tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in stored(tmp_path / "run").values())


def test_data_that_does_not_fit_is_refused(spoilt: Path, tmp_path: Path) -> None:
    data = faint(64 + HELD_OUT)
    others = dataclasses.replace(data, labels=("a", *LABELS[1:]))
    with pytest.raises(DatasetError, match="the data's classes are a, green, grey, red, the network's blue, green"):
        train_gate(spoilt, others, settings_for(spoilt), tmp_path / "run")
    with pytest.raises(DatasetError, match="cannot hold out 500 of 128 images"):
        train_gate(spoilt, data, settings_for(spoilt, held_out=500), tmp_path / "run")
    with pytest.raises(DatasetError, match="10 training images do not fill one batch of 32; pass a smaller one"):
        train_gate(spoilt, data, settings_for(spoilt, images=10), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_that_were_trained_on_are_not_held_out(spoilt: Path, tmp_path: Path) -> None:
    message = (
        r"was trained on these {} images but for {}, so {} held-out ones would not be unseen; pass a --held-out of"
    )
    with pytest.raises(RunError, match="spoilt.* " + message.format(480, HELD_OUT, HELD_OUT + 1)):
        train_gate(spoilt, faint(480), settings_for(spoilt, held_out=HELD_OUT + 1), tmp_path / "gate")
    data = faint(128)  # other images, by their number
    train_gate(spoilt, data, settings_for(spoilt, epochs=1, held_out=20, images=40), tmp_path / "gate")
    more = settings_for(spoilt, epochs=1, held_out=21, starts_anew=False)
    with pytest.raises(RunError, match="gate " + message.format(128, 20, 21)):
        train_gate(tmp_path / "gate", data, more, tmp_path / "on")
    assert not (tmp_path / "on").exists()
    train_gate(tmp_path / "gate", data, dataclasses.replace(more, starts_anew=True), tmp_path / "on")


def test_gate_goes_on_with_as_many_images_as_it_began_with(spoilt: Path, tmp_path: Path) -> None:
    settings = settings_for(spoilt, epochs=1, images=32)
    train_gate(spoilt, faint(128), settings, tmp_path / "run")
    with pytest.raises(DatasetError, match="the data has 129 training images, that of the training had 128: "):
        train_gate(spoilt, faint(129), settings, tmp_path / "run", resume=True)
    train_gate(spoilt, faint(128), settings, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"training": {}}, "KeyError.'generator'"),
        ({"progress": {}}, "KeyError.'epochs'"),
        ({"progress": {"epochs": "two"}}, "epochs 'two'"),
    ],
)
def test_gate_that_cannot_be_resumed_is_named(
    spoilt: Path, tmp_path: Path, change: Mapping[str, Any], fault: str
) -> None:
    data, settings = faint(64 + HELD_OUT), settings_for(spoilt, epochs=1)
    train_gate(spoilt, data, settings, tmp_path / "run")
    gate = read_gate(tmp_path / "run")
    assert gate is not None
    write_gate(tmp_path / "run", dataclasses.replace(gate, **change))
    with pytest.raises(RunError, match=f"run: the gate lacks what resuming needs, or holds it damaged .*{fault}"):
        train_gate(spoilt, data, settings, tmp_path / "run", resume=True)


def test_gate_that_cannot_be_written_is_refused(spoilt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"folder .*file cannot be made \(File exists\); name another"):
        train_gate(spoilt, faint(64 + HELD_OUT), settings_for(spoilt), tmp_path / "file")


# --- the program


def test_the_whole_way_on_the_command_line(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = write_tree(tmp_path / "images")
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({name: [2.0] * n for name, n in load_network(spoilt).schedule.sizes.items()}))
    args = (
        spoilt, "--data", tree, "--out", tmp_path / "run", "--costs", costs, "--epochs", 1, "--batch-size", 16,
        "--images", 40, "--held-out", 20, "--penalty", "hinge", "--power", 1, "--lambda", 4,
    )  # fmt: skip
    assert call(train.gate.main, *args, monkeypatch=monkeypatch) == 0
    assert call(train.gate.main, *args, "--resume", monkeypatch=monkeypatch) == 0
    told = capsys.readouterr().err
    assert "20 held-out images" in told
    assert "u 0.0000  utilisation" in told
    record = read_run(tmp_path / "run").training["gate"]
    assert record["penalty"] == {"kind": "hinge", "power": 1, "lambda_": 4.0}
    assert record["images"] == 40
    assert read_run(tmp_path / "run").recipe["data"]["held_out"] == 20
    assert (tmp_path / "run" / "tensorboard").is_dir()
    assert (tmp_path / "run" / GATE_FILE).is_file()


@pytest.mark.slow
def test_gate_is_retrained_on_new_data_and_exported_in_one_command(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, bundle = write_tree(tmp_path / "images"), tmp_path / "bundle"
    short = ("--data", tree, "--epochs", 1, "--batch-size", 16, "--held-out", 20)
    assert call(train.gate.main, spoilt, "--out", tmp_path / "a", *short, monkeypatch=monkeypatch) == 0
    again = (tmp_path / "a", "--out", tmp_path / "b", *short, "--export", bundle)
    assert call(train.gate.main, *again, monkeypatch=monkeypatch) == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    points = gates_of(tmp_path / "b").operating_points()
    assert [point["u"] for point in manifest["operating_points"]] == [u for u, _ in points]
    assert all(point["accuracy"] is not None for point in manifest["operating_points"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["good", "--lambda", "-1"], "lambda must be a finite weight of at least 0, got -1"),
        (["good", "--learning-rate", "0"], "learning rate must be finite and above 0, got 0"),
        (["good", "--costs", "none.json"], "--costs takes uniform, macs or a JSON file; cannot read none.json"),
        (["good", "--export", "images"], "images exists; choose another --export"),
        (["good", "--learning-rate", "1e300"], "learning rate must be finite and above 0, got 1e+300"),
        (["good", "--seed", str(2**63)], "seed must be a number of 64 bits, got 9223372036854775808"),
        (["none"], "none is not a training run"),
        (["empty"], "empty holds no checkpoint yet"),
        (["old"], "old: its recipe is not one of this version; train the network again"),
        (["good", "--held-out", "100"], "cannot hold out 100 of 100 images"),
    ],
)
def test_mistake_ends_with_one_line_and_code_1(
    args: list[str], message: str, spoilt: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(images)
    (tmp_path / "good").symlink_to(spoilt)
    write_run(tmp_path / "empty", read_run(spoilt))
    write_run(tmp_path / "old", dataclasses.replace(read_run(spoilt), recipe={"name": "old"}))
    assert call(train.gate.main, *args, "--data", "images", "--out", "run", monkeypatch=monkeypatch) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not (tmp_path / "run").exists()
