"""The whole examination: every check by itself, so that none can stop another, nor the doctor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from tnn_edge.doctor.cache import check_cache
from tnn_edge.doctor.cameras import check_cameras, check_opencv
from tnn_edge.doctor.clock import check_clock
from tnn_edge.doctor.cpu import check_cores, check_features
from tnn_edge.doctor.finding import FaultCode, Finding, fault
from tnn_edge.doctor.interpreter import check_python
from tnn_edge.doctor.memory import check_memory
from tnn_edge.doctor.onnxruntime_check import check_onnxruntime
from tnn_edge.doctor.packages import check_packages
from tnn_edge.doctor.rooms import load_room
from tnn_edge.doctor.sensors import check_battery, check_energy, check_temperature
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["CHECKS", "Report", "examine"]

Check = Callable[[Surroundings], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "python": check_python,
    "packages": check_packages,
    "onnxruntime": check_onnxruntime,
    "cpu": check_features,
    "cores": check_cores,
    "memory": check_memory,
    "cache": check_cache,
    "cameras": check_cameras,
    "opencv": check_opencv,
    "battery": check_battery,
    "temperature": check_temperature,
    "energy": check_energy,
    "clock": check_clock,
}
"""In the order in which findings are reported."""


@dataclass(frozen=True)
class Report:
    """What an examination found.

    Attributes:
        findings: in the order of `CHECKS`.
        machine: `tnn_edge.runtime.machine.describe_machine`; None where the runtime does not load, which a finding
            tells.
    """

    findings: tuple[Finding, ...]
    machine: dict[str, object] | None

    @property
    def exit_code(self) -> int:
        """0 without a fault, else the lowest code among the faults."""
        return min((int(finding.code) for finding in self.findings if finding.code is not None), default=0)

    def as_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "exit_code": self.exit_code,
            "machine": self.machine,
            "findings": [finding.as_json() for finding in self.findings],
        }


def examine(surroundings: Surroundings | None = None, *, checks: dict[str, Check] = CHECKS) -> Report:
    """Run all checks at once and collect what they find. Neither raises nor hangs, whatever a check does.

    A check that fails, or gives no answer within `Surroundings.patience_s`, is itself a finding.
    """
    where = surroundings or Surroundings()
    deadline = time.monotonic() + where.patience_s
    running = [_Running(name, check, where) for name, check in checks.items()]
    machine: list[dict[str, object]] = []
    describing = Thread(target=_describe, args=(machine,), name="doctor-machine", daemon=True)
    describing.start()
    findings = [finding for one in running for finding in one.findings(deadline)]
    describing.join(max(deadline - time.monotonic(), 0.0))
    return Report(tuple(findings), machine[0] if machine else None)


def _describe(machine: list[dict[str, object]]) -> None:
    """Append the machine's description; where the runtime does not load, the check of the packages says why."""
    with suppress(BaseException):
        load_room("tnn_edge.runtime")
        from tnn_edge.runtime.machine import describe_machine

        machine.append(describe_machine())


@dataclass
class _Running:
    """A check in a thread of its own, which no exit of the program waits for."""

    name: str
    check: Check
    where: Surroundings
    _found: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = Thread(target=self._run, name=f"doctor-{self.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self.check(self.where):
                self._found.append(finding)
        except BaseException as err:  # noqa: BLE001 -- a package that is examined may raise whatever it likes
            self._found.append(_failed(self.name, f"{type(err).__name__}: {err}".rstrip(": ")))

    def findings(self, deadline: float) -> list[Finding]:
        """What was found until `deadline` on the monotonic clock."""
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        found = list(self._found)
        if self._thread.is_alive():
            found.append(_failed(self.name, f"no answer within {self.where.patience_s:g} s"))
        return found


def _failed(name: str, how: str) -> Finding:
    return fault(
        name,
        FaultCode.CHECK,
        f"the check failed: {how}",
        cause="something on this machine is in a state that the check does not know",
        mend="mend the other faults first, then run tnn-edge doctor again; if it stays, report this line as a bug",
    )
