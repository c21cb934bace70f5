"""How u is drawn: each distribution against its formula, the gates of a step, the losses that they lead to."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from tests.workshop.conftest import colours, randomise_norms, small_recipe
from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.dataset import normalised
from tnn_edge.nn.gating import as_masks
from train.draws import NoDraw, PerExample, Sandwich, StepGates
from train.step import TrainingStep
from train.throttle_distributions import Annealed, Beta, Mixture, ThrottleDistribution, Uniform

N = 20_000
CPU = torch.device("cpu")
CDF = Callable[[Tensor], Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_distributed(u: Tensor, cdf: CDF) -> None:
    """Kolmogorov-Smirnov, at a level of 1 %."""
    place = cdf(u.double()).sort().values.numpy()
    assert np.abs(place - np.linspace(0.0, 1.0, len(place))).max() < 1.63 / len(place) ** 0.5


def uniform_cdf(low: float, high: float) -> CDF:
    return lambda u: (u - low) / (high - low)


# --- distributions


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 1.0), (0.1, 0.7)])
def test_uniform_covers_its_range_evenly(low: float, high: float) -> None:
    u = Uniform(low=low, high=high).draw(N, 0, seeded())
    assert low - 1e-6 <= float(u.min()) < low + 0.01
    assert high - 0.01 < float(u.max()) <= high + 1e-6
    assert_distributed(u, uniform_cdf(low, high))


def test_annealed_lower_end_falls_from_1_by_the_same_every_epoch_until_it_is_0() -> None:
    annealed = Annealed(fall_per_epoch=0.05)
    lowest = [annealed.lowest(epoch) for epoch in range(30)]
    assert lowest == pytest.approx([(20 - epoch) / 20 for epoch in range(20)] + [0.0] * 10)
    assert min(lowest) == 0.0  # rounding does not carry it below


def test_annealed_is_uniform_above_its_lower_end() -> None:
    annealed = Annealed(fall_per_epoch=0.3)
    assert annealed.draw(N, 0, seeded()).unique().tolist() == [1.0]
    for epoch, lowest in ((1, 0.7), (2, 0.4), (3, 0.1), (4, 0.0), (9, 0.0)):
        u = annealed.draw(N, epoch, seeded(epoch))
        assert float(u.max()) <= 1.0
        assert_distributed(u, uniform_cdf(lowest, 1.0))


@pytest.mark.parametrize(
    ("a", "b", "cdf"),
    [
        (2.0, 1.0, lambda u: u**2),
        (1.0, 3.0, lambda u: 1 - (1 - u) ** 3),
        (0.5, 0.5, lambda u: 2 / math.pi * u.sqrt().asin()),  # the arcsine law
        (2.0, 2.0, lambda u: 3 * u**2 - 2 * u**3),
    ],
)
def test_beta_has_the_distribution_and_moments_of_its_formula(a: float, b: float, cdf: CDF) -> None:
    u = Beta(a=a, b=b).draw(N, 0, seeded())
    assert_distributed(u, cdf)
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    assert float(u.mean()) == pytest.approx(a / (a + b), abs=4 * (variance / N) ** 0.5)
    assert float(u.var()) == pytest.approx(variance, rel=0.05)


def test_mixture_is_at_1_for_its_share_and_as_the_rest_otherwise() -> None:
    u = Mixture(share_at_one=0.3, rest=Beta(a=2.0, b=1.0)).draw(N, 0, seeded())
    is_at_one = u == 1.0
    assert float(is_at_one.float().mean()) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / N) ** 0.5)
    assert_distributed(u[~is_at_one], lambda u: u**2)


def test_mixture_hands_the_epoch_on() -> None:
    mixture = Mixture(share_at_one=0.5, rest=Annealed(fall_per_epoch=0.25))
    lowest = [float(mixture.draw(N, epoch, seeded()).min()) for epoch in range(5)]
    assert lowest == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0], abs=0.01)


DISTRIBUTIONS: list[ThrottleDistribution] = [
    Uniform(),
    Annealed(fall_per_epoch=0.1),
    Beta(a=0.5, b=2.0),
    Mixture(share_at_one=0.2, rest=Uniform()),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.kind)
def test_draws_repeat_with_the_generator_and_with_nothing_else(distribution: ThrottleDistribution) -> None:
    torch.manual_seed(1)
    source = seeded(5)
    first, later = (distribution.draw(100, 3, source) for _ in range(2))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 (the global state that must not matter)
    assert torch.equal(distribution.draw(100, 3, seeded(5)), first)
    assert not torch.equal(later, first)
    assert not torch.equal(distribution.draw(100, 3, seeded(6)), first)


unit = st.floats(0.0, 1.0, allow_subnormal=False)
some_fraction = st.floats(0.01, 0.99)
uniforms = st.tuples(unit, unit).filter(lambda ends: ends[0] != ends[1]).map(
    lambda ends: {"kind": "uniform", "low": min(ends), "high": max(ends)}
)  # fmt: skip
annealeds = some_fraction.map(lambda fall: {"kind": "annealed", "fall_per_epoch": fall})
betas = st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)).map(lambda ab: {"kind": "beta", "a": ab[0], "b": ab[1]})
simple = st.one_of(uniforms, annealeds, betas)
mixtures = st.tuples(some_fraction, simple).map(lambda m: {"kind": "mixture", "share_at_one": m[0], "rest": m[1]})


@given(st.one_of(simple, mixtures), st.integers(0, 40), st.integers(0, 2**32), st.integers(1, 50))
def test_every_distribution_stays_on_the_dial(table: dict[str, object], epoch: int, seed: int, n: int) -> None:
    distribution: ThrottleDistribution = TypeAdapter(ThrottleDistribution).validate_python(table)
    u = distribution.draw(n, epoch, seeded(seed))
    assert (u.shape, u.dtype) == ((n,), torch.float32)
    assert float(u.min()) >= 0.0
    assert float(u.max()) <= 1.0


# --- the gates of a step


@pytest.fixture
def network() -> ThrottleableNetwork:
    torch.manual_seed(0)
    return randomise_norms(build_network("resnext_w", small_recipe().network.sizes)).train()


def test_no_draw_has_no_gates(network: ThrottleableNetwork) -> None:
    assert NoDraw().gates(network.schedule, 8, 0, seeded()) == StepGates()


def test_every_example_has_the_gates_of_its_own_throttle(network: ThrottleableNetwork) -> None:
    masks = PerExample().gates(network.schedule, 64, 0, seeded()).masks
    u = torch.rand(64, generator=seeded())
    k = (u * 5).floor().clamp(max=4)  # min(n, floor(u (n + 1))), n = 4
    assert masks is not None
    assert masks.keys() == network.schedule.sizes.keys()
    for mask in masks.values():
        assert torch.equal(mask, (torch.arange(4) < k[:, None]).float())
    assert k.unique().tolist() == [0, 1, 2, 3, 4]


def test_annealed_gates_are_all_open_in_the_first_epoch_only(network: ThrottleableNetwork) -> None:
    draw = PerExample(u=Annealed(fall_per_epoch=0.5))
    shares = []
    for epoch in range(3):
        masks = draw.gates(network.schedule, 1000, epoch, seeded()).masks
        assert masks is not None
        shares.append(float(torch.cat([mask.flatten() for mask in masks.values()]).mean()))
    # E[min(4, floor(5 u))] / 4: all of u = 1; of [1/2, 1] 2 for 1/5, 3 for 2/5, 4 for 2/5; of [0, 1] (0+1+2+3+4) / 5
    assert shares == pytest.approx([1.0, (2 + 3 * 2 + 4 * 2) / 5 / 4, 1 / 2], abs=0.03)


def test_processes_share_the_gates_of_the_global_batch(network: ThrottleableNetwork) -> None:
    gates = PerExample().gates(network.schedule, 12, 0, seeded())
    parts = [gates.part(slice(start, start + 4), CPU) for start in (0, 4, 8)]
    assert gates.masks is not None
    for name, mask in gates.masks.items():
        assert torch.equal(torch.cat([part.masks[name] for part in parts if part.masks is not None]), mask)
    sandwich = Sandwich().gates(network.schedule, 12, 0, seeded())
    assert sandwich.part(slice(0, 4), CPU) == sandwich


@pytest.mark.parametrize("smallest", [0.0, 0.4])
def test_sandwich_has_the_smallest_and_one_random_throttle_above_it(
    network: ThrottleableNetwork, smallest: float
) -> None:
    draw, schedule, on = Sandwich(smallest_u=smallest, student_weight=0.3), network.schedule, []
    for seed in range(50):
        gates = draw.gates(schedule, 8, 0, seeded(seed))
        drawn = smallest + (1 - smallest) * float(torch.rand((), generator=seeded(seed)))
        assert gates.masks is None
        assert gates.students.weight == 0.3
        assert gates.students.gates == (schedule.vector(smallest), schedule.vector(drawn))
        on.append(sum(gates.students.gates[1]["stage1_block1"]))
    assert sorted(set(on)) == list(range(math.floor(smallest * 5), 5))


def test_sandwich_follows_the_distribution_of_its_random_throttle(network: ThrottleableNetwork) -> None:
    draw = Sandwich(u=Annealed(fall_per_epoch=1.0))
    everything = network.schedule.vector(1.0)
    first = [draw.gates(network.schedule, 8, 0, seeded(seed)).students.gates[1] for seed in range(20)]
    second = [draw.gates(network.schedule, 8, 1, seeded(seed)).students.gates[1] for seed in range(20)]
    assert all(gates == everything for gates in first)
    assert any(gates != everything for gates in second)


# --- the passes of a step


def images_and_targets(n: int = 32) -> tuple[Tensor, Tensor]:
    data, settings = colours(n), small_recipe().data
    return normalised(data.images, settings.mean, settings.std), data.targets


def test_labelled_pass_answers_and_learns_at_its_own_gates(network: ThrottleableNetwork) -> None:
    images, targets = images_and_targets()
    gates = PerExample().gates(network.schedule, len(images), 0, seeded())
    other = copy.deepcopy(network)
    loss, logits = TrainingStep(network, label_smoothing=0.1)(images, targets, gates)
    expected = other(images, gates.masks)
    assert torch.equal(logits, expected)
    chosen = expected.log_softmax(dim=1)
    by_hand = -(0.9 * chosen[torch.arange(32), targets] + 0.1 * chosen.mean(dim=1)).mean()
    assert float(loss.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)


def test_sandwich_updates_running_statistics_at_full_throttle_only(network: ThrottleableNetwork) -> None:
    images, targets = images_and_targets()
    plain = copy.deepcopy(network)
    loss, _ = TrainingStep(network, label_smoothing=0.0)(
        images, targets, Sandwich().gates(network.schedule, len(images), 0, seeded())
    )
    loss.backward()
    plain(images)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    assert int(network.state_dict()["stem.norm.num_batches_tracked"]) == 1


def test_sandwich_gradient_is_that_of_its_three_losses(network: ThrottleableNetwork) -> None:
    """Labels at u = 1; at the smallest and one random u the answers at u = 1, masked here where the step slices."""
    images, targets = images_and_targets()
    weight, other = 0.3, copy.deepcopy(network)
    gates = Sandwich(student_weight=weight).gates(network.schedule, len(images), 0, seeded())
    loss, logits = TrainingStep(network, label_smoothing=0.0)(images, targets, gates)
    loss.backward()

    full = other(images)
    assert torch.equal(logits, full)
    expected = F.cross_entropy(full, targets)
    taught_by = full.detach().softmax(dim=1)
    for u in (0.0, float(torch.rand((), generator=seeded()))):
        student = other(images, as_masks(other.schedule.vector(u), len(images)))
        expected = expected - weight * (taught_by * student.log_softmax(dim=1)).sum(dim=1).mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (name, p), q in zip(network.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * float(q.grad.abs().max()) + 1e-6, msg=name)
