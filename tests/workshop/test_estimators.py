"""Gradients through gates, compared with the exact ones on problems small enough to enumerate or to integrate."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import BlindController
from train.estimators import (
    Concrete,
    Reinforce,
    concrete_gates,
    log_probability,
    modified_sigmoid,
    score_function,
)
from train.gate_start import start
from train.penalty import Penalty, soft_utilisation

LOGITS = torch.tensor([0.7, -1.1, 0.2], dtype=torch.float64)
N = len(LOGITS)
VECTORS = torch.tensor(list(product([0.0, 1.0], repeat=N)), dtype=torch.float64)  # all 2^n


def uneven(gates: Tensor) -> Tensor:
    """A loss in which components interact, far from 0 so that a baseline matters: [..., n] -> [...]."""
    a, b, c = gates.unbind(-1)
    return 20.0 + 3.0 * a - 2.0 * b * c + (a - b - 0.5 * c) ** 2


def exact_gradient(alpha: float) -> Tensor:
    """d/d logits of sum_g Pr(g) J(g), over all vectors."""
    logits = LOGITS.clone().requires_grad_()
    p = alpha * logits.sigmoid() + (1 - alpha) * (1 - logits.sigmoid())
    expected = sum(
        (uneven(g) * torch.prod(torch.where(g > 0, p, 1 - p)) for g in VECTORS), start=torch.zeros((), dtype=p.dtype)
    )
    (gradient,) = torch.autograd.grad(expected, logits)
    return gradient


def gradient_of(surrogate: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(logits), logits)
    return gradient


# --- score function


@pytest.mark.parametrize("alpha", [0.8, 0.99, 1.0])
@pytest.mark.parametrize("n_samples", [2, 3])
def test_score_function_averaged_over_all_draws_is_the_exact_gradient(alpha: float, n_samples: int) -> None:
    p = modified_sigmoid(LOGITS, alpha)
    mean = torch.zeros(N, dtype=torch.float64)
    for draws in product(VECTORS, repeat=n_samples):
        gates = torch.stack(draws)[:, None]  # [S, 1, n]
        probability = torch.exp(log_probability(gates, p).sum())
        logits = LOGITS.clone().requires_grad_()
        surrogate = score_function(modified_sigmoid(logits[None], alpha), gates, uneven(gates))
        (estimate,) = torch.autograd.grad(surrogate, logits)
        mean += probability * estimate
    assert mean.tolist() == pytest.approx(exact_gradient(alpha).tolist(), rel=1e-10)


def reinforce_estimates(n: int, epoch: float) -> Tensor:
    """n independent estimates, shape [n, 3]: examples of one batch do not touch one another."""
    generator = torch.Generator().manual_seed(0)
    rows = LOGITS.expand(n, N)
    return n * gradient_of(lambda x: Reinforce()(x, uneven, epoch=epoch, generator=generator), rows)


@pytest.mark.parametrize("epoch", [0.0, 30.0])
def test_mean_of_many_reinforce_estimates_lies_within_its_standard_error(epoch: float) -> None:
    n = 200_000
    estimates = reinforce_estimates(n, epoch)
    error = estimates.std(dim=0) / math.sqrt(n)
    assert ((estimates.mean(dim=0) - exact_gradient(Reinforce().alpha(epoch))).abs() < 4 * error).all()
    assert (error < 0.05).all()  # so that the line above says something


def test_mean_of_the_other_draws_cuts_the_variance_and_that_of_all_would_be_biased() -> None:
    n, alpha = 50_000, 0.99
    p = modified_sigmoid(LOGITS, alpha).expand(n, N)
    gates = (torch.rand(2, n, N, generator=torch.Generator().manual_seed(1)) < p).double()
    losses = uneven(gates)

    def estimates(weights: Tensor) -> Tensor:
        return n * gradient_of(
            lambda x: (weights * log_probability(gates, modified_sigmoid(x, alpha))).mean(), LOGITS.expand(n, N)
        )

    without = estimates(losses)
    assert (reinforce_estimates(n, 30.0).std(dim=0) < 0.2 * without.std(dim=0)).all()
    naive = estimates(losses - losses.mean(dim=0))  # the mean that holds the draw itself: half the gradient is lost
    assert naive.mean(dim=0).tolist() == pytest.approx((exact_gradient(alpha) / 2).tolist(), rel=0.1)


def test_log_probability_is_that_of_independent_coins() -> None:
    p = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
    assert float(log_probability(torch.tensor([0.0, 1.0, 1.0]), p)) == pytest.approx(math.log(0.9 * 0.9 * 0.4))
    assert float(torch.exp(log_probability(VECTORS, p)).sum()) == pytest.approx(1.0)


def test_modified_sigmoid_stays_off_both_ends_and_is_annealed() -> None:
    extremes = modified_sigmoid(torch.tensor([-1e3, 0.0, 1e3]), 0.8)
    assert extremes.tolist() == pytest.approx([0.2, 0.5, 0.8])
    estimator = Reinforce()
    assert [estimator.alpha(epoch) for epoch in (0, 10, 20, 149)] == pytest.approx([0.8, 0.895, 0.99, 0.99])


# --- relaxed gates

DRAWS = (np.arange(4001) + 0.5) / 4001  # midpoints of equal shares of the uniform distribution
LOGISTIC = np.log(DRAWS / (1 - DRAWS))


def relaxed_expectation(logit: float, temperature: float, loss: Callable[[np.ndarray], np.ndarray]) -> float:
    """E[J(sigmoid((L + log alpha) / t))] by the midpoint rule over the distribution function of L."""
    z = (LOGISTIC + logit) / temperature
    return float(loss(0.5 * (1 + np.tanh(z / 2))).mean())


def pathwise(logits: Tensor, noise: Tensor, temperature: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of the pathwise gradient over rows of noise, shape [P, n] -> [n]."""
    return gradient_of(lambda x: loss(concrete_gates(x.expand_as(noise), noise, temperature)).mean(), logits)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("logit", [-1.5, 0.0, 0.8])
