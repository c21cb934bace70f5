"""Python itself: its version, and the properties for which ONNX Runtime has wheels or has none."""

from __future__ import annotations

import platform
import struct
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError

from tnn_edge.doctor.declared import least_python, newest_python, release
from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["Interpreter", "check_interpreter", "check_python"]

_OLDEST_GLIBC = (2, 27)  # of the wheels of ONNX Runtime 1.20, the oldest release that tnn-edge takes
_ARCHITECTURES = ("x86_64", "aarch64", "arm64", "AMD64", "ARM64")
_SYSTEM_OF_64_BIT = "install the 64 bit image of the system; getconf LONG_BIT must say 64"
_BUILD = "build it for this machine: https://onnxruntime.ai/docs/build/"
_OTHER_LIBC = "use a system that has it, in a container for example: docker run -it python:3.12-slim"


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python, as far as binary wheels depend on it.

    Attributes:
        version: three numbers.
        implementation: `cpython`, `pypy`, ...
        bits: of a pointer.
        is_free_threaded: whether it is built without the global lock.
        architecture: of the machine, as the kernel calls it.
        system: `Linux`, `Darwin`, ...
        libc: `glibc` or `musl` and its version; empty where it is not known.
    """

    version: tuple[int, int, int]
    implementation: str
    bits: int
    is_free_threaded: bool
    architecture: str
    system: str
    libc: tuple[str, str]

    @classmethod
    def here(cls) -> Interpreter:
        """The one that runs this."""
        libc = platform.libc_ver()
        if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
            libc = ("musl", "")
        return cls(
            version=sys.version_info[:3],
            implementation=sys.implementation.name,
            bits=8 * struct.calcsize("P"),
            is_free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            architecture=platform.machine(),
            system=platform.system(),
            libc=libc,
        )

    def __str__(self) -> str:
        version = ".".join(map(str, self.version)) + ("t" if self.is_free_threaded else "")
        libc = " ".join(filter(None, self.libc))
        return ", ".join(
            filter(None, (f"{self.implementation} {version}", f"{self.bits} bit", self.architecture, self.system, libc))
        )


def check_python(_where: Surroundings) -> Iterator[Finding]:
    """Whether tnn-edge and ONNX Runtime run on this Python."""
    yield check_interpreter(Interpreter.here())


def check_interpreter(python: Interpreter) -> Finding:
    """Whether tnn-edge and ONNX Runtime run on a Python."""
    try:
        least, newest = least_python(), newest_python()
    except PackageNotFoundError:  # the check of the packages says so
        least, newest = (0,), python.version[:2]
    seen = str(python)
    environment = f"python{_dotted(newest)} -m venv .venv && .venv/bin/pip install 'tnn-edge[cpu]'"
    kind, libc = python.libc
    is_old_libc = kind == "musl" or (kind == "glibc" and release(libc) < _OLDEST_GLIBC)
    for is_so, cause, mend in (
        (python.version[:2] < least, f"tnn-edge needs Python {_dotted(least)} or later", environment),
        (python.implementation != "cpython", f"ONNX Runtime has no wheel for {python.implementation}", environment),
        (python.bits != 64, f"ONNX Runtime has no wheel for {python.bits} bit", _SYSTEM_OF_64_BIT),
        (python.architecture not in _ARCHITECTURES, f"ONNX Runtime has no wheel for {python.architecture}", _BUILD),
        (is_old_libc, f"ONNX Runtime's wheels need glibc {_dotted(_OLDEST_GLIBC)} or later", _OTHER_LIBC),
    ):
        if is_so:
            return fault("python", FaultCode.PYTHON, seen, cause=cause, mend=mend)
    if python.version[:2] > newest:
        cause = f"tnn-edge was tried up to Python {_dotted(newest)}; ONNX Runtime may have no wheel for this one"
        return note("python", seen, cause=cause, mend=environment)
    if python.is_free_threaded:
        return note("python", seen, cause="tnn-edge was not tried without the global lock", mend=environment)
    return ok("python", seen)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
