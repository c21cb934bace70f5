"""A session for each block, one after the other; blocks that are the same at two operating points are loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from export.peers.session import open_session
from export.peers.ways import Answer, FloatArray
from export.peers.work import Work, files_below

LIBRARIES = ("numpy", "onnxruntime")

_Memory = dict[tuple[int, ...], Any]


class _Chain:
    """Sessions in a row, each bound to the memory that the one before it writes.

    Args:
        sessions: in the order in which they run.
        memory: shape -> value, two sets that take turns; chains share them.
    """

    def __init__(self, sessions: Sequence[Any], memory: tuple[_Memory, _Memory]) -> None:
        self._x = self._value(memory[0], sessions[0].get_inputs()[0].shape)
        value = self._x
        self._bound = []
        for i, session in enumerate(sessions, start=1):
            binding = session.io_binding()
            binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
            value = self._value(memory[i % 2], session.get_outputs()[0].shape)
            binding.bind_ortvalue_output(session.get_outputs()[0].name, value)
            self._bound.append((session, binding))
        self._logits = value

    @staticmethod
    def _value(memory: _Memory, shape: Sequence[int]) -> Any:
        key = tuple(shape)
        if key not in memory:
            memory[key] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(key, dtype=np.float32))
        return memory[key]

    def __call__(self, x: FloatArray) -> FloatArray:
        self._x.update_inplace(x)
        for session, binding in self._bound:
            session.run_with_iobinding(binding)
        return np.array(self._logits.numpy())


def prepare(work: Work) -> None:
    """The files of the blocks are there already."""
    del work


def files(work: Work) -> Sequence[Path]:
    """The blocks as each operating point leaves them, equal ones once."""
    return files_below(work.blocks)


def load(work: Work, threads: int) -> Answer:
    """A session for each file, a chain for each operating point."""
    chains = [[name for name in chain.values() if name is not None] for chain in work.block_files()]
    sessions = {name: open_session(work.blocks / name, threads) for name in {name for c in chains for name in c}}
    memory: tuple[_Memory, _Memory] = {}, {}
    bound = {
        point: _Chain([sessions[name] for name in chain], memory)
        for point, chain in zip(work.distinct_points, chains, strict=True)
    }
    return lambda x, u: bound[work.point_at(u)](x)
