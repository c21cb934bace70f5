"""The two architectures: off means absent, u = 1 is the plain network, sliced equals masked, cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from tests.workshop.conftest import random_gates, randomise_norms, relative_error
from tnn_edge.errors import RunError
from tnn_edge.nn import GateVector, ThrottleableNetwork, build_network
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.norm import frozen_statistics

N, D = 4, 3  # components of a module, channels of a component
SIZES: Mapping[str, Mapping[str, Any]] = {
    "resnext_w": {"channels": [8, 12], "blocks": [2, 1], "component_channels": [D, D], "n_components": N},
    "resnet_d": {"channels": [8, 12], "blocks": [2, 2]},
}
EXACT = 1e-5  # float32: the same sums in another order


def build(architecture: str, seed: int = 0) -> ThrottleableNetwork:
    torch.manual_seed(seed)
    return randomise_norms(build_network(architecture, {**SIZES[architecture], "n_classes": 5}), seed)


@pytest.fixture(scope="module", params=sorted(SIZES))
def network(request: pytest.FixtureRequest) -> ThrottleableNetwork:
    """In evaluation mode, with random normalisation. Read only."""
    return build(request.param)


@pytest.fixture(autouse=True, scope="module")
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def images(n: int = 3, seed: int = 1, size: int = 8) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def vectors(network: ThrottleableNetwork, n: int, seed: int = 0) -> list[GateVector]:
    generator = torch.Generator().manual_seed(seed)
    return [random_gates(network.schedule.sizes, generator) for _ in range(n)]


# --- off means absent


def plain_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    mean, var, weight, bias = (
        t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def test_block_with_nothing_on_is_its_skip_connection_alone(network: ThrottleableNetwork) -> None:
    x = network.stem(images())
    for name, block in network.gated_blocks.items():
        skip: Any = block.skip
        expected = (
            x if skip.conv is None else plain_norm(F.conv2d(x, skip.conv.weight, stride=skip.conv.stride), skip.norm)
        )
        masked = block(x, torch.zeros(len(x), block.n_components))
        sliced = block.sliced(x, torch.tensor([], dtype=torch.long))
        assert torch.equal(masked, sliced), name
        torch.testing.assert_close(sliced, F.relu(expected), rtol=EXACT, atol=EXACT)
        x = block(x)


PATHS = {"conv1.weight": 0, "conv2.weight": 0, "conv3.weight": 1} | {
    f"norm{i}.{tensor}": 0 for i in (1, 2) for tensor in ("weight", "bias", "running_mean", "running_var")
}
"""Tensors of a bottleneck and the axis along which its paths lie."""


def spoil(network: ThrottleableNetwork, gates: GateVector) -> None:
    """Overwrite everything that belongs to a component that is off."""
    for name, block in network.gated_blocks.items():
        off = [i for i, bit in enumerate(gates[name]) if not bit]
        for tensor_name, tensor in block.state_dict().items():
            if block.n_components > 1 and tensor_name in PATHS:
                channels = torch.tensor([i * D + j for i in off for j in range(D)], dtype=torch.long)
                tensor.index_fill_(PATHS[tensor_name], channels, 7e3)
            elif block.n_components == 1 and off and not tensor_name.startswith("skip."):
                tensor.fill_(7)


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_component_that_is_off_contributes_exactly_nothing(architecture: str) -> None:
    x = images()
    for gates in vectors(build(architecture), 8):
        clean, spoilt = build(architecture), build(architecture)
        spoil(spoilt, gates)
        assert torch.equal(spoilt.sliced(x, gates), clean.sliced(x, gates))
        assert torch.equal(spoilt(x, as_masks(gates, len(x))), clean(x, as_masks(gates, len(x))))
        if not all(map(all, gates.values())):
            assert not torch.equal(spoilt(x), clean(x))  # it was worth spoiling


# --- u = 1 is the plain network


def from_torchvision(plain: ResNet) -> dict[str, Tensor]:
    """Its state dict under our names."""
    ours: dict[str, Tensor] = {}
    for name, tensor in plain.state_dict().items():
        head, _, rest = name.partition(".")
        if head.startswith("layer"):
            index, _, rest = rest.partition(".")
            rest = rest.replace("downsample.0", "skip.conv").replace("downsample.1", "skip.norm").replace("bn", "norm")
            ours[f"blocks.stage{head.removeprefix('layer')}_block{int(index) + 1}.{rest}"] = tensor
        else:
            ours[{"conv1": "stem.conv", "bn1": "stem.norm", "fc": "head.classifier"}[head] + f".{rest}"] = tensor
    return ours


def randomised_resnet(*args: Any, **kwargs: Any) -> ResNet:
    plain = ResNet(*args, **kwargs)
    generator = torch.Generator().manual_seed(5)
    for norm in (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.3, 1.3, generator=generator)
    return plain.eval()


def test_full_throttle_resnext_equals_torchvision() -> None:
    n, width = 32, 4
    torch.manual_seed(0)
    plain = randomised_resnet(Bottleneck, [1, 2, 1, 1], num_classes=7, groups=n, width_per_group=width)
    ours = build_network(
        "resnext_w",
        {
            "channels": [256, 512, 1024, 2048], "blocks": [1, 2, 1, 1], "n_components": n, "n_classes": 7,
            "component_channels": [width * 2**stage for stage in range(4)], "stem": "imagenet", "stem_channels": 64,
        },
    ).eval()  # fmt: skip
    ours.load_state_dict(from_torchvision(plain))
    assert_is_plain(ours, plain)


def test_full_throttle_resnet_d_equals_torchvision() -> None:
    torch.manual_seed(0)
    plain = randomised_resnet(BasicBlock, [1, 2, 1, 1], num_classes=7)
    sizes = {"channels": [64, 128, 256, 512], "blocks": [1, 2, 1, 1], "n_classes": 7, "stem": "imagenet"}
    ours = build_network("resnet_d", sizes).eval()
    ours.load_state_dict(from_torchvision(plain))
    assert_is_plain(ours, plain)


def assert_is_plain(ours: ThrottleableNetwork, plain: ResNet) -> None:
    x = images(2, size=64)
    expected = plain(x)
    full = ours.schedule.vector(1.0)
    assert relative_error(ours(x), expected) <= EXACT
    assert relative_error(ours(x, as_masks(full, len(x))), expected) <= EXACT
    assert relative_error(ours.sliced(x, full), expected) <= EXACT
    assert relative_error(ours.sliced(x, ours.schedule.vector(0.5)), expected) > 100 * EXACT


# --- sliced equals masked


@settings(max_examples=25)
@given(u=st.floats(0.0, 1.0))
def test_sliced_equals_masked_at_any_throttle(network: ThrottleableNetwork, u: float) -> None:
    assert_sliced_is_masked(network, network.schedule.vector(u))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_sliced_equals_masked_for_any_gate_vector(network: ThrottleableNetwork, seed: int) -> None:
    (gates,) = vectors(network, 1, seed)
    assert_sliced_is_masked(network, gates)


def assert_sliced_is_masked(network: ThrottleableNetwork, gates: GateVector) -> None:
    x = images()
    assert relative_error(network.sliced(x, gates), network(x, as_masks(gates, len(x)))) <= EXACT


def test_different_vectors_give_different_answers(network: ThrottleableNetwork) -> None:
    """Without this, equality of sliced and masked would say little."""
    answers = [network.sliced(images(), gates) for _, gates in network.schedule.operating_points()]
    for before, after in pairwise(answers):
        assert relative_error(before, after) > 100 * EXACT


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_sliced_equals_masked_in_training_mode(architecture: str) -> None:
    """One vector for the batch: each layer normalises the same batch either way."""
    network = build(architecture).train()
    x = images(16)
    with frozen_statistics(network):
        for gates in vectors(network, 6):
            assert relative_error(network.sliced(x, gates), network(x, as_masks(gates, len(x)))) <= 10 * EXACT


def test_each_example_of_a_masked_batch_has_its_own_throttle(network: ThrottleableNetwork) -> None:
    u = [0.0, 0.3, 0.55, 0.8, 1.0]
    x = images(len(u))
    together = network(x, network.schedule.masks(torch.tensor(u)))
    alone = torch.cat([network.sliced(x[i : i + 1], network.schedule.vector(u[i])) for i in range(len(u))])
    assert relative_error(together, alone) <= EXACT


# --- gradients


def test_sliced_gradients_flow_into_components_that_are_on_only() -> None:
    for architecture in SIZES:
        network = build(architecture)
        for gates in vectors(network, 4):
            network.zero_grad()
            with torch.enable_grad():
                network.sliced(images(), gates).square().sum().backward()
            for name, block in network.gated_blocks.items():
                assert_gradient_only_where_on(block, gates[name])


def assert_gradient_only_where_on(block: nn.Module, bits: tuple[int, ...]) -> None:
    for name in ("conv1", "conv2", "norm1"):
        gradient = block.get_parameter(f"{name}.weight").grad
        if gradient is None:
            assert not any(bits)
            continue
        by_component = gradient.reshape(len(bits), -1).abs().amax(dim=1)
        assert [bool(largest > 0) for largest in by_component] == [bool(bit) for bit in bits]


def gradients(network: ThrottleableNetwork, logits: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    logits.square().sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}


def test_masked_and_sliced_gradients_are_equal() -> None:
    x = images()
    for network in map(build, SIZES):
        for gates in vectors(network, 3):
            with torch.enable_grad():
                sliced = gradients(network, network.sliced(x, gates))
                masked = gradients(network, network(x, as_masks(gates, len(x))))
            for name, expected in masked.items():
                near_zero = 1e-4 * float(expected.abs().max()) + 1e-6
                torch.testing.assert_close(sliced[name], expected, rtol=1e-3, atol=near_zero)


# --- cost


def counted_macs(network: ThrottleableNetwork, gates: GateVector, size: int) -> int:
    """As PyTorch counts what it really runs: two operations to a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        network.sliced(images(1, size=size), gates)
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("size", [8, 11])
def test_macs_are_what_the_sliced_network_runs(network: ThrottleableNetwork, size: int) -> None:
    points = [gates for _, gates in network.schedule.operating_points()]
    for gates in (*points, *vectors(network, 12)):
        assert network.macs(gates, size) == counted_macs(network, gates, size)


