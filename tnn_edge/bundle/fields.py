"""Kinds of values that a manifest holds, each with its limits, and how strictly its tables are read."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "MAX_CHANNELS",
    "Bits",
    "BlockName",
    "Channels",
    "Cost",
    "Exactly1",
    "Exactly3",
    "InnerPath",
    "Lux",
    "Pixels",
    "Positive",
    "Share",
    "Strict",
    "Text",
]

_MAX_TEXT: Final = 1000
_MAX_PIXELS: Final = 4096
MAX_CHANNELS: Final = 2**20
_MAX_LUX: Final = 1e9  # a scene in the sun has 1e5
_MAX_COST_MACS: Final = 1e18  # a sum of as many as a manifest has room for stays finite


class Strict(BaseModel):
    """No unknown key, nothing that is not finite, and no change after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _printable(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):  # pydantic refuses surrogates itself
        raise ValueError(f"{text!a} must hold no control character")
    return text


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} must be a relative path inside the bundle")
    return path


Text = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT), AfterValidator(_printable)]
"""What is printed, or names a value of a graph."""
BlockName = Annotated[Text, StringConstraints(pattern=r"^[^/]+$")]
"""Without the slash that divides it from the names of its tensors."""
InnerPath = Annotated[str, AfterValidator(_inside), AfterValidator(_printable)]
Bits = Annotated[str, StringConstraints(pattern=r"^[01]+$")]
"""One character per component, ``1`` where it is on."""
Exactly1 = Annotated[int, Field(strict=True, ge=1, le=1)]  # Literal[1] would also take True and 1.0
Exactly3 = Annotated[int, Field(strict=True, ge=3, le=3)]
Pixels = Annotated[int, Field(ge=1, le=_MAX_PIXELS)]
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Cost = Annotated[float, Field(gt=0.0, le=_MAX_COST_MACS)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Lux = Annotated[float, Field(gt=0.0, le=_MAX_LUX)]
"""Illuminance."""
