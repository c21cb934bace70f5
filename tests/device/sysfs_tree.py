"""Supplies, thermal zones and monitors written as the kernel shows them: a folder each, a line a file."""

from __future__ import annotations

from pathlib import Path


def write_device(path: Path, **attributes: str | int) -> Path:
    """A device's folder; the file `type` and what else is named."""
    path.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (path / name).write_text(f"{value}\n")
    return path
