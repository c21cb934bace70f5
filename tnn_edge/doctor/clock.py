"""The wall clock: results carry its time, and rules may ask for the hour."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_clock", "judge_clock", "kernel_says_synchronised"]

_EARLIEST, _LATEST = 2025, 2100
"""Years between which the time may be true: tnn-edge is not older."""

_UNSYNCHRONISED = 0x0040  # STA_UNSYNC of linux/timex.h
_SYNCHRONISE = "sudo timedatectl set-ntp true; without a network: sudo date -s 'YYYY-MM-DD hh:mm'"


class _Timex(ctypes.Structure):
    """The head of the kernel's `struct timex`, and more room than its rest takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def check_clock(where: Surroundings) -> Iterator[Finding]:
    """Whether the time can be true, and whether something keeps it so."""
    yield judge_clock(where, kernel_says_synchronised)


def judge_clock(where: Surroundings, kernel: Callable[[], bool | None]) -> Finding:
    """Judge the clock of `where`.

    Args:
        where: with the clock, and the files that systemd and the kernel's clock chips leave.
        kernel: whether the kernel's clock is synchronised, None where it does not say.
    """
    now = datetime.fromtimestamp(where.clock(), timezone.utc)
    seen = f"{now:%Y-%m-%d %H:%M} UTC"
    has_chip = any((where.root / "sys/class/rtc").glob("rtc*"))
    if not _EARLIEST <= now.year <= _LATEST:
        lost = "the clock chip is wrong" if has_chip else "there is no clock chip that keeps the time without power"
        cause = f"it cannot be {now.year}: {lost}, and nothing has set the clock since the start"
        return fault("clock", FaultCode.CLOCK, seen, cause=cause, mend=_SYNCHRONISE)
    if kernel() or (where.root / "run/systemd/timesync/synchronized").exists():
        return ok("clock", f"{seen}, synchronised")
    cause = "nothing synchronises it, so it drifts" + (
        "" if has_chip else "; without a clock chip it stops with the power"
    )
    return note("clock", f"{seen}, not known to be synchronised", cause=cause, mend=_SYNCHRONISE)


def kernel_says_synchronised() -> bool | None:
    """What `adjtimex` says, which anybody may read; None where there is no such call, or a sandbox forbids it."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return None
    state = _Timex(modes=0)
    return None if adjtimex(ctypes.byref(state)) < 0 else not state.status & _UNSYNCHRONISED
