"""Every network: off means absent, sliced equals masked, cost is what runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests.workshop.conftest import allowed, random_gates, randomise_norms, relative_error
from tnn_edge.errors import RunError
from tnn_edge.nn import ARCHITECTURES, GatedBlock, GateVector, Section, ThrottleableNetwork, build_network
from tnn_edge.nn.bottleneck import WidthGatedBottleneck
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.norm import frozen_statistics
from tnn_edge.nn.residual import Skip

SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnext_w": (
        "resnext_w",
        {"channels": [8, 12], "blocks": [2, 1], "component_channels": [3, 3], "n_components": 4},
    ),
    "resnet_w": ("resnet_w", {"channels": [8, 12], "blocks": [2, 1], "inner_channels": [8, 12], "n_components": 4}),
    "resnet_d": ("resnet_d", {"channels": [8, 12], "blocks": [2, 2]}),
    "resnet_d of bottlenecks": ("resnet_d", {"channels": [8, 12], "blocks": [2, 2], "block": "bottleneck"}),
    "vgg": ("vgg", {"channels": [8, 12], "convolutions": [2, 1], "hidden": [16], "n_components": 4, "image_size": 8}),
    "vgg without norm": (
        "vgg",
        {
            "channels": [8, 12], "convolutions": [1, 1], "hidden": [16, 8], "n_components": 4, "image_size": 8,
            "norm": False,
        },
    ),
    "densenet": ("densenet", {"layers": [3, 4], "growth": 4}),
    "efficientnet_lite": (
        "efficientnet_lite",
        {
            "channels": [8, 12, 12], "blocks": [2, 1, 3], "kernels": [3, 5, 3], "strides": [2, 2, 1],
            "stem_channels": [6, 4], "head_channels": 16, "expansion": 4, "n_components": 4, "dropout": 0.0,
        },
    ),
}  # fmt: skip
EXACT = 1e-5  # float32: the same sums in another order


def build(name: str, seed: int = 0, **more: Any) -> ThrottleableNetwork:
    torch.manual_seed(seed)
    architecture, sizes = SIZES[name]
    return randomise_norms(build_network(architecture, {**sizes, "n_classes": 5, **more}), seed)


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
    return [allowed(random_gates(network.schedule.sizes, generator), network.schedule) for _ in range(n)]


def bits_of(block: GatedBlock, *, on: int) -> GateVector:
    return {block.gate: (on,) * block.n_components}


# --- off means absent


def plain_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    mean, var, weight, bias = (
        t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


@pytest.mark.parametrize("name", ["resnext_w", "resnet_w", "resnet_d", "resnet_d of bottlenecks"])
def test_a_summed_block_with_nothing_on_is_its_skip_connection_alone(name: str) -> None:
    network = build(name)
    assert network.stem is not None
    x = network.stem(images())
    for block in network.gated_blocks.values():
        skip = block.get_submodule("skip")
        assert isinstance(skip, Skip)
        expected = (
            x if skip.conv is None else plain_norm(F.conv2d(x, skip.conv.weight, stride=skip.conv.stride), skip.norm)
        )
        masked = block(x, as_masks(bits_of(block, on=0), len(x)))
        sliced = block.sliced(x, {block.gate: ()})
        assert torch.equal(masked, sliced), block.gate
        torch.testing.assert_close(sliced, F.relu(expected), rtol=EXACT, atol=EXACT)
        x = block(x)


def test_a_dense_block_with_nothing_on_passes_its_input_on() -> None:
    network = build("densenet")
    assert network.stem is not None
    x = network.stem(images())
    block = network.gated_blocks["dense1"]
    assert torch.equal(block.sliced(x, {"dense1": ()}), x)


def test_a_block_without_skip_connection_says_that_it_needs_a_component() -> None:
    block = WidthGatedBottleneck(
        gate="b", in_channels=4, out_channels=6, n_components=2, component_channels=2, has_skip=False
    )
    with pytest.raises(ValueError, match=r"^b has no skip connection, so it needs a component that is on$"):
        block.sliced(torch.zeros(1, 4, 4, 4), {"b": ()})


def off_entries(section: Section, gates: GateVector) -> Iterator[tuple[str, int, Tensor]]:
    """State-dict name, axis, and the entries that belong to components that are off."""
    for name, tensor in section.sliced_tensors().items():
        for axis_slice in tensor.slices:
            lying = axis_slice.components
            bits = gates[lying.gate][: lying.n_components]
            off = [
                lying.ungated + i * lying.channels + j
                for i, bit in enumerate(bits)
                if not bit
                for j in range(lying.channels)
            ]
            yield name, axis_slice.axis, torch.tensor(off, dtype=torch.long)


def spoil(network: ThrottleableNetwork, gates: GateVector) -> None:
    """Overwrite everything that belongs to a component that is off."""
    for _, section in network.sections():
        tensors = section.state_dict()
        for name, axis, off in off_entries(section, gates):
            tensors[name].index_fill_(axis, off, 70.0)
        if isinstance(section, GatedBlock) and section.n_components == 1 and gates[section.gate] == (0,):
            for name, tensor in tensors.items():
                if not name.startswith("skip."):
                    tensor.fill_(7)
        for i, bit in enumerate(gates.get(getattr(section, "gate", ""), ())):
            for name, tensor in tensors.items():
                if name.startswith(f"layers.{i}.") and not bit:
                    tensor.fill_(7)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_component_that_is_off_contributes_exactly_nothing(name: str) -> None:
    x = images()
    for gates in vectors(build(name), 8):
        clean, spoilt = build(name), build(name)
        spoil(spoilt, gates)
        assert torch.equal(spoilt.sliced(x, gates), clean.sliced(x, gates))
        assert torch.equal(spoilt(x, as_masks(gates, len(x))), clean(x, as_masks(gates, len(x))))
        if not all(map(all, gates.values())):
            assert not torch.equal(spoilt(x), clean(x))  # it was worth spoiling


# --- u = 1 is the plain network


def test_with_every_gate_on_masked_and_sliced_are_the_plain_network(network: ThrottleableNetwork) -> None:
    x = images()
    everything = {name: (1,) * n for name, n in network.schedule.sizes.items()}
    assert network.schedule.vector(1.0) == everything
    expected = network(x)
    assert relative_error(network(x, as_masks(everything, len(x))), expected) <= EXACT
    assert relative_error(network.sliced(x, everything), expected) <= EXACT
    assert relative_error(network.sliced(x, network.schedule.vector(0.4)), expected) > 100 * EXACT


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


@pytest.mark.parametrize("name", sorted(SIZES))
def test_sliced_equals_masked_in_training_mode(name: str) -> None:
    """One vector for the batch: each layer normalises the same batch either way."""
    network = build(name).train()
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


@pytest.mark.parametrize("name", sorted(SIZES))
def test_sliced_gradients_flow_into_components_that_are_on_only(name: str) -> None:
    network = build(name)
    for gates in vectors(network, 4):
        network.zero_grad()
        with torch.enable_grad():
            network.sliced(images(), gates).square().sum().backward()
        for _, section in network.sections():
            parameters = dict(section.named_parameters())
            for tensor, axis, off in off_entries(section, gates):
                gradient = parameters[tensor].grad if tensor in parameters else None
                if gradient is not None:
                    assert not gradient.index_select(axis, off).any(), tensor
        for gate, block in network.gated_blocks.items():
            for parameter, gradient in ((name, p.grad) for name, p in block.named_parameters()):
                if not parameter.startswith("skip."):
                    has_gradient = gradient is not None and bool(gradient.any())
                    assert has_gradient == is_on(parameter, gates[gate]), (gate, parameter)


def is_on(parameter: str, bits: Sequence[int]) -> bool:
    """Whether any of a parameter belongs to a component that is on; a dense block has a layer for each."""
    return any(bits) if not parameter.startswith("layers.") else bool(bits[int(parameter.split(".")[1])])


def gradients(network: ThrottleableNetwork, logits: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    logits.square().sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("name", sorted(SIZES))
def test_masked_and_sliced_gradients_are_equal(name: str) -> None:
    x, network = images(), build(name)
    for gates in vectors(network, 3):
        with torch.enable_grad():
            sliced = gradients(network, network.sliced(x, gates))
            masked = gradients(network, network(x, as_masks(gates, len(x))))
        for parameter, expected in masked.items():
            near_zero = 1e-4 * float(expected.abs().max()) + 1e-6
            torch.testing.assert_close(sliced[parameter], expected, rtol=1e-3, atol=near_zero)


# --- cost


def counted_macs(network: ThrottleableNetwork, gates: GateVector, size: int) -> int:
    """As PyTorch counts what it really runs: two operations to a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        network.sliced(images(1, size=size), gates)
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("size", [8, 11])
def test_macs_are_what_the_sliced_network_runs(network: ThrottleableNetwork, size: int) -> None:
    if "fc1" in network.blocks and size != 8:
        size = 8  # its fully connected layer fits one size
    points = [gates for _, gates in network.schedule.operating_points()]
    for gates in (*points, *vectors(network, 12)):
        assert network.macs(gates, size) == counted_macs(network, gates, size)


