"""Install: link and optimise every operating point once per machine, and keep the plans.

A plan is a graph that ONNX Runtime has optimised for this CPU, saved, and loaded again without further optimisation:
as fast as an ordinary session, and loaded in milliseconds. The plans of a bundle share one weight file. They lie in
the user's cache folder under a key of everything they depend on; a set that is damaged or that something else wrote
is built anew, never trusted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from tnn_edge.bundle import Bundle
from tnn_edge.bundle.reading import file_sha256
from tnn_edge.errors import PlanError
from tnn_edge.runtime.device_choice import check_distribution
from tnn_edge.runtime.installing.plan_key import Precision, key_digest, plan_key
from tnn_edge.runtime.providers import Device
from tnn_edge.runtime.stored_tensor import StoredTensor

__all__ = ["INDEX", "WEIGHTS", "PlanSet", "cache_folder", "cannot_write", "find_plans", "install", "read_plans"]

INDEX: Final = "plans.json"
WEIGHTS: Final = "weights.bin"


@dataclass(frozen=True)
class PlanSet:
    """The installed plans of a bundle.

    Attributes:
        folder: where they lie.
        precision: of their arithmetic.
        paths: one ONNX file per operating point, u rising.
        macs: MACs counted on each linked graph.
        tensors: for each plan, its tensors in the shared weight file.
        offered_bytes: weights of all plans, before equal bytes were shared.
        stored_bytes: size of the shared weight file.
    """

    folder: Path
    precision: Precision
    paths: tuple[Path, ...]
    macs: tuple[int, ...]
    tensors: tuple[tuple[StoredTensor, ...], ...]
    offered_bytes: int
    stored_bytes: int

    @property
    def weights(self) -> Path:
        """The shared weight file."""
        return self.folder / WEIGHTS


def cache_folder() -> Path:
    """``$TNN_EDGE_CACHE``, or the user's cache folder."""
    named = os.environ.get("TNN_EDGE_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("tnn-edge")


def cannot_write(folder: Path, err: OSError, what: str = "plans") -> PlanError:
    """The error for plans that cannot be written."""
    way_out = {
        errno.ENOMEM: "free memory",
        errno.ENOSPC: "free space, or set TNN_EDGE_CACHE to another folder",
    }.get(err.errno or 0, "set TNN_EDGE_CACHE to another folder")
    return PlanError(f"cannot write {what} to {folder}: {err.strerror}; {way_out}")


def _folder(bundle: Bundle, key: dict[str, Any], cache: Path | None) -> Path:
    safe_name = "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "_" for c in bundle.manifest.name)[:64]
    return (cache or cache_folder()) / "plans" / f"{safe_name}-{key_digest(key)[:16]}"


def find_plans(
    bundle: Bundle, device: Device, cache: Path | None = None, *, precision: Precision = "float32"
) -> PlanSet | None:
    """The installed plans, if every byte is as it was written; None otherwise.

    Raises:
        BundleError: 8-bit integers are asked for and the bundle has no ranges for them.
        ProviderError: 8-bit integers are asked for on another device than the CPU.
    """
    check_distribution()
    key = plan_key(bundle, device, precision)
    return read_plans(_folder(bundle, key, cache), key)


def read_plans(folder: Path, key: dict[str, Any]) -> PlanSet | None:
    """The plans in a folder, if they have this key and every byte is as it was written; None otherwise."""
    try:
        if any(path.is_symlink() or not path.is_file() for path in folder.iterdir()):  # a FIFO would be waited for
            return None
        index = json.loads((folder / INDEX).read_text())
        if index.pop("sha256") != key_digest(index) or index["key"] != key:
            return None
        if any(file_sha256(folder / name) != digest for name, digest in index["files"].items()):
            return None
        return PlanSet(
            folder=folder,
            precision=key["precision"],
            paths=tuple(folder / name for name in index["plans"]),
            macs=tuple(index["macs"]),
            tensors=tuple(tuple(StoredTensor.of(*values) for values in plan) for plan in index["tensors"]),
            offered_bytes=index["offered_bytes"],
            stored_bytes=index["stored_bytes"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def install(bundle: Bundle, device: Device, cache: Path | None = None, *, precision: Precision = "float32") -> PlanSet:
    """Build the plans of a bundle for this machine, or find them.

    A child process builds, under limits on memory and time, and runs a golden input through each plan. Safe to run
    twice at once: the second waits and finds what the first built. An interrupted install leaves nothing under the
    final name.

    Args:
        bundle: an opened bundle; its ONNX files are checked before they are used.
        device: ``cpu`` or ``cuda``.
        cache: folder for the plans; by default `cache_folder`.
        precision: of the arithmetic; ``int8`` where the bundle has ranges for it.

    Raises:
        BundleError: a block is unsound, crashes the child, or takes more than a bundle of its size may.
        PlanError: the plans cannot be written or optimised.
        VerificationError: a plan computes something else than the golden outputs.
    """
    check_distribution()
    key = plan_key(bundle, device, precision)
    folder = _folder(bundle, key, cache)
    try:
        str(folder).encode()
    except UnicodeEncodeError as err:  # ONNX Runtime writes to no such path
        raise PlanError(f"the path {str(folder)!a} is not UTF-8; set TNN_EDGE_CACHE to another folder") from err
    found = read_plans(folder, key)
    if found is not None:  # before the lock, which a cache that is only read has no room for
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock")):
            found = read_plans(folder, key)
            if found is not None:
                return found
            _clear_leftovers(folder)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
                _build(bundle, device, precision, Path(partial) / folder.name)
                _remove(folder)
                (Path(partial) / folder.name).rename(folder)
    except OSError as err:
        raise cannot_write(folder, err) from err
    built = read_plans(folder, key)
    if built is None:
        raise PlanError(f"the plans in {folder} changed while they were written; run the install again")
    return built


def _build(bundle: Bundle, device: Device, precision: Precision, folder: Path) -> None:
    from tnn_edge.bundle.structure import check_structure
    from tnn_edge.runtime.gate_network import check_cost
    from tnn_edge.runtime.installing.build_limits import limits_of
    from tnn_edge.runtime.installing.confined import confined

    check_structure(bundle)
    check_cost(bundle)
    confined(
        "tnn_edge.runtime.installing.building:build",
        {
            "bundle": str(bundle.path.absolute()),
            "digest": bundle.digest,
            "device": device,
            "precision": precision,
            "folder": str(folder.absolute()),
        },
        limits_of(bundle, device),
        what=f"the install of {bundle.path}",
    )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:  # where it is a link, what it names stays as it is
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_leftovers(folder: Path) -> None:
    """What an install that was killed left behind; the lock is held, so nobody is writing there."""
    for partial in folder.parent.glob(f".{folder.name}.*"):
        _remove(partial)


def _remove(path: Path) -> None:
    """Plans, or what something else put in their place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
