"""Damaging a copy of a bundle so that its hashes still agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tnn_edge.bundle.reading import MANIFEST

__all__ = ["rewrite"]


def rewrite(bundle: Path, name: str, data: bytes) -> None:
    """Replace a file of the bundle and make its manifest agree."""
    (bundle / name).write_bytes(data)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
