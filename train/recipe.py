"""Training recipes: a TOML file, checked strictly.

Where there is a choice, of how u is drawn, of an optimiser or of a schedule, the table names its `kind` and holds that
kind's own keys.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, PositiveFloat, ValidationError, field_validator, model_validator

from tnn_edge.bundle.fields import Text
from tnn_edge.errors import RunError
from tnn_edge.nn.weights import NO_WEIGHTS
from train.draws import Draw
from train.learning_rates import LearningRate
from train.optimisers import Optimiser
from train.settings import Settings

__all__ = [
    "DataSettings",
    "LightSettings",
    "NetworkSettings",
    "Recipe",
    "ThrottleSettings",
    "TrainingSettings",
    "read_recipe",
]

_CHOICES = ("draw", "u", "rest", "optimiser", "learning_rate")
"""Keys whose table names its kind."""


class NetworkSettings(Settings):
    """Which network: an architecture's name and its keyword arguments."""

    architecture: str
    sizes: dict[str, Any]
    weights: str = NO_WEIGHTS
    """What training starts from: a name of the library's weights (``IMAGENET1K_V1``), a file, such as the checkpoint of
    another run, or ``none``."""


class ThrottleSettings(Settings):
    """How u is drawn in training, and what the operating points are."""

    draw: Draw
    statistics: Literal["shared", "per_point"]
    """Whose normalisation statistics the operating points use. ``per_point`` re-estimates them at the end of training;
    the sandwich, whose running statistics are those of u = 1, must have it."""
    statistics_images: int = Field(4096, gt=0)
    """Training images (without crop and flip) over which they are re-estimated."""
    points: int | None = Field(None, ge=2, le=1025)
    """Settings i / (points - 1) of the dial that become operating points; None: each at which a gate changes."""

    @model_validator(mode="after")
    def _check_statistics(self) -> ThrottleSettings:
        if self.draw.kind == "sandwich" and self.statistics == "shared":
            raise ValueError(
                "the sandwich gathers statistics at u = 1 alone, and answers badly by them below; "
                "set statistics = 'per_point'"
            )
        return self


class LightSettings(Settings):
    """Training images as `tnn_edge.plant.ImageSensor` would see them, each by a light of its own."""

    model_config = ConfigDict(allow_inf_nan=True)  # refused below, in a message that shows both levels

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


class DataSettings(Settings):
    """What the network sees."""

    format: Literal["memory", "folder"] = "memory"
    """``memory``: all images in memory at one size, cropped at random after padding. ``folder``: a tree in ImageNet's
    format, read as it is needed, cropped at random after resizing."""
    image_size: int = Field(gt=0, le=4096)
    short_side: int | None = Field(None, gt=0)
    """Short side to which the images of a folder are resized, in pixels."""
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    held_out: int = Field(5000, ge=0)
    """Training images kept for choices; the test split is for the last measurement only."""
    crop_padding: int = Field(4, ge=0)
    """Pixels of reflection around an image in memory before a random crop."""
    flip: bool = True
    light: LightSettings | None = None
    """None: every image as it is stored."""

    @model_validator(mode="after")
    def _check_crop(self) -> DataSettings:
        if self.crop_padding >= self.image_size:
            raise ValueError(f"crop_padding {self.crop_padding} must be below image_size {self.image_size}")
        if self.format == "memory":
            if self.short_side is not None:
                raise ValueError("short_side belongs to format 'folder'; images in memory have image_size already")
        elif self.short_side is None or self.short_side < self.image_size:
            raise ValueError(
                f"format 'folder' needs short_side of at least image_size {self.image_size}, got {self.short_side}"
            )
        elif self.crop_padding:
            raise ValueError(f"format 'folder' crops what it resized; set crop_padding = 0, got {self.crop_padding}")
        return self


class TrainingSettings(Settings):
    """How long, in which steps, how precisely."""

    epochs: int = Field(gt=0)
    batch_size: int = Field(128, gt=0)
    """Of a step, over all processes."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient; None: as it is."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 autocast on what multiplies bf16 in hardware, else fp32."""


class Recipe(Settings):
    """Everything that decides a training, but the data."""

    name: Text
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    network: NetworkSettings
    throttle: ThrottleSettings
    data: DataSettings
    training: TrainingSettings
    optimiser: Optimiser
    learning_rate: LearningRate

    @model_validator(mode="after")
    def _check_warmup(self) -> Recipe:
        rate, epochs = self.learning_rate, self.training.epochs
        if rate.kind == "warmup_cosine" and rate.warmup_epochs >= epochs:
            raise ValueError(
                f"learning_rate.warmup_epochs {rate.warmup_epochs:g} must be below training.epochs {epochs}: "
                "the rate is to fall again"
            )
        return self

    def with_weights(self, weights: str | None) -> Recipe:
        """The recipe that starts from other weights; None leaves them."""
        if weights is None:
            return self
        return self.model_copy(update={"network": self.network.model_copy(update={"weights": weights})})


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RunError: the file is missing, is no TOML, or has a key or value that does not belong.
    """
    try:
        # As JSON, which has TOML's types: pydantic then is strict, and still takes an array for a tuple.
        return Recipe.model_validate_json(json.dumps(tomllib.loads(path.read_text()), default=str), strict=True)
    except OSError as err:
        raise RunError(f"cannot read the recipe {path}: {err.strerror}") from err
    except ValidationError as err:
        faults = "; ".join(_fault(error) for error in err.errors())
        raise RunError(f"{path}: {faults}") from err
    except (ValueError, RecursionError) as err:  # ValueError: also an integer of thousands of digits
        raise RunError(f"{path}: not valid TOML: {err}") from err


def _fault(error: Mapping[str, Any]) -> str:
    """One fault, its key first."""
    message = error["msg"]
    if error["type"] == "union_tag_not_found" or (error["type"] == "dict_type" and error["loc"][-1] in _CHOICES):
        message = f'must be a table that names its kind, such as {{ kind = "..." }}, got {error["input"]!r}'
    key, message = ".".join(map(str, error["loc"])), message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
