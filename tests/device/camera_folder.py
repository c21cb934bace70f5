"""A camera's configuration and policy in a folder, as a user would have them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

POLICY = """
[governor]
unknown_u = 0.25
[[rules]]
name = "low"
when = { soc = { below = 0.3 } }
u = 0.1
[[rules]]
name = "doubt"
when = { confidence = { below = 0.3, until = 0.6 } }
u = 1.0
[[rules]]
name = "normal"
u = 0.6
"""
"""Needs the charge: on a machine without a battery it falls back to the declared u."""


def write_camera(folder: Path, bundle: Path, *, rules: str = POLICY, **tables: Mapping[str, Any]) -> Path:
    """A configuration beside its policy; `tables` add to and replace the keys of the defaults, None leaves one out.

    Sensors are looked for in the folder `sys`, so that no test hangs on the machine it runs on.
    """
    (folder / "policy.toml").write_text(rules)
    (folder / "sys").mkdir(exist_ok=True)
    rows: dict[str, dict[str, Any]] = {
        "source": {"spec": "test:?frames=5&size=32x32&fps=1000"},
        "engine": {"bundle": str(bundle), "device": "cpu"},
        "policy": {"file": "policy.toml"},
        "power": {"root": "sys", "backend": "sysfs"},
        "temperature": {"root": "sys"},
        "output": {"lines": "out/frames.jsonl", "database": "out/frames.db"},
    }
    for name, table in tables.items():
        rows[name] = {**rows.get(name, {}), **table}
    path = folder / "camera.toml"
    path.write_text("\n".join(line for name, table in rows.items() for line in _lines(name, table)) + "\n")
    return path


def _lines(name: str, table: Mapping[str, Any]) -> list[str]:
    # JSON's texts, numbers, truths and lists are TOML's.
    return [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None)]


def write_images(folder: Path, n: int) -> Path:
    """Noise, a file each."""
    folder.mkdir()
    rng = np.random.default_rng(n)
    for i in range(n):
        PIL.Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    return folder


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every JSON line of a file, which must hold whole lines only."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    """Every row of a table, read by SQLite alone."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
