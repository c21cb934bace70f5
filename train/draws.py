"""How u is drawn in a training step: one function for each, from a batch to a gradient.

A draw runs its passes and their backward passes, so that only one pass's activations are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import frozen_statistics
from train.recipe import Recipe

__all__ = ["DRAWS", "Draw", "StepResult"]


@dataclass(frozen=True)
class StepResult:
    """Loss and number of right answers of one step, at the u that were drawn."""

    loss: float
    n_right: int


Draw = Callable[[ThrottleableNetwork, Tensor, Tensor, Recipe, torch.Generator], StepResult]
"""(network, images [B, 3, H, W], targets [B], recipe, random source) -> result; gradients are left on the network."""


def _labels_loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    return F.cross_entropy(logits.float(), targets, label_smoothing=recipe.optimiser.label_smoothing)


def _result(loss: Tensor, logits: Tensor, targets: Tensor) -> StepResult:
    return StepResult(float(loss.detach()), int((logits.argmax(dim=1) == targets).sum()))


def plain(
    network: ThrottleableNetwork, images: Tensor, targets: Tensor, recipe: Recipe, _generator: torch.Generator
) -> StepResult:
    """u = 1: the network the paper calls naive."""
    logits = network(images)
    loss = _labels_loss(logits, targets, recipe)
    loss.backward()
    return _result(loss, logits, targets)


def uniform(
    network: ThrottleableNetwork, images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator
) -> StepResult:
    """Every example its own u ~ Uniform[0, 1], masked (Hostetler, section 4.1)."""
    masks = network.schedule.masks(torch.rand(len(images), generator=generator), generator)
    logits = network(images, masks)
    loss = _labels_loss(logits, targets, recipe)
    loss.backward()
    return _result(loss, logits, targets)


def sandwich(
    network: ThrottleableNetwork, images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator
) -> StepResult:
    """u = 1 with the labels; the smallest and one random u, sliced, taught by the logits at u = 1.

    After Yu & Huang, "Universally Slimmable Networks" (2019). Running statistics follow the pass at u = 1 alone.
    """
    logits = network(images)
    loss = _labels_loss(logits, targets, recipe)
    loss.backward()
    taught_by = logits.detach().float().softmax(dim=1)
    smallest = recipe.throttle.smallest_u
    drawn = smallest + (1.0 - smallest) * float(torch.rand((), generator=generator))
    with frozen_statistics(network):
        for u in (smallest, drawn):
            student = network.sliced(images, network.schedule.vector(u, generator))
            (recipe.throttle.student_weight * F.cross_entropy(student.float(), taught_by)).backward()
    return _result(loss, logits, targets)


DRAWS: Mapping[str, Draw] = {"none": plain, "uniform": uniform, "sandwich": sandwich}
