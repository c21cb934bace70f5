"""How u enters a training step: which gates its passes have.

Each way is a table of a recipe, told apart by its `kind`, that draws the gates of a step for itself; `train.step` runs
the passes. The gates are those of the global batch, so that every process of a training draws the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tnn_edge.nn import GateVector, Schedule
from train.settings import Settings
from train.throttle_distributions import ThrottleDistribution, Uniform

__all__ = ["Draw", "NoDraw", "PerExample", "Sandwich", "StepGates", "Students"]


@dataclass(frozen=True)
class Students:
    """Passes that learn what the labelled pass answers: one gate vector each, for the whole batch.

    Attributes:
        gates: of each pass.
        weight: of each pass's loss; that of the labelled pass has weight 1.
    """

    gates: tuple[GateVector, ...]
    weight: float


@dataclass(frozen=True)
class StepGates:
    """Gates of one step.

    Attributes:
        masks: gates of the labelled pass, module -> 0/1 [B, n]; None is u = 1.
        students: passes that it teaches.
    """

    masks: Mapping[str, Tensor] | None = None
    students: Students = Students((), 0.0)

    def part(self, share: slice, device: torch.device) -> StepGates:
        """Those of some of the examples, on a device."""
        if self.masks is None:
            return self
        masks = {name: mask[share].to(device) for name, mask in self.masks.items()}
        return StepGates(masks, self.students)


class NoDraw(Settings):
    """u = 1 throughout: the network the paper calls naive."""

    kind: Literal["none"] = "none"

    def gates(self, _schedule: Schedule, _n: int, _epoch: int, _generator: torch.Generator) -> StepGates:
        """No gates in any step."""
        return StepGates()


class PerExample(Settings):
    """Every example has its own u, masked (Hostetler, section 4.1)."""

    kind: Literal["per_example"] = "per_example"
    u: ThrottleDistribution = Uniform()

    def gates(self, schedule: Schedule, n: int, epoch: int, generator: torch.Generator) -> StepGates:
        """Gates of a step over n examples, in an epoch counted from 0."""
        return StepGates(schedule.masks(self.u.draw(n, epoch, generator), generator))


class Sandwich(Settings):
    """u = 1 with the labels; the smallest and one random u, sliced, taught by the logits at u = 1.

    After Yu & Huang, "Universally Slimmable Networks" (2019): the sandwich rule with distillation in place.
    """

    kind: Literal["sandwich"] = "sandwich"
    smallest_u: float = Field(default=0.0, ge=0.0, lt=1.0)
    student_weight: float = Field(default=1.0, gt=0.0)
    """Weight of the loss of each pass below u = 1; that of u = 1 has weight 1."""
    u: ThrottleDistribution = Uniform()
    """Where the random pass lies between `smallest_u`, which is its 0, and 1."""

    def gates(self, schedule: Schedule, _n: int, epoch: int, generator: torch.Generator) -> StepGates:
        """Gates of a step, the same for all its examples, in an epoch counted from 0."""
        drawn = self.smallest_u + (1.0 - self.smallest_u) * self.u.draw(1, epoch, generator).item()
        vectors = tuple(schedule.vector(u, generator) for u in (self.smallest_u, min(1.0, drawn)))
        return StepGates(students=Students(vectors, self.student_weight))


Draw = Annotated[NoDraw | PerExample | Sandwich, Field(discriminator="kind")]
"""What a recipe may write for `draw`; a further way is a class with its own `kind`, listed here."""
