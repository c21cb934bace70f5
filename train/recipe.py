"""Training recipes: a TOML file, checked strictly."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from tnn_edge.errors import RunError

__all__ = [
    "DataSettings",
    "LightSettings",
    "NetworkSettings",
    "OptimiserSettings",
    "Recipe",
    "ThrottleSettings",
    "read_recipe",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSettings(_Settings):
    """Which network: an architecture's name and its keyword arguments."""

    architecture: str
    sizes: dict[str, Any]


class ThrottleSettings(_Settings):
    """How u is drawn in training, and whose normalisation statistics the operating points use."""

    draw: Literal["none", "uniform", "sandwich"]
    """``none``: plain training, u = 1. ``uniform``: every example its own u, masked (the paper). ``sandwich``: u = 1
    with the labels, then the smallest and one random u, sliced, taught by the logits at u = 1."""
    smallest_u: float = Field(0.0, ge=0.0, lt=1.0)
    """The small pass of the sandwich."""
    student_weight: float = Field(1.0, gt=0.0)
    """Weight of the loss of each pass of the sandwich below u = 1; that of u = 1 has weight 1."""
    statistics: Literal["shared", "per_point"]
    """``per_point`` re-estimates them at the end of training; the sandwich answers at chance without."""
    statistics_images: int = Field(4096, gt=0)
    """Training images (without crop and flip) over which they are re-estimated."""


class LightSettings(_Settings):
    """Training images as `tnn_edge.plant.ImageSensor` would see them, each by a light of its own."""

    lux: tuple[float, float]
    """Illuminance of the scene, drawn log-uniformly between the two."""
    share: float = Field(0.5, gt=0.0, le=1.0)
    """Share of the examples that are seen so; the others stay as they are."""

    @field_validator("lux")
    @classmethod
    def _check_range(cls, lux: tuple[float, float]) -> tuple[float, float]:
        low, high = lux
        if not 0.0 < low <= high < math.inf:
            raise ValueError(f"lux must be two finite levels above 0 that do not fall, got [{low:g}, {high:g}]")
        return lux


class DataSettings(_Settings):
    """What the network sees."""

    image_size: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    held_out: int = Field(5000, ge=0)
    """Training images kept for choices; the test split is for the last measurement only."""
    crop_padding: int = Field(4, ge=0)
    """Pixels of reflection around an image before a random crop."""
    flip: bool = True
    light: LightSettings | None = None
    """None: every image as it is stored."""

    @model_validator(mode="after")
    def _check_padding(self) -> DataSettings:
        if self.crop_padding >= self.image_size:
            raise ValueError(f"crop_padding {self.crop_padding} must be below image_size {self.image_size}")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_no_light(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run that was started before recipes could ask for light has the same record as one that does not ask."""
        fields: dict[str, Any] = as_usual(self)
        if self.light is None:
            del fields["light"]
        return fields


class OptimiserSettings(_Settings):
    """SGD with Nesterov momentum; the rate rises linearly, then falls as a half cosine to zero."""

    epochs: int = Field(gt=0)
    batch_size: int = Field(128, gt=0)
    learning_rate: float = Field(0.1, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    """On convolution and classifier weights, not on normalisation and bias."""
    clip_norm: float = Field(5.0, gt=0)
    """Largest norm of the whole gradient."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 autocast on CPUs that multiply bf16 in hardware, else fp32."""


class Recipe(_Settings):
    """Everything that decides a training, but the data."""

    name: str
    seed: int = 0
    network: NetworkSettings
    throttle: ThrottleSettings
    data: DataSettings
    optimiser: OptimiserSettings


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RunError: the file is missing, is no TOML, or has a key or value that does not belong.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except OSError as err:
        raise RunError(f"cannot read the recipe {path}: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise RunError(f"{path}: not valid TOML: {err}") from err
    except ValidationError as err:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors())
        raise RunError(f"{path}: {faults}") from err
