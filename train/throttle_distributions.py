"""How the throttle u is distributed over the examples of a training.

Each distribution is a table of a recipe, told apart by its `kind`, that draws for itself. The distribution of u in
training is a prior on the settings that users will choose (Hostetler, "Toward Runtime-Throttleable Neural Networks",
section 4.1).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from train.settings import Settings

__all__ = ["Annealed", "Beta", "Mixture", "ThrottleDistribution", "Uniform"]


def _between(low: float, high: float, n: int, generator: torch.Generator) -> Tensor:
    u = low + (high - low) * torch.rand(n, generator=generator)
    return u.clamp(max=high)  # rounding may carry the sum past the upper end


class Uniform(Settings):
    """u ~ Uniform[low, high]; the paper's for training from scratch, over all of [0, 1]."""

    kind: Literal["uniform"] = "uniform"
    low: float = Field(default=0.0, ge=0.0, le=1.0)
    high: float = Field(default=1.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _check_order(self) -> Uniform:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low:g} and high {self.high:g}")
        return self

    def draw(self, n: int, _epoch: int, generator: torch.Generator) -> Tensor:
        """n values in [low, high], shape [n]."""
        return _between(self.low, self.high, n, generator)


class Annealed(Settings):
    """u ~ Uniform[t, 1]: t is 1 in the first epoch and falls from epoch to epoch until it is 0.

    The paper's for fine-tuning a network that was trained without gates (appendix A.2: 0.05 an epoch).
    """

    kind: Literal["annealed"] = "annealed"
    fall_per_epoch: float = Field(gt=0.0, le=1.0)

    def lowest(self, epoch: int) -> float:
        """The lower end t in an epoch, counted from 0."""
        return max(0.0, 1.0 - self.fall_per_epoch * epoch)

    def draw(self, n: int, epoch: int, generator: torch.Generator) -> Tensor:
        """n values in [t, 1], shape [n]."""
        return _between(self.lowest(epoch), 1.0, n, generator)


class Beta(Settings):
    """u ~ Beta(a, b), of mean a / (a + b): both below 1 favour the ends of the dial, both above 1 its middle."""

    kind: Literal["beta"] = "beta"
    a: float = Field(gt=0.0)
    b: float = Field(gt=0.0)

    def draw(self, n: int, _epoch: int, generator: torch.Generator) -> Tensor:
        """n values in [0, 1], shape [n].

        NumPy draws them, from a seed that the generator gives: torch's Beta follows the global random state, which a
        resumed training does not restore.
        """
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        return torch.from_numpy(np.random.default_rng(seed).beta(self.a, self.b, n)).float()


class Mixture(Settings):
    """u = 1 for a share of the examples, `rest` for the others.

    Answers the paper's remark that what is on only near u = 1 is trained too rarely (section 5.3).
    """

    kind: Literal["mixture"] = "mixture"
    share_at_one: float = Field(gt=0.0, lt=1.0)
    """Probability that an example is at u = 1, whatever `rest` would draw."""
    rest: Annotated[Uniform | Annealed | Beta, Field(discriminator="kind")]

    def draw(self, n: int, epoch: int, generator: torch.Generator) -> Tensor:
        """n values in [0, 1], shape [n]."""
        is_at_one = torch.rand(n, generator=generator) < self.share_at_one
        return torch.where(is_at_one, 1.0, self.rest.draw(n, epoch, generator))


ThrottleDistribution = Annotated[Uniform | Annealed | Beta | Mixture, Field(discriminator="kind")]
"""What a recipe may write for `u`; a further distribution is a class with its own `kind`, listed here."""
