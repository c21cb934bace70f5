"""Plans of single gate vectors on disk: bounded in bytes, the least recently used out first.

The store lies beside the plans of the bundle's operating points and shares their key, which its name carries. Each
vector has a folder of its own, which appears whole or not at all; one that is damaged is built anew. Whoever writes
holds the store's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.reading import file_sha256
from tnn_edge.errors import BundleError, PlanError, TnnEdgeError
from tnn_edge.runtime.installing.plan_key import key_digest
from tnn_edge.runtime.installing.plans import cannot_write
from tnn_edge.runtime.stored_tensor import StoredTensor

__all__ = ["VectorPlan", "VectorStore", "store_vector"]

_INDEX, _PLAN, _WEIGHTS = "vector.json", "plan.onnx", "weights.bin"


@dataclass(frozen=True)
class VectorPlan:
    """The plan of one gate vector.

    Attributes:
        path: its ONNX file.
        tensors: in its weight file.
        n_bytes: of the plan with its weights.
    """

    path: Path
    tensors: tuple[StoredTensor, ...]
    n_bytes: int

    @property
    def weights(self) -> Path:
        """Its weight file."""
        return self.path.with_name(_WEIGHTS)


class VectorStore:
    """The plans of a bundle's gate vectors.

    Args:
        folder: of the store; it is made when the first plan comes.
        max_bytes: of all plans together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def is_there(self, gates: Mapping[str, str]) -> bool:
        """A plan lies in the store; whether it is sound is for `find` to say."""
        return (self._folder(gates) / _INDEX).is_file()

    def find(self, gates: Mapping[str, str]) -> VectorPlan | None:
        """The plan of a gate vector if every byte is as it was written, None otherwise."""
        return self._read(gates, has_to_hash=True)

    def described(self, gates: Mapping[str, str]) -> VectorPlan | None:
        """The plan of a gate vector that was found or added just now; its files are not read again."""
        return self._read(gates, has_to_hash=False)

    def _read(self, gates: Mapping[str, str], *, has_to_hash: bool) -> VectorPlan | None:
        folder = self._folder(gates)
        try:
            index = json.loads((folder / _INDEX).read_text())
            if index.pop("sha256") != key_digest(index) or index["gates"] != dict(gates):
                return None
            if has_to_hash and any(file_sha256(folder / name) != digest for name, digest in index["files"].items()):
                return None
            tensors = tuple(StoredTensor.of(*values) for values in index["tensors"])
            return VectorPlan(folder / _PLAN, tensors, _n_bytes(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def touch(self, gates: Mapping[str, str], used_s: float) -> None:
        """Note when a plan was last used, in seconds since 1970; a plan that is gone needs no note."""
        try:
            os.utime(self._folder(gates) / _INDEX, (used_s, used_s))
        except OSError:
            return

    def add(self, bundle: Bundle, gates: Mapping[str, str]) -> VectorPlan:
        """Link and optimise a gate vector, or find it.

        Raises:
            BundleError: a block is unsound.
            PlanError: the plan cannot be made or written, or is larger than the store may be.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                found = self.find(gates)
                if found is None:
                    self._clear_leftovers()
                    with tempfile.TemporaryDirectory(prefix=".", dir=self.folder) as partial:
                        found = self._build(bundle, gates, Path(partial) / "plan")
                self.touch(gates, time.time())
                return found
        except OSError as err:
            raise cannot_write(self.folder, err, "the plan of a gate vector") from err

    def _build(self, bundle: Bundle, gates: Mapping[str, str], partial: Path) -> VectorPlan:
        partial.mkdir()
        tensors = _write_plan(bundle, gates, partial)
        n_bytes = _n_bytes(partial)
        if n_bytes > self.max_bytes:
            raise PlanError(
                f"the plan of a gate vector takes {n_bytes / 2**20:.3g} MB, more than the "
                f"{self.max_bytes / 2**20:.3g} MB that all of them may take; allow more"
            )
        final = self._folder(gates)
        shutil.rmtree(final, ignore_errors=True)  # a damaged one
        self._make_room(n_bytes)
        partial.rename(final)
        return VectorPlan(final / _PLAN, tensors, n_bytes)

    def _make_room(self, n_bytes: int) -> None:
        """Remove what was not used for the longest, until so many bytes more fit."""
        plans = []
        for folder in self.folder.iterdir():
            if folder.is_dir() and not folder.name.startswith("."):
                index = folder / _INDEX
                used_s = index.stat().st_mtime if index.is_file() else 0.0
                plans.append((used_s, _n_bytes(folder), folder))
        room = self.max_bytes - sum(size for _, size, _ in plans)
        for _, size, folder in sorted(plans):
            if room >= n_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            room += size

    def _folder(self, gates: Mapping[str, str]) -> Path:
        return self.folder / key_digest(dict(gates))[:32]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / ".lock").open("a") as file:  # where it is a link, what it names stays as it is
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _clear_leftovers(self) -> None:
        """What a builder that was killed left behind; the lock is held, so nobody is writing there."""
        for partial in self.folder.glob(".*"):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)


def store_vector(bundle: str, digest: str, gates: dict[str, str], folder: str, max_bytes: int) -> None:
    """`VectorStore.add` as a child process calls it.

    Args:
        bundle: folder of the bundle.
        digest: that the bundle must have.
        gates: gate -> bits.
        folder: of the store.
        max_bytes: of all plans together.
    """
    opened = open_bundle(bundle)
    if opened.digest != digest:
        raise BundleError(f"{bundle} is no longer the bundle that was loaded; load it again")
    VectorStore(Path(folder), max_bytes).add(opened, gates)


def _n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _write_plan(bundle: Bundle, gates: Mapping[str, str], folder: Path) -> tuple[StoredTensor, ...]:
    import onnx_ir as ir

    from tnn_edge.runtime.installing.weight_store import WeightStore
    from tnn_edge.runtime.linking.linker import link
    from tnn_edge.runtime.linking.macs import graph_macs
    from tnn_edge.runtime.linking.optimising import save_optimised

    try:
        linked = ir.to_proto(link(bundle, gates))
        graph_macs(linked)  # which refuses what is too large or too much work
    except TnnEdgeError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as err:
        reason = str(err).partition("\n")[0] or type(err).__name__
        raise PlanError(f"{bundle.path}: blocks cannot be linked for a gate vector: {reason}") from err
    optimised = folder / "optimised.onnx"
    save_optimised(linked, optimised)
    model = ir.load(optimised)
    optimised.unlink()
    with WeightStore(folder / _WEIGHTS) as store:
        tensors = tuple(store.add_model(model))
        ir.save(model, folder / _PLAN)
    index = {
        "gates": dict(gates),
        "tensors": [list(tensor) for tensor in tensors],
        "files": {name: file_sha256(folder / name) for name in (_PLAN, _WEIGHTS)},
    }
    (folder / _INDEX).write_text(json.dumps(index | {"sha256": key_digest(index)}))
    return tensors
