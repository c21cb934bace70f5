"""The kernel's trees of boards and machines, written anew from their text in `data/energy`."""

from __future__ import annotations

from pathlib import Path

TREES = Path(__file__).parent / "data" / "energy"


def write_tree(name: str, root: Path) -> Path:
    """Each line `path = content` of a tree's text as a file below `root`; `\\0` is the byte that divides strings."""
    for line in (TREES / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        path, content = line.split(" = ")
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace("\\0", "\0") + "\n")
    return root
