"""Opening a bundle: nothing in it is believed before its hash is."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle.manifest import FileSpec, Manifest, parse_manifest
from tnn_edge.errors import BundleError

__all__ = ["GOLDEN", "MANIFEST", "STATISTICS", "Bundle", "file_sha256", "open_bundle"]

MANIFEST, GOLDEN, STATISTICS = "manifest.json", "golden.npz", "statistics.npz"
_MANIFEST_LIMIT_BYTES = 16 * 2**20

FloatArray = npt.NDArray[np.float32]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those its manifest names.

    Attributes:
        path: its folder.
        manifest: as read.
        digest: SHA-256 of the manifest, which hashes everything else: the bundle's identity.
    """

    path: Path
    manifest: Manifest
    digest: str

    @cached_property
    def golden(self) -> tuple[FloatArray, FloatArray]:
        """Inputs [N, 3, H, W] and, for each operating point, outputs [P, N, classes] of the PyTorch network."""
        arrays = _read_npz(self.path / GOLDEN)
        try:
            inputs, outputs = arrays["inputs"], arrays["outputs"]
        except KeyError as err:
            raise BundleError(f"{self.path / GOLDEN}: array {err} is missing") from err
        image, points, classes = self.manifest.input.shape[1:], self.manifest.operating_points, self.manifest.labels
        fits = inputs.ndim == 4 and len(inputs) > 0 and inputs.shape[1:] == image
        if not fits or outputs.shape != (len(points), len(inputs), len(classes)):
            raise BundleError(
                f"{self.path / GOLDEN}: inputs {list(inputs.shape)} and outputs {list(outputs.shape)} do not fit "
                f"{len(points)} operating points, images {list(image)} and {len(classes)} labels"
            )
        return inputs, outputs

    @cached_property
    def statistics(self) -> dict[str, FloatArray]:
        """``<block>/<tensor>`` -> normalisation statistics [rows, C]; empty where all points share the blocks'."""
        arrays = _read_npz(self.path / STATISTICS) if STATISTICS in self.manifest.files else {}
        last = max((p.statistics for p in self.manifest.operating_points if p.statistics is not None), default=-1)
        if last >= 0 and not arrays:
            raise BundleError(f"{self.path}: an operating point names statistics, and there is no {STATISTICS}")
        for name, values in arrays.items():
            if values.ndim != 2 or len(values) <= last:
                raise BundleError(f"{self.path / STATISTICS}: {name} of shape {list(values.shape)} has no row {last}")
        return arrays


def _read_npz(path: Path) -> dict[str, FloatArray]:
    try:
        with zipfile.ZipFile(path):  # np.load would also take a bare array
            pass
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], dtype=np.float32) for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as err:
        raise BundleError(f"{path}: cannot be read ({err})") from err


def _check_file(path: Path, spec: FileSpec) -> None:
    try:
        status = path.lstat()
    except OSError as err:
        raise BundleError(f"{path} is missing; the bundle is incomplete, copy it again") from err
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise BundleError(f"{path} must be a plain file of its own, not a link; copy the bundle without links")
    if status.st_size != spec.bytes:
        raise BundleError(f"{path} has {status.st_size} bytes, its manifest says {spec.bytes}; copy the bundle again")
    if file_sha256(path) != spec.sha256:
        raise BundleError(
            f"{path} is damaged or was edited (SHA-256 differs from the manifest's); copy the bundle again"
        )


def open_bundle(path: Path | str) -> Bundle:
    """Open a bundle and check every file against its manifest.

    Raises:
        SchemaError: the manifest does not fit the schema.
        BundleError: a file is missing, edited, truncated or a link.
    """
    path = Path(path)
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise BundleError(f"{path} is not a bundle: {MANIFEST} is missing")
    if manifest_path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{manifest_path} is larger than {_MANIFEST_LIMIT_BYTES} bytes")
    data = manifest_path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as err:
        raise BundleError(f"{manifest_path}: not UTF-8 ({err}); the bundle is damaged, copy it again") from err
    manifest = parse_manifest(text, str(manifest_path))
    for name, spec in manifest.files.items():
        if (path / name).parent.resolve() != (path.resolve() / name).parent:
            raise BundleError(f"{path / name} lies behind a linked folder; copy the bundle without links")
        _check_file(path / name, spec)
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest())