def test_macs_of_an_imagenet_stem_are_what_it_runs() -> None:
    network = build_network("resnet_d", {"channels": [8, 16], "blocks": [1, 1], "stem": "imagenet"}).eval()
    gates = network.schedule.vector(1.0)
    assert network.macs(gates, 64) == counted_macs(network, gates, 64)


def test_macs_of_a_bottleneck_follow_the_formula() -> None:
    network = build("resnext_w")
    block = network.gated_blocks["stage2_block1"]  # 8 -> 12 channels, stride 2: 8x8 -> 4x4
    for k in range(N + 1):
        paths = 8 * k * D * 8**2 + k * D * D * 3**2 * 4**2 + k * D * 12 * 4**2
        skip = 8 * 12 * 4**2
        assert block.macs(k, 8) == (paths + skip, 4)


@settings(max_examples=30)
@given(us=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted))
def test_cost_never_falls_as_throttle_rises(network: ThrottleableNetwork, us: list[float]) -> None:
    low, high = (network.macs(network.schedule.vector(u), 8) for u in us)
    assert low <= high


def test_component_costs_add_up_to_what_gating_can_save(network: ThrottleableNetwork) -> None:
    costs = network.component_costs(8)
    assert {name: len(each) for name, each in costs.items()} == network.schedule.sizes
    saved = network.macs(network.schedule.vector(1.0), 8) - network.macs(network.schedule.vector(0.0), 8)
    assert sum(map(sum, costs.values())) == saved


