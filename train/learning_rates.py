"""Learning-rate schedules: tables of a recipe, told apart by their `kind`, that give the rate of every step."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from train.settings import Rate, Settings

__all__ = ["Constant", "LearningRate", "WarmRestarts", "WarmupCosine"]


def _half_cosine(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


class Constant(Settings):
    """The same rate in every step."""

    kind: Literal["constant"] = "constant"
    rate: Rate

    def at(self, _step: int, _steps_per_epoch: int, _epochs: int) -> float:
        """The rate of a step, counted from 0 over all epochs."""
        return self.rate


class WarmupCosine(Settings):
    """A linear rise over the warm-up, then half a cosine that reaches zero after the last step."""

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    highest: Rate
    warmup_epochs: float = Field(default=1.0, ge=0.0)

    def at(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """The rate of a step, counted from 0 over all epochs."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.highest * (step + 1) / warmup
        return self.highest * _half_cosine((step - warmup) / max(1.0, epochs * steps_per_epoch - warmup))


class WarmRestarts(Settings):
    """SGDR (Loshchilov & Hutter, 2016): half cosines, each begun anew at the highest rate and longer than the last.

    In period i, t epochs after its start and T_i epochs long, the rate is

        lowest + (highest - lowest) (1 + cos(pi t / T_i)) / 2,    T_0 = first_period_epochs,  T_i+1 = period_factor T_i.

    It falls from step to step, not from epoch to epoch. A training that ends with a period ends at the lowest rate;
    with the defaults that is after 10, 30, 70, 150 or 310 epochs, and the paper's are 310.
    """

    kind: Literal["warm_restarts"] = "warm_restarts"
    highest: Rate
    lowest: float = Field(default=0.0, ge=0.0)
    first_period_epochs: int = Field(default=10, gt=0)
    period_factor: int = Field(default=2, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> WarmRestarts:
        if self.lowest > self.highest:
            raise ValueError(f"lowest must not lie above highest, got {self.lowest:g} and {self.highest:g}")
        return self

    def at(self, step: int, steps_per_epoch: int, _epochs: int) -> float:
        """The rate of a step, counted from 0 over all epochs."""
        since, period = step, self.first_period_epochs * steps_per_epoch
        while since >= period:
            since -= period
            period *= self.period_factor
        return self.lowest + (self.highest - self.lowest) * _half_cosine(since / period)


LearningRate = Annotated[Constant | WarmupCosine | WarmRestarts, Field(discriminator="kind")]
"""What a recipe may write for `[learning_rate]`; a further schedule is a class with its own `kind`, listed here."""
