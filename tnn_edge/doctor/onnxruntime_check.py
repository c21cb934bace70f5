"""ONNX Runtime: installed once, importable, and new enough."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from tnn_edge.doctor.apart import Broken, try_apart
from tnn_edge.doctor.declared import lower_bounds, release
from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.import_failures import Reason, reason_of
from tnn_edge.doctor.nvidia import find_nvidia_gpu
from tnn_edge.doctor.onnxruntime_wheels import TAKEN, Wheel, installed_wheels
from tnn_edge.doctor.providers import check_providers
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_onnxruntime"]

_NAME = "onnxruntime"
_PROBE = "tnn_edge.doctor.onnxruntime_probe"


def check_onnxruntime(where: Surroundings) -> Iterator[Finding]:
    """What is installed, whether it can be imported, its version, and the providers it has."""
    wheels = installed_wheels(where)
    if (unusable := _not_one_wheel(wheels, where)) is not None:
        yield unusable
        return
    (wheel,) = wheels
    stranger = _stranger(wheel, where)
    tried = try_apart(_PROBE, where)
    if isinstance(tried, Broken):
        yield _broken(tried, wheel, stranger)
        return
    yield _imported(tried, wheel, stranger)
    yield from check_providers(tried["providers"], wheel, where)


def _not_one_wheel(wheels: list[Wheel], where: Surroundings) -> Finding | None:
    names = " ".join(wheel.name for wheel in wheels)
    install = f"pip install '{_wanted(where)}'"
    if len(wheels) > 1:
        return fault(
            _NAME,
            FaultCode.TWO_ONNXRUNTIMES,
            " and ".join(map(str, wheels)),
            cause="they overwrite each other's files; with both, CUDA is silently gone",
            mend=f"pip uninstall -y {names} && {install}",
        )
    if not wheels:
        cause = "no ONNX Runtime is installed; tnn-edge leaves the choice between CPU and GPU to you"
        return fault(_NAME, FaultCode.NO_ONNXRUNTIME, "not installed", cause=cause, mend=install)
    if wheels[0].name not in TAKEN:
        return fault(
            _NAME,
            FaultCode.NO_ONNXRUNTIME,
            str(wheels[0]),
            cause=f"tnn-edge runs on {' or '.join(TAKEN)}",
            mend=f"pip uninstall -y {names} && {install}",
        )
    return None


def _wanted(where: Surroundings) -> str:
    if where.device == "cpu":
        return "tnn-edge[cpu]"
    is_gpu = where.device == "cuda" or find_nvidia_gpu(where).is_there
    return "tnn-edge[gpu]" if is_gpu else "tnn-edge[cpu]"


def _stranger(wheel: Wheel, where: Surroundings) -> Path | None:
    """The file that Python imports in place of the wheel's, if that is so."""
    spec = PathFinder.find_spec("onnxruntime", list(where.path))
    if spec is None or spec.origin is None:  # nothing, or a folder without __init__.py
        return None
    origin = Path(spec.origin)
    top = origin.parent if spec.submodule_search_locations else origin
    return None if top.parent.resolve() == wheel.folder.resolve() else origin


def _broken(broken: Broken, wheel: Wheel, stranger: Path | None) -> Finding:
    reason = reason_of(broken, wheel.name)
    if stranger is not None:
        cause = f"{stranger} is imported in place of the installed one; it is no ONNX Runtime, or a broken one"
        reason = Reason(cause, f"mv {stranger} {stranger}.away, or take its folder out of PYTHONPATH")
    seen = f"{wheel}, which cannot be imported: {broken.how}"
    return fault(_NAME, FaultCode.ONNXRUNTIME_BROKEN, seen, cause=reason.cause, mend=reason.mend)


def _imported(tried: dict[str, Any], wheel: Wheel, stranger: Path | None) -> Finding:
    version: str = tried["version"]
    seen = str(wheel)
    if stranger is not None:
        cause = f"{stranger} ({version}) is imported in place of the one that pip knows"
        return note(_NAME, seen, cause=cause, mend="take its folder out of PYTHONPATH, or uninstall the other")
    if release(version) != release(wheel.version):
        return fault(
            _NAME,
            FaultCode.TWO_ONNXRUNTIMES,
            f"{wheel}, whose files are of {version}",
            cause="another ONNX Runtime was installed over it",
            mend=f"pip install --force-reinstall --no-deps {wheel.name}=={wheel.version}",
        )
    try:
        bounds = {**lower_bounds("cpu"), **lower_bounds("gpu")}
    except PackageNotFoundError:  # the check of the packages says so
        bounds = {}
    least = bounds.get(wheel.name, "0")
    if release(version) < release(least):
        cause = f"tnn-edge needs {wheel.name} {least} or later"
        return fault(
            _NAME,
            FaultCode.ONNXRUNTIME_OLD,
            seen,
            cause=cause,
            mend=f"pip install --upgrade '{wheel.name}>={least}'",
        )
    return ok(_NAME, seen)
