"""Gradients of an expected loss over gates that are drawn.

A controller gives log-odds; gates are Bernoulli; the loss of a gate vector is any function of it. Hostetler, "Toward
Runtime-Throttleable Neural Networks", section 4.2, names two estimators of the gradient. A binary Concrete variable is
``sigmoid((L + log alpha) / t)`` (Maddison, Mnih & Teh, 2017): that section prints a power of -t, which is a misprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "ESTIMATORS", "Concrete", "Estimator", "Objective", "Reinforce", "concrete_gates", "log_probability",
    "modified_sigmoid", "score_function",
]  # fmt: skip

Objective = Callable[[Tensor], Tensor]
"""Gates in [0, 1], shape [B, n] -> loss of each example, shape [B]."""


class Estimator(Protocol):
    """A way to get a gradient through gates."""

    def __call__(self, logits: Tensor, objective: Objective, *, epoch: float, generator: torch.Generator) -> Tensor:
        """A scalar whose gradient estimates that of the mean expected loss.

        Args:
            logits: log-odds of each component, shape [B, n].
            objective: the loss of gate vectors.
            epoch: of the training, counted from 0, with its fraction.
            generator: random source.
        """


def modified_sigmoid(logits: Tensor, alpha: float) -> Tensor:
    """``alpha p + (1 - alpha)(1 - p)``: probabilities kept off 0 and 1, so that both values stay drawn.

    Wu et al., "BlockDrop" (2018).
    """
    p = logits.sigmoid()
    return alpha * p + (1.0 - alpha) * (1.0 - p)


def log_probability(gates: Tensor, p: Tensor) -> Tensor:
    """log Pr(g) of independent Bernoulli gates: shapes [..., n] -> [...]."""
    return torch.log(gates * p + (1.0 - gates) * (1.0 - p)).sum(dim=-1)


def score_function(p: Tensor, gates: Tensor, losses: Tensor) -> Tensor:
    """A scalar whose gradient is the score function estimate, each draw judged against the mean of the others.

    The others' losses do not depend on a draw, so they may be subtracted from its own without a bias (Kool, van Hoof &
    Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019). Unlike the loss at the thresholded gates, the
    self-critical baseline, it costs no pass that does not also give a draw.

    Args:
        p: probabilities that the gates were drawn from, shape [B, n]; the gradient goes there.
        gates: S >= 2 draws, shape [S, B, n].
        losses: of each draw, shape [S, B].
    """
    n_samples = len(losses)
    advantage = (losses - losses.mean(dim=0)) * n_samples / (n_samples - 1)  # loss - mean of the others
    return (advantage.detach() * log_probability(gates, p)).mean()


def concrete_gates(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Relaxed gates ``sigmoid((L + log alpha) / t)``, in [0, 1].

    Args:
        logits: log alpha = log(p / (1 - p)), shape [B, n].
        noise: L, standard logistic, same shape.
        temperature: t > 0.
    """
    return ((logits + noise) / temperature).sigmoid()


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Score function estimator (Williams, 1992). No gradient goes through the network.

    Attributes:
        n_samples: draws of each example, at least 2.
        first_alpha: of the modified sigmoid at the start.
        last_alpha: after `anneal_epochs`, reached linearly.
        anneal_epochs: how long that takes.
    """

    n_samples: int = 2
    first_alpha: float = 0.8
    last_alpha: float = 0.99
    anneal_epochs: float = 20.0

    def alpha(self, epoch: float) -> float:
        """The modified sigmoid's alpha at an epoch, counted from 0."""
        return self.first_alpha + (self.last_alpha - self.first_alpha) * min(1.0, epoch / self.anneal_epochs)

    def __call__(self, logits: Tensor, objective: Objective, *, epoch: float, generator: torch.Generator) -> Tensor:
        p = modified_sigmoid(logits, self.alpha(epoch))
        with torch.no_grad():
            gates = (torch.rand(self.n_samples, *p.shape, generator=generator) < p).to(p.dtype)
            losses = torch.stack([objective(draw) for draw in gates])
        return score_function(p, gates, losses)


@dataclass(frozen=True, kw_only=True)
class Concrete:
    """Pathwise gradient through relaxed gates (Maddison et al., 2017): low variance, a bias that falls with t.

    Attributes:
        temperature: t.
    """

    temperature: float = 0.1

    def __call__(self, logits: Tensor, objective: Objective, *, epoch: float, generator: torch.Generator) -> Tensor:
        del epoch  # the paper found no use in annealing the temperature
        uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
        eps = torch.finfo(uniform.dtype).eps
        noise = uniform.clamp(min=eps, max=1.0 - eps).logit()
        return objective(concrete_gates(logits, noise, self.temperature)).mean()


ESTIMATORS: Mapping[str, Estimator] = {"reinforce": Reinforce(), "concrete": Concrete()}
