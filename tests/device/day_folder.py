"""A small scenario in a folder with its policies and images, as a user would have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

CLASSES = ("airplane", "cat", "truck")
PER_CLASS = 4

HALF = "[constant]\nu = 0.5\n[governor]\nunknown_u = 0.5\n"

LOSSLESS: Mapping[str, Any] = {"charge_efficiency": 1.0, "discharge_efficiency": 1.0, "cold_loss_per_k": 0.0}
"""Of a battery whose energies can be added up by hand."""


def write_images(root: Path) -> None:
    """Noise in three of the tiny bundle's classes; of another size than the network's."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            PIL.Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / name / f"{i}.jpg")


def write_day(folder: Path, bundle: Path, /, *, policies: Mapping[str, str] | None = None, **changes: Any) -> Path:
    """A scenario of one day in steps of an hour.

    Args:
        folder: where to.
        bundle: the network.
        policies: name -> what the policy's file says.
        changes: keys that replace or add to the defaults; a table's keys likewise, None leaves one out.
    """
    if not (folder / "images").exists():
        write_images(folder / "images")
    tables: dict[str, Any] = {
        "bundle": str(bundle),
        "images": "images",
        "seed": 7,
        "start_soc": 0.5,
        "time": {"period_s": 3600},
        "site": {"latitude_deg": 47.0, "day_of_year": 110},
        "weather": {"clearness": [0.6], "night_lux": 1.0},
        "panel": {"rated_w": 20.0},
        "battery": {"usable_wh": 40.0},
        "board": {"idle_w": 2.0, "compute_w": 6.0},
        "camera": {"fps": 2, "images_per_period": 2},
    }
    for key, value in changes.items():
        tables[key] = {**tables.get(key, {}), **value} if isinstance(value, dict) else value
    lines = [f"{key} = {_toml(value)}" for key, value in tables.items() if not isinstance(value, dict | type(None))]
    for i, (name, text) in enumerate((policies or {"half": HALF}).items()):
        (folder / f"policy{i}.toml").write_text(text)
        lines += ["[[policies]]", f"name = {_toml(name)}", f'file = "policy{i}.toml"']
    for key, value in tables.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{k} = {_toml(v)}" for k, v in value.items() if v is not None)]
    path = folder / "day.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    return json.dumps(value)  # numbers, texts and arrays of them are written alike
