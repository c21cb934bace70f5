"""Normalisation statistics: who may change them, and how they are measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.workshop.conftest import randomise_norms
from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.norm import BatchNorm, frozen_statistics, load_statistics, measure_statistics, read_statistics

N, D = 4, 3
SIZES = {"channels": [8, 12], "blocks": [1, 1], "component_channels": [D, D], "n_components": N}
HALF = {"stage1_block1": (1, 0, 1, 0), "stage2_block1": (1, 1, 0, 0)}
Array = npt.NDArray[np.float64]


@pytest.fixture
def network() -> ThrottleableNetwork:
    torch.manual_seed(0)
    return randomise_norms(build_network("resnext_w", SIZES))


def batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, 8, 8, generator=generator) for n in sizes]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_state(network: nn.Module, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_frozen_passes_normalise_by_their_batch_and_leave_running_statistics_alone(
    network: ThrottleableNetwork,
) -> None:
    (x,) = batches(16)
    network.train()
    before = state(network)
    with frozen_statistics(network):
        frozen = network(x)
        network.sliced(x, HALF)
    assert_same_state(network, before)
    thawed = network(x)
    torch.testing.assert_close(frozen, thawed)  # both by the batch
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert sorted(changed) == sorted(name for name in before if name.endswith(kinds))


def test_statistics_thaw_after_an_error(network: ThrottleableNetwork) -> None:
    with pytest.raises(RuntimeError, match="stop"), frozen_statistics(network):
        raise RuntimeError("stop")
    assert all(norm.updates_statistics for norm in network.modules() if isinstance(norm, BatchNorm))


def test_layers_are_synchronised_again_after_an_error_in_a_measurement(network: ThrottleableNetwork) -> None:
    def passes() -> Iterator[Tensor]:
        assert not any(norm.is_synchronised for norm in network.modules() if isinstance(norm, BatchNorm))
        raise RuntimeError("stop")
        yield

    with pytest.raises(RuntimeError, match="stop"):
        measure_statistics(network, passes(), read_statistics(network))
    assert all(norm.is_synchronised for norm in network.modules() if isinstance(norm, BatchNorm))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_norm_over_some_channels_is_the_plain_norm_on_them(training: bool) -> None:
    channels = torch.tensor([4, 0, 3])
    norm = BatchNorm(6)
    plain = nn.BatchNorm2d(len(channels))
    for name in ("weight", "bias", "running_mean", "running_var"):
        with torch.no_grad():
            getattr(norm, name).uniform_(0.5, 1.5)
            getattr(plain, name).copy_(getattr(norm, name)[channels])
    norm.train(training)
    plain.train(training)
    x = torch.randn(5, len(channels), 4, 4)
    torch.testing.assert_close(norm(x, channels), plain(x))


def two_pass(parts: list[Tensor]) -> tuple[Array, Array]:
    """Mean and population variance per channel over batch, height and width; the mean first, then deviations."""
    x = np.concatenate([part.numpy().astype(np.float64) for part in parts])
    mean = x.mean(axis=(0, 2, 3))
    return mean, ((x - mean[:, None, None]) ** 2).mean(axis=(0, 2, 3))


@torch.no_grad()
def test_measured_statistics_equal_a_plain_two_pass_computation(network: ThrottleableNetwork) -> None:
    inputs = batches(8, 8, 5)
    start = read_statistics(network)
    measured = measure_statistics(network, (network.sliced(x, HALF) for x in inputs), start)

    stem_weight = network.get_parameter("stem.conv.weight")
    stem_inputs = [F.conv2d(x, stem_weight, padding=1) for x in inputs]
    assert_statistics(measured["stem.norm"], two_pass(stem_inputs))

    block = network.gated_blocks["stage1_block1"]
    first = block.get_parameter("conv1.weight")
    on = [i * D + j for i, bit in enumerate(HALF["stage1_block1"]) for j in range(D) if bit]
    off = sorted(set(range(N * D)) - set(on))
    scale, shift = (network.get_parameter(f"stem.norm.{name}") for name in ("weight", "bias"))
    stems = [F.relu(F.batch_norm(x, None, None, scale, shift, training=True)) for x in stem_inputs]
    mean, var = measured["blocks.stage1_block1.norm1"]
    assert_statistics((mean[on], var[on]), two_pass([F.conv2d(x, first[on]) for x in stems]))
    kept_mean, kept_var = start["blocks.stage1_block1.norm1"]  # no pass reached these
    assert torch.equal(mean[off], kept_mean[off])
    assert torch.equal(var[off], kept_var[off])


def assert_statistics(measured: tuple[Tensor, Tensor], expected: tuple[Array, Array]) -> None:
    for found, wanted in zip(measured, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_statistics_of_blocks_that_are_off_keep_their_start(network: ThrottleableNetwork) -> None:
    nothing = dict.fromkeys(HALF, (0,) * N)
    start = {
        name: (torch.full_like(mean, -7.0), torch.full_like(var, 7.0))
        for name, (mean, var) in read_statistics(network).items()
    }
    measured = measure_statistics(network, (network.sliced(x, nothing) for x in batches(8)), start)
    for name, (mean, var) in measured.items():
        is_kept = name.rpartition(".")[2] in ("norm1", "norm2", "norm3")
        assert bool((mean == -7.0).all()) == is_kept, name
        assert bool((var == 7.0).all()) == is_kept, name


@pytest.mark.parametrize("training", [False, True])
def test_measuring_leaves_the_network_as_it_was(network: ThrottleableNetwork, training: bool) -> None:
    network.train(training)
    before = state(network)
    measure_statistics(network, (network.sliced(x, HALF) for x in batches(8)), read_statistics(network))
    assert_same_state(network, before)
    assert network.training == training
    assert all(norm.updates_statistics for norm in network.modules() if isinstance(norm, BatchNorm))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_measured_statistics_of_the_training_batch_reproduce_its_answers(network: ThrottleableNetwork) -> None:
    """One batch, measured and loaded: evaluation then answers as training did."""
    (x,) = batches(16)
    network.train()
    with torch.no_grad(), frozen_statistics(network):
        expected = network.sliced(x, HALF)
    measured = measure_statistics(network, (network.sliced(x, HALF) for _ in range(1)), read_statistics(network))
    network.eval()
    load_statistics(network, measured)
    with torch.no_grad():
        torch.testing.assert_close(network.sliced(x, HALF), expected, rtol=1e-4, atol=1e-4)


def test_loading_leaves_layers_that_are_not_named_alone(network: ThrottleableNetwork) -> None:
    before = state(network)
    load_statistics(network, {"stem.norm": (torch.full((8,), 2.0), torch.full((8,), 3.0))})
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"stem.norm.running_mean", "stem.norm.running_var"}
    assert network.state_dict()["stem.norm.running_var"].tolist() == [3.0] * 8


def test_statistics_that_are_read_are_copies(network: ThrottleableNetwork) -> None:
    mean, _ = read_statistics(network)["stem.norm"]
    kept = mean.clone()
    network.train()
    network(batches(8)[0])
    assert torch.equal(mean, kept)
