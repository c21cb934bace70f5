"""Why a package with compiled parts does not load, read from what the loader says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tnn_edge.doctor.apart import Broken

__all__ = ["MORE_MEMORY", "Reason", "reason_of"]

MORE_MEMORY = (
    "stop what else runs, or add swap: sudo fallocate -l 1G /swap && sudo chmod 600 /swap && sudo mkswap /swap && "
    "sudo swapon /swap"
)


@dataclass(frozen=True)
class Reason:
    """The cause of a failure, and the command that mends it; `{package}` in it is the distribution's name."""

    cause: str
    mend: str


_REINSTALL = "pip install --force-reinstall --no-cache-dir {package}"

_REASONS = (
    (
        r"version `?(?P<what>GLIBC\w*_[\d.]+)'? not found",
        Reason("its wheel was made for a newer system: it needs {what}, which this one lacks", _REINSTALL),
    ),
    (
        r"compiled using NumPy 1|_ARRAY_API not found|multiarray failed to import|numpy\.dtype size changed",
        Reason(
            "it was compiled for another NumPy than the one installed",
            "pip install --upgrade {package}; where there is no newer one: pip install 'numpy<2'",
        ),
    ),
    (
        r"(?P<what>[^\s:]+): cannot allocate memory in static TLS block",
        Reason("{what} must be loaded before everything else", "export LD_PRELOAD={what}"),
    ),
    (
        r"cannot enable executable stack",
        Reason("this system forbids the executable stack that an older release asks for", "pip install -U {package}"),
    ),
    (
        r"libGL\.so\.1: cannot open shared object file",
        Reason(
            "this build of OpenCV opens windows and needs the libraries of a screen",
            "pip uninstall -y {package} && pip install 'tnn-edge[camera]'",
        ),
    ),
    (
        r"(?P<what>lib(?:cuda|cudart|cublas|cublasLt|cudnn|cufft|curand|nvinfer)\w*\.so[.\d]*): cannot open shared",
        Reason(
            "it is made for CUDA, and {what} is not found", "pip uninstall -y {package} && pip install 'tnn-edge[cpu]'"
        ),
    ),
    (
        r"(?P<what>[\w.+-]+\.so[.\d]*): (?:cannot open shared object file|file too short|invalid ELF header)",
        Reason("the library {what} is missing or damaged", _REINSTALL),
    ),
    (
        r"module '\w+' has no attribute",
        Reason(
            "its files are gone: another distribution of the same name was uninstalled and took them along", _REINSTALL
        ),
    ),
    (r"No module named '(?P<what>\w+)'", Reason("it needs {what}, which is not installed", "pip install {what}")),
    (r"wrong ELF class|Exec format error", Reason("its wheel was made for another processor", _REINSTALL)),
    (
        r"circular import|partially initialized module",
        Reason(
            "another file of the same name is imported in its place, or its own files are mixed from two releases",
            "rename a file of yours that has its name; else " + _REINSTALL,
        ),
    ),
    (
        r"SIGILL",
        Reason("it uses instructions that this processor does not have", "install a release built for this processor"),
    ),
    (r"SIGKILL|MemoryError|[Cc]annot allocate memory", Reason("there is not enough memory to load it", MORE_MEMORY)),
    (r"no answer within", Reason("loading it does not end", _REINSTALL)),
)
_UNKNOWN = Reason("its files are incomplete or do not fit together", _REINSTALL)


def reason_of(broken: Broken, package: str) -> Reason:
    """Cause and cure of a failed import.

    Args:
        broken: how the import failed.
        package: name of the distribution to install anew.
    """
    text = f"{broken.how}\n{broken.text}"
    for pattern, reason in _REASONS:
        if (match := re.search(pattern, text)) is not None:
            words = {"what": "", **match.groupdict(), "package": package}
            return Reason(reason.cause.format_map(words), reason.mend.format_map(words))
    return Reason(_UNKNOWN.cause, _UNKNOWN.mend.format(package=package))
