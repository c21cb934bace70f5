"""What every table of a recipe is: frozen, strict about its keys, and finite."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LARGEST", "Rate", "Settings"]

LARGEST: float = torch.finfo(torch.float32).max
"""What weights can be multiplied with."""
Rate = Annotated[float, Field(gt=0.0, le=LARGEST)]
"""A learning rate."""


class Settings(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