def test_pathwise_gradient_is_the_derivative_of_the_relaxed_expectation(logit: float, temperature: float) -> None:
    h = 1e-4
    above, below = (relaxed_expectation(logit + step, temperature, lambda g: np.exp(-3 * g) + g) for step in (h, -h))
    noise = torch.from_numpy(LOGISTIC)[:, None]
    found = pathwise(
        torch.tensor([logit], dtype=torch.float64), noise, temperature, lambda g: torch.exp(-3 * g[:, 0]) + g[:, 0]
    )
    assert float(found) == pytest.approx((above - below) / (2 * h), rel=1e-3)


def test_pathwise_gradient_of_two_gates_is_the_derivative_of_the_relaxed_expectation() -> None:
    logits, temperature, h = np.array([0.6, -0.4]), 0.4, 1e-4
    draws = (np.arange(301) + 0.5) / 301
    noise = np.log(draws / (1 - draws))

    def expectation(a: float, b: float) -> float:
        first, second = (0.5 * (1 + np.tanh((noise + x) / temperature / 2)) for x in (a, b))
        return float(((first[:, None] - 2 * second[None]) ** 2 + first[:, None] * second[None]).mean())

    a, b = logits
    numeric = [
        (expectation(a + h, b) - expectation(a - h, b)) / (2 * h),
        (expectation(a, b + h) - expectation(a, b - h)) / (2 * h),
    ]
    grid = torch.cartesian_prod(torch.from_numpy(noise), torch.from_numpy(noise))
    found = pathwise(
        torch.from_numpy(logits), grid, temperature, lambda g: (g[:, 0] - 2 * g[:, 1]) ** 2 + g[:, 0] * g[:, 1]
    )
    assert found.tolist() == pytest.approx(numeric, rel=1e-4)


def test_relaxed_gradient_tends_to_the_exact_one_as_the_temperature_falls() -> None:
    logit = 0.8
    p = 1 / (1 + math.exp(-logit))
    exact = p * (1 - p) * (math.exp(-3) - math.exp(0))  # derivative of p J(1) + (1 - p) J(0) with J(g) = exp(-3 g)
    noise, logits = torch.from_numpy(LOGISTIC)[:, None], torch.tensor([logit], dtype=torch.float64)
    found = [float(pathwise(logits, noise, t, lambda g: torch.exp(-3 * g[:, 0]))) for t in (1.0, 0.3, 0.1, 0.03)]
    errors = [abs(gradient - exact) for gradient in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * abs(exact)


def test_mean_of_many_concrete_estimates_lies_within_its_standard_error() -> None:
    n, logit, temperature, h = 100_000, 0.8, 0.5, 1e-4
    above, below = (relaxed_expectation(logit + step, temperature, lambda g: np.exp(-3 * g)) for step in (h, -h))
    rows = torch.full((n, 1), logit, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    estimates = n * gradient_of(
        lambda x: Concrete(temperature=temperature)(
            x, lambda g: torch.exp(-3 * g[:, 0]), epoch=0.0, generator=generator
        ),
        rows,
    )
    error = float(estimates.std()) / math.sqrt(n)
    assert float(estimates.mean()) == pytest.approx((above - below) / (2 * h), abs=4 * error)
    assert error < 0.002


def test_relaxed_gates_of_temperature_near_zero_are_coins() -> None:
    n, logit = 40_000, 0.8
    seen: list[Tensor] = []

    def keep(gates: Tensor) -> Tensor:
        seen.append(gates)
        return gates[:, 0]

    rows, generator = torch.full((n, 1), logit), torch.Generator().manual_seed(0)
    Concrete(temperature=1e-4)(rows, keep, epoch=0.0, generator=generator)
    p = 1 / (1 + math.exp(-logit))
    assert float(((seen[0] < 1e-3) | (seen[0] > 1 - 1e-3)).float().mean()) > 0.999
    assert float(seen[0].mean()) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


# --- a problem whose best gates are known


@pytest.mark.parametrize("estimator", [Reinforce(anneal_epochs=2.0), Concrete()])
def test_controller_learns_to_open_what_helps_and_to_leave_what_harms(estimator: Reinforce | Concrete) -> None:
    components = Components(sizes={"a": 4, "b": 4}, least={"a": 0, "b": 0})
    helps = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    worth = torch.where(helps > 0, 1.0, -0.5)  # with a small penalty, exactly what helps is best at u = .5
    costs, penalty, half = torch.ones(8), Penalty(lambda_=2.0), torch.tensor([0.5])
    controller = BlindController(8)
    start(controller, components, costs, seed=0)
    before = components.thresholded(controller(half))
    optimiser = torch.optim.Adam(controller.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        u = torch.rand(64, generator=generator)

        def loss(gates: Tensor, u: Tensor = u) -> Tensor:
            return penalty(soft_utilisation(gates, costs), u) - gates @ worth

        optimiser.zero_grad()
        estimator(controller(u), loss, epoch=step / 100, generator=generator).backward()
        optimiser.step()
    assert (before != helps).any()  # the random order it starts from opens others
    assert components.thresholded(controller(half)).tolist() == [helps.tolist()]
