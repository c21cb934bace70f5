"""Learning rates against lists computed by hand, optimisers against their formulas, and their state."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from train.learning_rates import Constant, LearningRate, WarmRestarts, WarmupCosine
from train.optimisers import Adam, Optimiser, Sgd, load_optimiser_state, optimiser_state

# --- learning rates


def rates(schedule: LearningRate, *, epochs: int, steps_per_epoch: int) -> list[float]:
    return [schedule.at(step, steps_per_epoch, epochs) for step in range(epochs * steps_per_epoch)]


def test_warmup_cosine_rises_linearly_then_falls_as_half_a_cosine() -> None:
    found = rates(WarmupCosine(highest=0.2, warmup_epochs=2), epochs=10, steps_per_epoch=50)
    assert found[:100] == pytest.approx([0.2 * (step + 1) / 100 for step in range(100)])
    assert found[100] == max(found) == 0.2
    assert found[300] == pytest.approx(0.2 / 2)  # half way between 100 and 500
    assert found[200] == pytest.approx(0.2 * math.cos(math.pi / 8) ** 2)  # (1 + cos x) / 2 = cos(x / 2) ** 2
    assert found[100:] == sorted(found[100:], reverse=True)
    assert 0.0 < found[-1] < 1e-5


def test_warmup_cosine_without_warm_up_starts_at_the_top() -> None:
    assert WarmupCosine(highest=0.2, warmup_epochs=0).at(0, 7, 1) == 0.2


def test_warm_restarts_give_the_rates_of_the_formula() -> None:
    """Two steps an epoch, periods of 2 and 4 epochs: (1 + cos x) / 2 at multiples of 45 and of 22.5 degrees."""
    found = rates(
        WarmRestarts(highest=0.9, lowest=0.1, first_period_epochs=2, period_factor=2), epochs=7, steps_per_epoch=2
    )
    first = [1.0, 0.853553, 0.5, 0.146447]
    second = [1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    assert found == pytest.approx([0.1 + 0.8 * share for share in [*first, *second, 1.0, 0.990393]], abs=1e-6)


def test_warm_restarts_are_those_of_torch() -> None:
    parameter = nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=3, T_mult=3)
    found = rates(WarmRestarts(highest=0.05, first_period_epochs=3, period_factor=3), epochs=40, steps_per_epoch=4)
    for step, rate in enumerate(found):
        scheduler.step(step / 4)
        assert rate == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)


def test_warm_restarts_of_the_paper_end_with_their_fifth_period() -> None:
    found = rates(WarmRestarts(highest=0.05), epochs=310, steps_per_epoch=3)
    restarts = [i / 3 for i, (before, after) in enumerate(pairwise(found), start=1) if after > before]
    assert restarts == [10, 30, 70, 150]  # then 310: each period twice as long as the last
    assert [found[int(3 * epoch)] for epoch in (0, *restarts)] == [0.05] * 5
    assert 0.0 < found[-1] < 1e-6


def test_constant_rate_is_constant() -> None:
    assert set(rates(Constant(rate=1e-5), epochs=3, steps_per_epoch=4)) == {1e-5}


# --- optimisers


class Layer(nn.Module):
    """A convolution, laid out as training lays it out, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(4, 3, 3, 3, generator=generator)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.randn(4, generator=generator))


def gradients(n: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shapes = {name: parameter.shape for name, parameter in Layer().named_parameters()}
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(n)]


def run(layer: Layer, optimiser: torch.optim.Optimizer, steps: list[dict[str, Tensor]], rate: float = 0.1) -> None:
    for step in steps:
        for name, parameter in layer.named_parameters():
            parameter.grad = torch.empty_like(parameter).copy_(step[name])
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula_and_decays_weights_not_biases(nesterov: bool) -> None:
    layer, steps = Layer(), gradients(4)
    run(layer, Sgd(momentum=0.8, nesterov=nesterov, weight_decay=0.05).build(layer), steps)
    for name, expected in Layer().named_parameters():
        w, v = expected.detach().double(), torch.zeros(expected.shape, dtype=torch.float64)
        for step in steps:
            g = step[name].double() + (0.05 * w if name == "weight" else 0.0)
            v = 0.8 * v + g
            w = w - 0.1 * (g + 0.8 * v if nesterov else v)
        torch.testing.assert_close(layer.get_parameter(name).detach().double(), w, rtol=1e-5, atol=1e-6)


def test_adam_follows_its_formula_and_decays_weights_not_biases() -> None:
    layer, steps = Layer(), gradients(4)
    run(layer, Adam(betas=(0.7, 0.9), weight_decay=0.05).build(layer), steps, rate=0.01)
    for name, expected in Layer().named_parameters():
        w = expected.detach().double()
        m = v = torch.zeros(expected.shape, dtype=torch.float64)
        for t, step in enumerate(steps, start=1):
            g = step[name].double() + (0.05 * w if name == "weight" else 0.0)
            m, v = 0.7 * m + 0.3 * g, 0.9 * v + 0.1 * g**2
            w = w - 0.01 * (m / (1 - 0.7**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-8)
        torch.testing.assert_close(layer.get_parameter(name).detach().double(), w, rtol=1e-5, atol=1e-6)


# --- their state

OPTIMISERS: list[tuple[Optimiser, set[str]]] = [
    (Sgd(), {"momentum_buffer"}),
    (Sgd(momentum=0.0, nesterov=False), set()),
    (Adam(weight_decay=0.01), {"exp_avg", "exp_avg_sq", "step"}),
]


@pytest.mark.parametrize(("settings", "kinds"), OPTIMISERS, ids=["sgd", "no momentum", "adam"])
def test_optimiser_goes_on_from_its_state_with_the_same_bits(settings: Optimiser, kinds: set[str]) -> None:
    whole, steps = Layer(), gradients(6)
    run(whole, settings.build(whole), steps)
    first, second = Layer(), Layer()
    optimiser = settings.build(first)
    run(first, optimiser, steps[:3])
    state = {name: tensor.contiguous() for name, tensor in optimiser_state(first, optimiser).items()}
    assert state.keys() == {f"optimiser.{kind}.{name}" for kind in kinds for name in ("weight", "bias")}
    second.load_state_dict(first.state_dict())
    resumed = settings.build(second)
    load_optimiser_state(second, resumed, {**state, "generator": torch.zeros(1)})
    run(second, resumed, steps[3:])
    for name, parameter in whole.named_parameters():
        assert torch.equal(second.get_parameter(name), parameter)


def test_state_lies_in_memory_as_its_parameter_does() -> None:
    layer = Layer()
    optimiser = Adam().build(layer)
    run(layer, optimiser, gradients(1))
    state = {name: tensor.contiguous() for name, tensor in optimiser_state(layer, optimiser).items()}
    load_optimiser_state(layer, optimiser, state)
    assert optimiser.state[layer.weight]["exp_avg"].stride() == layer.weight.stride() != (27, 9, 3, 1)
