"""The operating points of a bundle that can run at once, shared by all engines of this process that run them alike."""

from __future__ import annotations

import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tnn_edge.errors import TnnEdgeError
from tnn_edge.runtime.cuda.device_weights import DeviceWeights
from tnn_edge.runtime.cuda.session import open_cuda_session
from tnn_edge.runtime.installing.plans import PlanSet
from tnn_edge.runtime.mapped_weights import MappedWeights
from tnn_edge.runtime.providers import Device, SessionSettings, open_session
from tnn_edge.runtime.residency import Residency

__all__ = ["PlanSessions"]

_log = logging.getLogger(__name__)

_Key = tuple[Path, int, Device, SessionSettings, "float | None"]
_versions = itertools.count()
_lock = threading.Lock()
_open: WeakValueDictionary[_Key, PlanSessions] = WeakValueDictionary()


class PlanSessions:
    """Sessions of a bundle's operating points: all of them, or those that a budget has room for.

    Within a budget the lowest point is always resident, and the others become so in the background when they are asked
    for.

    Args:
        plans: the installed plans.
        device: ``cpu`` or ``cuda``.
        settings: threads and spinning.
        residency: the budget, None where all points are resident.

    Attributes:
        version: changes when a session has left; no two have the same.
        device_bytes: memory of the GPU that the sessions took when they were opened; None on the CPU.
    """

    def __init__(
        self, plans: PlanSet, device: Device, settings: SessionSettings, residency: Residency | None = None
    ) -> None:
        self.plans, self.device, self.settings = plans, device, settings
        self.version = next(_versions)
        self.device_bytes: int | None = None
        self._weights: MappedWeights | DeviceWeights | None = None
        if device == "cpu":
            self._weights = MappedWeights.of(plans.weights)
        elif residency is None and DeviceWeights.are_possible():
            self._weights = DeviceWeights.of(plans.weights)
            self.device_bytes = self._weights.n_bytes
        else:  # each session loads its own
            self.device_bytes = 0
        self._residency = residency
        self._loader = None if residency is None else ThreadPoolExecutor(1, thread_name_prefix="operating point")
        self._waiting: set[int] = set()
        self._sessions: list[Any] = [None] * len(plans.paths)
        for i in range(len(plans.paths) if residency is None else 1):
            self._sessions[i] = self._session(i)

    @classmethod
    def of(
        cls, plans: PlanSet, device: Device, settings: SessionSettings, max_resident_mb: float | None
    ) -> PlanSessions:
        """The sessions that this process has, or new ones.

        Args:
            plans: the installed plans.
            device: ``cpu`` or ``cuda``.
            settings: threads and spinning.
            max_resident_mb: budget in MB of 2^20 bytes, None for no limit.
        """
        key = (plans.folder, plans.weights.stat().st_ino, device, settings, max_resident_mb)
        with _lock:
            found = _open.get(key)
            if found is None:
                limit = None
                if max_resident_mb is not None:
                    limit = Residency(int(max_resident_mb * 2**20), plans.tensors, share=device == "cpu")
                found = _open[key] = cls(plans, device, settings, limit)
            return found

    @property
    def resident(self) -> tuple[int, ...]:
        """Numbers of the operating points in memory, u rising."""
        return tuple(i for i, _ in self.opened)

    @property
    def opened(self) -> tuple[tuple[int, Any], ...]:
        """Number and session of the operating points in memory, u rising. To look asks for none."""
        return tuple((i, session) for i, session in enumerate(self._sessions) if session is not None)

    def nearest(self, i: int) -> tuple[int, Any]:
        """The point to run for point i, and its session: itself, or the nearest lower one while i loads."""
        if self._residency is not None:
            is_worth_loading = self._residency.ask(i)
            if self._sessions[i] is None and is_worth_loading:
                self._load_beside(i)
        while (session := self._sessions[i]) is None:
            i -= 1
        return i, session

    def settle(self) -> None:
        """Wait until no point loads in the background."""
        if self._loader is not None:
            self._loader.submit(int).result()

    def _session(self, i: int) -> Any:
        if not isinstance(self._weights, MappedWeights):
            opened = open_cuda_session(self.plans.paths[i], self.settings, self.plans.tensors[i], self._weights)
            self.device_bytes = (self.device_bytes or 0) + opened.n_bytes
            return opened.session
        options = self._weights.options(self.settings, self.plans.tensors[i], self.plans.precision)
        return open_session(self.plans.paths[i], options, "cpu")

    def _load_beside(self, i: int) -> None:
        assert self._loader is not None
        if i not in self._waiting:
            self._waiting.add(i)
            self._loader.submit(self._load, i)

    def _load(self, i: int) -> None:
        assert self._residency is not None
        leaving = self._residency.leaving(i, self.resident)
        if leaving is not None:
            for each in leaving:
                self._sessions[each] = None
            if leaving:
                self.version = next(_versions)
            try:
                self._sessions[i] = self._session(i)
            except TnnEdgeError as err:
                _log.warning("operating point %d stays out of memory: %s", i, err)
                return  # and waits for ever, so that it is not tried for each frame
        self._waiting.discard(i)