def test_macs_of_an_imagenet_stem_are_what_it_runs() -> None:
    network = build_network("resnet_d", {"channels": [8, 16], "blocks": [1, 1], "stem": "imagenet"}).eval()
    gates = network.schedule.vector(1.0)
    assert network.macs(gates, 64) == counted_macs(network, gates, 64)


def test_a_component_weighs_what_the_network_loses_with_it_alone(network: ThrottleableNetwork) -> None:
    """Where no other component reads it: those of a summed module, the last of a chain and of a dense block."""
    everything = network.schedule.vector(1.0)
    full = network.macs(everything, 8)
    costs = network.component_costs(8)
    for name, block in network.gated_blocks.items():
        if block.branch_norm is None or getattr(block, "grouping", "") == "dense":
            continue
        without = {**everything, name: (*everything[name][:-1], 0)}
        assert full - network.macs(without, 8) == costs[name][-1]


def test_a_layer_of_a_dense_block_weighs_more_the_more_it_reads() -> None:
    (first, second, third), *_ = build("densenet").component_costs(8).values()
    assert (
        second - first == third - second == 4 * (4 * 4) * 8 * 8
    )  # growth channels more, into a bottleneck of 4 growth


# --- what a recipe may ask for


def test_every_architecture_is_among_the_networks_tested_here() -> None:
    assert {architecture for architecture, _ in SIZES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "sizes", "says"),
    [
        ("resnet", {}, "unknown architecture 'resnet'; known: densenet, "),
        (
            "vgg",
            {"order": "paper_dn"},
            "vgg: components open 'nested' or 'independent', got 'paper_dn'; only",
        ),
        ("vgg", {"channels": [8, 10]}, "vgg: a layer of 10 does not divide into 4 components"),
        ("vgg", {"image_size": 10}, "vgg: image_size 10 cannot be halved 2 times"),
        ("vgg", {"convolutions": [1]}, "vgg: 2 stages have channels, 1 have convolutions"),
        ("vgg", {"hidden": []}, "vgg: there must be at least one fully connected layer before the last"),
        ("densenet", {"layers": []}, "densenet: there must be at least one dense block"),
        ("densenet", {"layers": [3, 0]}, "densenet: dense2 must have at least one component, got 0"),
        ("resnet_w", {"inner_channels": [8, 10]}, "resnet_w: inner_channels 10 do not divide into 4 components"),
        ("resnet_d", {"block": "wide"}, "resnet_d: block must be 'basic' or 'bottleneck', got 'wide'"),
        ("resnet_d", {"blocks": [1]}, "resnet_d: 2 stages have channels, 1 have blocks"),
        ("resnet_d", {"width": 3}, "resnet_d: .*unexpected keyword argument 'width'"),
        ("vgg", {"n_components": 0}, "vgg: there must be at least one component, got 0"),
        ("resnet_w", {"n_components": 0}, "resnet_w: there must be at least one component, got 0"),
        ("resnext_w", {"n_components": 0}, "resnext_w: stage1_block1 must have at least one component, got 0"),
        ("resnext_w", {"order": "sorted"}, "resnext_w: components open 'nested' or 'independent', got 'sorted'"),
        ("resnext_w", {"stem": "tiny"}, "resnext_w: stem must be 'cifar' or 'imagenet', got 'tiny'"),
        ("resnext_w", {"n_components": True}, "resnext_w: n_components must be a whole number .*, got True"),
        ("resnext_w", {"n_components": "4"}, "resnext_w: n_components must be a whole number .*, got '4'"),
        ("resnext_w", {"stem_channels": 0}, "resnext_w: stem_channels must be at least 1, got 0"),
        ("resnext_w", {"component_channels": [2]}, "resnext_w: a list of its sizes is shorter than it has stages"),
        ("resnet_d", {"channels": "abc"}, "resnet_d: channels must be a list of whole numbers .*, got 'abc'"),
        ("resnet_d", {"channels": [8, 2**31]}, r"resnet_d: channels must be .* below 2\^31, got \[8, 2147483648\]"),
        ("resnet_d", {"channels": [-8, 16]}, r"resnet_d: channels must be at least 1, got \[-8, 16\]"),
        ("resnet_d", {"blocks": [1, 0]}, r"resnet_d: blocks must be at least 1, got \[1, 0\]"),
        ("resnet_d", {"n_classes": 2**30, "channels": [8, 2**20]}, "resnet_d: .*; choose smaller sizes"),
        ("vgg", {"norm": "no"}, "vgg: norm must be true or false, got 'no'"),
    ],
)  # fmt: skip
def test_sizes_that_fit_no_network_are_named(architecture: str, sizes: Mapping[str, Any], says: str) -> None:
    _, usual = SIZES.get(architecture, ("", {}))
    with pytest.raises(RunError, match=f"^{says}"):
        build_network(architecture, {**usual, **sizes})