# --- building


@pytest.mark.parametrize(
    ("architecture", "sizes", "message"),
    [
        ("vgg", {}, "unknown architecture 'vgg'; known: resnet_d, resnext_w"),
        ("resnet_d", {"channels": [8]}, "resnet_d: .*missing 1 required keyword-only argument: 'blocks'"),
        ("resnet_d", {"channels": [8], "blocks": [1], "width": 2}, "resnet_d: .*unexpected keyword argument 'width'"),
        ("resnet_d", {"channels": [8], "blocks": [1, 1]}, "resnet_d: 1 stages have channels, 2 have blocks"),
        ("resnet_d", {"channels": [8], "blocks": [1], "stem": "x"}, "stem must be 'cifar' or 'imagenet', got 'x'"),
        ("resnet_d", {"channels": [8], "blocks": [1], "order": "x"}, "gate order must be 'nested' or 'independent'"),
        ("resnext_w", {"channels": [8, 8], "blocks": [1, 1], "component_channels": [2]}, "resnext_w: "),
    ],
)
def test_sizes_that_do_not_fit_are_refused(architecture: str, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        build_network(architecture, sizes)


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_fresh_branches_start_at_zero(architecture: str) -> None:
    network = build_network(architecture, SIZES[architecture]).eval()
    x = images()
    assert torch.equal(network(x), network.sliced(x, network.schedule.vector(0.0)))
