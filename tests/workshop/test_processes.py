"""Several processes train as one does: their shares, their sums, their normalisation, their losses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.workshop.two_processes import (
    DRAWS,
    NORM_CASES,
    NormCase,
    measured_by_one,
    run_module,
    run_step,
    run_training,
    small_network,
    torchrun,
)
from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import load_network, read_checkpoint, read_statistics_table
from tnn_edge.nn.norm import read_statistics
from train.processes import ALONE, Processes, processes

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[run_module, pytest.param(torchrun, marks=pytest.mark.slow)])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found, by rank."""
    folder = tmp_path_factory.mktemp("two")
    done = request.param("tests.workshop.two_processes", str(folder))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


# --- shares and sums


@given(count=st.integers(1, 9), each=st.integers(0, 9))
def test_shares_cover_a_batch_once_in_order(count: int, each: int) -> None:
    batch = list(range(count * each))
    assert [i for rank in range(count) for i in batch[Processes(rank, count, CPU).share(len(batch))]] == batch


@pytest.mark.parametrize(("n", "count"), [(7, 2), (1, 2), (128, 3)])
def test_batch_that_does_not_divide_is_refused(n: int, count: int) -> None:
    with pytest.raises(RunError, match=f"a batch of {n} cannot be divided among {count} processes; choose a multiple"):
        Processes(0, count, CPU).share(n)


def test_one_process_has_everything_and_is_the_main_one() -> None:
    x, module = torch.tensor([1.0, 2.0]), nn.Linear(1, 1)
    assert ALONE.share(5) == slice(0, 5)
    assert ALONE.is_main
    assert torch.equal(ALONE.total(x), x)
    assert torch.equal(ALONE.mean(x), x)
    assert ALONE.wrap(module) is module
    ALONE.barrier()


def test_processes_know_who_they_are(two: list[dict[str, Any]]) -> None:
    assert [one["rank"] for one in two] == [0, 1]
    assert [one["is_main"] for one in two] == [True, False]
    assert {(one["count"], one["device"]) for one in two} == {(2, "cpu")}


def test_totals_and_means_are_those_of_all_processes(two: list[dict[str, Any]]) -> None:
    for one in two:
        assert one["total"].tolist() == [1.0 + 2.0, 10.0 + 20.0]
        assert one["mean"].tolist() == [(1.0 + 2.0) / 2, (10.0 + 20.0) / 2]
        assert one["right"].item() == 0 + 1
        assert one["x"].tolist() == [1.0 * (one["rank"] + 1), 10.0 * (one["rank"] + 1)]  # left as it was


def test_group_ends_with_the_training_however_it_ends(two: list[dict[str, Any]]) -> None:
    assert [one["is_joined"] for one in two] == [True, True]
    assert [one["is_joined_afterwards"] for one in two] == [False, False]


# --- the device


@pytest.fixture
def torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Those of the second of two processes."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_without_torchrun_there_is_one_process() -> None:
    with processes("cpu") as group:
        assert group == ALONE
    with processes() as group:
        assert group.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:99", r"device cuda:99 is not there: this machine has \d+ GPUs; pass device 'cpu'"),
        ("meta", "device must be cpu or cuda, got 'meta'"),
        ("graphics", "device must be cpu or cuda, got 'graphics'"),
    ],
)
def test_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(RunError, match=message), processes(device):
        pass


def test_one_gpu_cannot_be_named_for_several_processes(torchruns_variables: pytest.MonkeyPatch) -> None:
    message = "several processes take a GPU each; pass device 'cuda' instead of 'cuda:0'"
    with pytest.raises(RunError, match=message), processes("cuda:0"):
        pass


def test_more_processes_than_gpus_are_refused(torchruns_variables: pytest.MonkeyPatch) -> None:
    torchruns_variables.setenv("LOCAL_RANK", "99")
    message = r"device cuda:99 is not there: this machine has \d+ GPUs; pass device 'cpu'"
    with pytest.raises(RunError, match=message), processes("cuda"):
        pass


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [("RANK", None, "is missing"), ("LOCAL_RANK", None, "is missing"), ("WORLD_SIZE", "two", "is 'two', not a number")],
)
def test_incomplete_variables_are_named(
    torchruns_variables: pytest.MonkeyPatch, name: str, value: str | None, found: str
) -> None:
    torchruns_variables.delenv(name) if value is None else torchruns_variables.setenv(name, value)
    message = f"environment variable {name} {found}; start several processes with torchrun"
    with pytest.raises(RunError, match=message), processes("cpu"):
        pass


# --- batch normalisation


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within a share of the largest expected value."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def plain_pass(case: NormCase) -> dict[str, Tensor]:
    """The whole batch through torch's own layer of just the channels that are on."""
    layer, (x, gradient) = case.layer(), case.batch()
    on = list(range(layer.num_features)) if case.channels is None else list(case.channels)
    plain = nn.BatchNorm2d(len(on), momentum=case.momentum, dtype=layer.weight.dtype).train()
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(plain, name).copy_(getattr(layer, name)[on])
    x.requires_grad_()
    y = plain(x)
    y.backward(gradient)
    gradients = {name: torch.zeros_like(layer.weight) for name in ("weight", "bias")}
    for name, filled in gradients.items():
        filled[on] = getattr(plain, name).grad
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **gradients, **({} if keeps_statistics(case) else running(plain))}


