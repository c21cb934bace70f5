"""What its control groups leave this process: in a container or a unit of systemd less than the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["GroupLimits", "group_limits"]

_NO_LIMIT_BYTES = 2**60
"""Version 1 writes the largest multiple of a page for no limit."""

_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@dataclass(frozen=True)
class GroupLimits:
    """The tightest limit on the way from the process's group to the root.

    Attributes:
        cores: CPU time per time; None without a limit.
        memory_bytes: limit of the group that has the least left; None without a limit.
        memory_left_bytes: what that group has left.
    """

    cores: float | None
    memory_bytes: int | None
    memory_left_bytes: int | None


def group_limits(where: Surroundings) -> GroupLimits:
    """Read both versions of the interface; a system may use both at once, each for other resources."""
    cores: list[float] = []
    memory: list[tuple[int, int]] = []
    for folder, version in _folders(where):
        if (quota := _cores(folder, version)) is not None:
            cores.append(quota)
        if (left := _memory(folder, version)) is not None:
            memory.append(left)
    left_bytes, limit_bytes = min(memory, default=(None, None))
    return GroupLimits(min(cores, default=None), limit_bytes, left_bytes)


def _folders(where: Surroundings) -> Iterator[tuple[Path, int]]:
    """The groups that hold this process, with the version of their interface."""
    mount = where.root / "sys/fs/cgroup"
    for line in (where.text("proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = 2 if number == "0" and not controllers else 1
        names = ("", "unified") if version == 2 else (controllers, *controllers.split(","))
        for name in dict.fromkeys(names):
            top = mount / name
            group = top / path.lstrip("/")
            yield from ((folder, version) for folder in (group, *group.parents) if folder.is_relative_to(top))


def _cores(folder: Path, version: int) -> float | None:
    if version == 2:
        quota, _, period = (_text(folder / "cpu.max") or "").partition(" ")
    else:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    if not (quota.isdecimal() and period.isdecimal() and int(period)):  # `max` and -1 are no limit
        return None
    return int(quota) / int(period)


def _memory(folder: Path, version: int) -> tuple[int, int] | None:
    """Bytes left, and the limit. The page cache that nobody uses counts as left: the kernel gives it back."""
    limit_file, usage_file, reclaimable = _FILES[version]
    limit, usage = _text(folder / limit_file), _text(folder / usage_file)
    if limit is None or not limit.isdecimal() or int(limit) >= _NO_LIMIT_BYTES:
        return None
    used = int(usage) if usage is not None and usage.isdecimal() else 0
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == reclaimable and value.isdecimal():
            used -= int(value)
    return int(limit) - max(used, 0), int(limit)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None
