"""Opening a bundle: nothing in it is believed before its hash is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from tnn_edge.bundle.arrays import FloatArray, read_npz
from tnn_edge.bundle.manifest import FileSpec, Manifest, parse_manifest
from tnn_edge.bundle.strict_json import check_json
from tnn_edge.errors import BundleError

__all__ = ["GOLDEN", "MANIFEST", "STATISTICS", "Bundle", "file_sha256", "open_bundle"]

MANIFEST, GOLDEN, STATISTICS = "manifest.json", "golden.npz", "statistics.npz"
_MANIFEST_LIMIT_BYTES = 2 * 2**20
_MAX_FILES = 4096
_MAX_BYTES = 2 * 2**30


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return _sha256(file)


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
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
        arrays = read_npz(self.path / GOLDEN)
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
        if not np.isfinite(inputs).all():
            raise BundleError(f"{self.path / GOLDEN}: inputs hold values that are not finite")
        return inputs, outputs

    @cached_property
    def golden_scores(self) -> tuple[FloatArray, FloatArray]:
        """Throttle settings [S] and the gate network's scores [S, N, P] at each of them for each golden input."""
        arrays = read_npz(self.path / GOLDEN)
        try:
            settings, scores = arrays["gate_throttles"], arrays["gate_scores"]
        except KeyError as err:
            raise BundleError(f"{self.path / GOLDEN}: array {err} is missing") from err
        expected = len(settings), len(self.golden[0]), len(self.manifest.operating_points)
        if settings.ndim != 1 or not len(settings) or scores.shape != expected:
            raise BundleError(f"{self.path / GOLDEN}: gate_scores of shape {list(scores.shape)}, not {list(expected)}")
        return settings, scores

    @cached_property
    def statistics(self) -> dict[str, FloatArray]:
        """``<block>/<tensor>`` -> normalisation statistics [rows, C]; empty where all points share the blocks'."""
        arrays = read_npz(self.path / STATISTICS) if STATISTICS in self.manifest.files else {}
        last = max((p.statistics for p in self.manifest.operating_points if p.statistics is not None), default=-1)
        if last >= 0 and not arrays:
            raise BundleError(f"{self.path}: an operating point names statistics, and there is no {STATISTICS}")
        for name, values in arrays.items():
            if values.ndim != 2 or len(values) <= last:
                raise BundleError(f"{self.path / STATISTICS}: {name} of shape {list(values.shape)} has no row {last}")
            if not np.isfinite(values).all():
                raise BundleError(f"{self.path / STATISTICS}: {name} holds values that are not finite")
        return arrays


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A plain file of one link, open to read. What is checked is what was opened, and a FIFO is not waited for."""
    linked = f"{path} must be a plain file of its own, not a link; copy the bundle without links"
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise BundleError(linked)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleError(linked)
        yield file


def _check_file(path: Path, spec: FileSpec) -> None:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != spec.bytes:
            raise BundleError(f"{path} has {size} bytes, its manifest says {spec.bytes}; copy the bundle again")
        if _sha256(file) != spec.sha256:
            raise BundleError(
                f"{path} is damaged or was edited (SHA-256 differs from the manifest's); copy the bundle again"
            )


def _check_sizes(path: Path, files: Mapping[str, FileSpec]) -> None:
    if len(files) > _MAX_FILES:
        raise BundleError(f"{path}: {len(files)} files, at most {_MAX_FILES} are allowed in a bundle")
    if (total := sum(spec.bytes for spec in files.values())) > _MAX_BYTES:
        raise BundleError(f"{path}: {total} bytes in all files, at most {_MAX_BYTES} are allowed in a bundle")


@contextmanager
def _reading(path: Path, missing: str) -> Iterator[None]:
    """Turn what the system says about a file into an error that says which of the two it is: missing or closed."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as err:
        raise BundleError(missing) from err
    except (OSError, RuntimeError) as err:  # RuntimeError: a loop of links, up to Python 3.12
        reason = getattr(err, "strerror", None) or err
        raise BundleError(f"{path} cannot be read: {reason}; give this user the right to read the bundle") from err


def _read_manifest(path: Path) -> bytes:
    missing = f"{path} is not a bundle: {MANIFEST} is missing"
    with _reading(path / MANIFEST, missing), _opened(path / MANIFEST) as file:
        data = file.read(_MANIFEST_LIMIT_BYTES + 1)
    if len(data) > _MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{path / MANIFEST} is larger than {_MANIFEST_LIMIT_BYTES} bytes")
    return data


def open_bundle(path: Path | str) -> Bundle:
    """Open a bundle and check every file against its manifest.

    Raises:
        SchemaError: the manifest does not fit the schema.
        BundleError: a file is missing, edited, truncated, a link or not to be read, there are too many bytes or files,
            or the path is not UTF-8.
    """
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError as err:  # ONNX takes no such path
        raise BundleError(f"the path {str(path)!a} is not UTF-8; rename the folder or move the bundle") from err
    manifest_path = path / MANIFEST
    data = _read_manifest(path)
    try:
        text = data.decode()
    except UnicodeDecodeError as err:
        raise BundleError(f"{manifest_path}: not UTF-8 ({err}); the bundle is damaged, copy it again") from err
    check_json(text, str(manifest_path))
    manifest = parse_manifest(text, str(manifest_path))
    _check_sizes(manifest_path, manifest.files)
    for name, spec in manifest.files.items():
        file = path / name
        with _reading(file, f"{file} is missing; the bundle is incomplete, copy it again"):
            if file.parent.resolve() != (path.resolve() / name).parent:
                raise BundleError(f"{file} lies behind a linked folder; copy the bundle without links")
            _check_file(file, spec)
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest())