def keeps_statistics(case: NormCase) -> bool:
    return case.frozen or case.channels is not None


def running(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in norm.state_dict().items() if name not in ("weight", "bias")}


TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("name", NORM_CASES)
def test_norm_of_two_processes_is_that_of_one(two: list[dict[str, Any]], name: str) -> None:
    case = NORM_CASES[name]
    parts: list[dict[str, Tensor]] = [one["norms"][name] for one in two]
    expected, tolerance = plain_pass(case), TOLERANCES[case.dtype]
    assert [len(part["y"]) for part in parts] == [case.first, 8 - case.first]
    for key in ("y", "x"):
        assert_near(torch.cat([part[key] for part in parts]), expected[key], tolerance)
    for key in ("weight", "bias"):
        assert_near(parts[0][f"gradient.{key}"] + parts[1][f"gradient.{key}"], expected[key], tolerance)
    for key in ("running_mean", "running_var"):
        statistics = expected[key] if key in expected else getattr(case.layer(), key)
        assert_near(parts[0][key], statistics, 0.0 if keeps_statistics(case) else tolerance)
        assert torch.equal(parts[0][key], parts[1][key])
    assert [int(part["num_batches_tracked"]) for part in parts] == [0 if keeps_statistics(case) else 1] * 2


def test_step_of_two_processes_is_that_of_one(two: list[dict[str, Any]]) -> None:
    """Gradients, through a masked and a sliced pass, and running statistics of a whole network."""
    expected = run_step(ALONE)
    assert {name for name in expected if name.startswith("gradient.")}
    for one in two:
        assert one["step"].keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(one["step"][name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def test_step_of_two_processes_leaves_the_same_bits_in_both(two: list[dict[str, Any]]) -> None:
    first, second = (one["step"] for one in two)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_one_of_two_processes_measures_statistics_alone(two: list[dict[str, Any]]) -> None:
    measured, expected = two[0]["measured"], measured_by_one()
    assert "measured" not in two[1]
    start = read_statistics(small_network())
    for name, pair in expected.items():
        for found, wanted, before in zip(measured[name], pair, start[name], strict=True):
            assert torch.equal(found, wanted), name
            assert not torch.equal(found, before.float()), name


# --- training


@pytest.mark.parametrize("draw", DRAWS)
def test_training_of_two_processes_follows_that_of_one(two: list[dict[str, Any]], draw: str) -> None:
    expected = run_training(draw, ALONE)
    losses = expected["figures"][:, 0]
    assert losses[-1] < losses[0]
    for one in two:
        trained = one["trainings"][draw]
        torch.testing.assert_close(trained["figures"], expected["figures"], rtol=1e-5, atol=0.0)
        for name, tensor in expected.items():
            torch.testing.assert_close(trained[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("draw", DRAWS)
def test_training_of_two_processes_leaves_the_same_bits_in_both(two: list[dict[str, Any]], draw: str) -> None:
    first, second = (one["trainings"][draw] for one in two)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


RECIPE = """
name = "two_processes"

[network]
architecture = "resnext_w"
sizes = { channels = [8, 12], blocks = [1, 1], component_channels = [2, 3], n_components = 4, n_classes = 2 }

[throttle]
draw = { kind = "DRAW" }
statistics = "per_point"
statistics_images = 16

[data]
format = "folder"
image_size = 16
short_side = 20
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
held_out = 8
crop_padding = 0

[training]
epochs = 2
batch_size = 8
precision = "fp32"

[optimiser]
kind = "adam"

[learning_rate]
kind = "constant"
rate = 1e-3
"""


def write_images(folder: Path) -> Path:
    """24 training images of each of two classes, of several sizes."""
    rng = np.random.default_rng(6)
    for c, label in enumerate(("bright", "dark")):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(60 - 60 * c, 256 - 60 * c, (20 + i % 3, 22, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / "train" / label / f"{i:02d}.JPEG")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS)
def test_classifier_under_torchrun_follows_one_process(tmp_path: Path, draw: str) -> None:
    recipe, data = tmp_path / "recipe.toml", write_images(tmp_path / "data")
    recipe.write_text(RECIPE.replace("DRAW", draw))
    losses: list[list[float]] = []
    for n, out in ((1, "one"), (2, "two")):
        arguments = {"recipe": recipe, "data": data, "out": tmp_path / out, "device": "cpu", "workers": 1}
        done = torchrun("train.classifier", *(f"--{name}={value}" for name, value in arguments.items()), n=n)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("done: ") == 1  # one of them talks
        losses.append([float(shown) for shown in re.findall(r"^epoch \d/2  loss ([\d.]+)", done.stderr, re.MULTILINE)])
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-4, abs=1.5e-4)  # shown with four decimals
    weights, expected = (read_checkpoint(tmp_path / name)[0] for name in ("two", "one"))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    network = load_network(tmp_path / "one")
    table, wanted = (read_statistics_table(tmp_path / name, network) for name in ("two", "one"))
    assert table is not None and wanted is not None
    for row, other in zip(table, wanted, strict=True):
        for name, pair in row.items():
            torch.testing.assert_close(pair, other[name], rtol=1e-2, atol=1e-3, msg=name)
