"""Install: link and optimise every operating point once per machine, and keep the plans.

A plan is a graph that ONNX Runtime has optimised for this CPU, saved, and loaded again without further optimisation:
as fast as an ordinary session, and loaded in milliseconds. The plans of a bundle share one weight file. They lie in
the user's cache folder under a key of everything they depend on; a set that is damaged or that something else wrote
is built anew, never trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from tnn_edge.bundle import Bundle, OperatingPoint
from tnn_edge.bundle.reading import file_sha256
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime.machine import cpu_features
from tnn_edge.runtime.providers import Device, SessionSettings, check_distribution, open_session, session_options

__all__ = ["PlanSet", "cache_folder", "find_plans", "install"]

_INDEX = "plans.json"
_WEIGHTS = "weights.bin"
_UNLINKABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What graph rewrites raise on blocks that pass the ONNX checker and still make no sense."""


@dataclass(frozen=True)
class PlanSet:
    """The installed plans of a bundle.

    Attributes:
        folder: where they lie.
        paths: one ONNX file per operating point, u rising.
        macs: MACs counted on each linked graph.
        offered_bytes: weights of all plans, before equal bytes were shared.
        stored_bytes: size of the shared weight file.
    """

    folder: Path
    paths: tuple[Path, ...]
    macs: tuple[int, ...]
    offered_bytes: int
    stored_bytes: int


def cache_folder() -> Path:
    """``$TNN_EDGE_CACHE``, or the user's cache folder."""
    named = os.environ.get("TNN_EDGE_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("tnn-edge")


def _key(bundle: Bundle, device: Device) -> dict[str, Any]:
    import onnxruntime

    from tnn_edge.runtime.linker import LINKER_VERSION

    return {
        "bundle": bundle.digest,
        "onnxruntime": onnxruntime.__version__,
        "device": device,
        "optimisation": "all",
        "cpu_features": cpu_features() if device == "cpu" else (),
        "linker": LINKER_VERSION,
    }


def _folder(bundle: Bundle, key: dict[str, Any], cache: Path | None) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    safe_name = "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "_" for c in bundle.manifest.name)[:64]
    return (cache or cache_folder()) / "plans" / f"{safe_name}-{digest}"


def find_plans(bundle: Bundle, device: Device, cache: Path | None = None) -> PlanSet | None:
    """The installed plans, if every byte is as it was written; None otherwise."""
    check_distribution()
    key = _key(bundle, device)
    return _read(_folder(bundle, key, cache), key)


def _read(folder: Path, key: dict[str, Any]) -> PlanSet | None:
    try:
        index = json.loads((folder / _INDEX).read_text())
        if index.pop("sha256") != _index_digest(index) or index["key"] != json.loads(json.dumps(key)):
            return None
        if any(file_sha256(folder / name) != digest for name, digest in index["files"].items()):
            return None
        paths = tuple(folder / name for name in index["plans"])
        return PlanSet(folder, paths, tuple(index["macs"]), index["offered_bytes"], index["stored_bytes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _index_digest(index: dict[str, Any]) -> str:
    """Of everything else in the index, so that it need not be believed either."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def install(bundle: Bundle, device: Device, cache: Path | None = None) -> PlanSet:
    """Build the plans of a bundle for this machine, or find them.

    Safe to run twice at once: the second waits and finds what the first built. An interrupted install leaves nothing
    under the final name.

    Args:
        bundle: an opened bundle; its ONNX files are checked before they are used.
        device: ``cpu`` or ``cuda``.
        cache: folder for the plans; by default `cache_folder`.

    Raises:
        BundleError: a block is unsound.
        PlanError: the plans cannot be written or optimised.
    """
    check_distribution()
    key = _key(bundle, device)
    folder = _folder(bundle, key, cache)
    try:
        str(folder).encode()
    except UnicodeEncodeError as err:  # ONNX Runtime writes to no such path
        raise PlanError(f"the path {str(folder)!a} is not UTF-8; set TNN_EDGE_CACHE to another folder") from err
    found = _read(folder, key)
    if found is not None:  # before the lock, which a cache that is only read has no room for
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock")):
            found = _read(folder, key)
            if found is not None:
                return found
            _clear_leftovers(folder)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
                _build(bundle, device, key, Path(partial) / folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                (Path(partial) / folder.name).rename(folder)
    except OSError as err:
        raise PlanError(
            f"cannot write plans to {folder}: {err.strerror}; set TNN_EDGE_CACHE to another folder"
        ) from err
    built = _read(folder, key)
    if built is None:
        raise PlanError(f"the plans in {folder} changed while they were written; run the install again")
    return built


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_leftovers(folder: Path) -> None:
    """What an install that was killed left behind; the lock is held, so nobody is writing there."""
    for partial in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(partial, ignore_errors=True)


def _build(bundle: Bundle, device: Device, key: dict[str, Any], folder: Path) -> None:
    import onnx_ir as ir

    from tnn_edge.bundle.structure import check_structure
    from tnn_edge.runtime.gate_network import check_cost
    from tnn_edge.runtime.weight_store import WeightStore

    check_structure(bundle)
    check_cost(bundle)
    folder.mkdir()
    points = bundle.manifest.operating_points
    names = [f"point_{i:02d}.onnx" for i in range(len(points))]
    macs = [0] * len(points)
    with WeightStore(folder / _WEIGHTS) as store:
        for i in reversed(range(len(points))):  # the largest first: the smaller ones are views of it
            linked, macs[i] = _linked(bundle, points[i])
            model = _optimised(linked.SerializeToString(), folder) if device == "cpu" else ir.from_proto(linked)
            store.add_model(model)
            ir.save(model, folder / names[i])
        index = {
            "key": key,
            "plans": names,
            "macs": macs,
            "offered_bytes": store.offered_bytes,
            "stored_bytes": store.stored_bytes,
        }
    index["files"] = {name: file_sha256(folder / name) for name in (*names, _WEIGHTS)}
    (folder / _INDEX).write_text(json.dumps(index | {"sha256": _index_digest(index)}))


def _linked(bundle: Bundle, point: OperatingPoint) -> tuple[Any, int]:
    """The sub-network of an operating point as a protobuf, and the MACs counted on it."""
    import onnx
    import onnx_ir as ir

    from tnn_edge.runtime.linker import link
    from tnn_edge.runtime.macs import graph_macs

    where = f"{bundle.path}: blocks cannot be linked at u={point.u:g}"
    try:
        linked = ir.to_proto(link(bundle, point.gates))
        return linked, graph_macs(linked)
    except BundleError as err:
        raise BundleError(f"{where}: {err}") from err
    except _UNLINKABLE as err:
        raise PlanError(f"{where}: {str(err).partition(chr(10))[0] or type(err).__name__}") from err
    except onnx.shape_inference.InferenceError as err:
        raise PlanError(f"{where}: {str(err).partition(chr(10))[0]}") from err


def _optimised(model: bytes, folder: Path) -> Any:
    """What ONNX Runtime makes of a model on this CPU."""
    import onnx_ir as ir

    path = folder / "optimised.onnx"
    options = session_options(SessionSettings(), optimise=True)
    options.optimized_model_filepath = str(path)
    open_session(model, options, "cpu")
    optimised = ir.load(path)
    path.unlink()
    return optimised
