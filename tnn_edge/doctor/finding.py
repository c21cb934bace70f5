"""What the doctor finds, and the exit code of each class of fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

__all__ = ["FaultCode", "Finding", "Status", "fault", "note", "ok"]


class Status(str, Enum):
    """How a finding stands: `note` costs speed or a feature, with `fault` something does not run as it should."""

    ok = "ok"
    note = "note"
    fault = "fault"


class FaultCode(IntEnum):
    """Exit codes of ``tnn-edge doctor``, the most severe first: a fault of a low number often brings higher ones."""

    PYTHON = 10
    PACKAGES = 11
    NO_ONNXRUNTIME = 12
    TWO_ONNXRUNTIMES = 13
    ONNXRUNTIME_BROKEN = 14
    ONNXRUNTIME_OLD = 15
    PROVIDER = 16
    MEMORY = 17
    CACHE = 18
    CAMERA = 19
    CLOCK = 20
    CHECK = 21


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: name of the check.
        status: how it stands.
        seen: what was seen.
        cause: why that is so, or what it costs; of everything that is not well.
        mend: the command that mends it; of every fault, and of a note where there is one.
        code: class of the fault; of faults alone.
    """

    check: str
    status: Status
    seen: str
    cause: str | None = None
    mend: str | None = None
    code: FaultCode | None = None

    def __post_init__(self) -> None:
        is_fault = self.status is Status.fault
        assert is_fault == (self.code is not None)
        assert self.mend is not None or not is_fault
        assert (self.cause is None) == (self.status is Status.ok)

    def as_json(self) -> dict[str, object]:
        """JSON-able values."""
        return {
            "check": self.check,
            "status": self.status.value,
            "seen": self.seen,
            "cause": self.cause,
            "mend": self.mend,
            "exit_code": None if self.code is None else int(self.code),
        }


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check=check, status=Status.ok, seen=seen)


def note(check: str, seen: str, *, cause: str, mend: str | None = None) -> Finding:
    """Something is less than it could be."""
    return Finding(check=check, status=Status.note, seen=seen, cause=cause, mend=mend)


def fault(check: str, code: FaultCode, seen: str, *, cause: str, mend: str) -> Finding:
    """Something does not run."""
    return Finding(check=check, status=Status.fault, seen=seen, cause=cause, mend=mend, code=code)
