"""The packages that tnn-edge cannot do without, ONNX Runtime apart."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from tnn_edge.doctor.declared import DISTRIBUTION, lower_bounds, release
from tnn_edge.doctor.finding import FaultCode, Finding, fault, ok
from tnn_edge.doctor.rooms import load_room
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_packages"]

_REINSTALL = "pip install --force-reinstall"


def check_packages(where: Surroundings) -> Iterator[Finding]:
    """Whether each is there, new enough, and whether the runtime can be imported with them."""
    try:
        bounds = lower_bounds()
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        cause = f"{DISTRIBUTION} runs from a folder that pip does not know, so what it needs cannot be told"
        yield _fault(f"{DISTRIBUTION} is not installed", cause=cause, mend="pip install -e . in its folder")
        return
    wanting = dict(_wanting(bounds, where.path))
    for package, seen in wanting.items():
        cause = f"tnn-edge needs {package} {bounds[package]} or later"
        yield _fault(seen, cause=cause, mend=f"pip install --upgrade '{package}>={bounds[package]}'")
    try:
        load_room("tnn_edge.runtime")
    except Exception as err:  # noqa: BLE001 -- whatever their own code raises
        reason = next(iter(str(err).strip().splitlines()), "no reason given")
        broken = err.name.partition(".")[0] if isinstance(err, ImportError) and err.name else "one of its packages"
        mend = f"{_REINSTALL} {broken if broken in bounds else 'tnn-edge'}"
        seen = f"tnn_edge.runtime cannot be imported: {type(err).__name__}: {reason}"
        yield _fault(seen, cause=f"{broken} is missing or broken", mend=mend)
        return
    if not wanting:
        yield ok("packages", f"{DISTRIBUTION} {version}, {len(bounds)} packages it needs")


def _wanting(bounds: dict[str, str], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for package, bound in bounds.items():
        installed = next(iter(metadata.distributions(name=package, path=list(path))), None)
        if installed is None:
            yield package, f"{package} is not installed"
        elif release(installed.version) < release(bound):
            yield package, f"{package} {installed.version}"


def _fault(seen: str, *, cause: str, mend: str) -> Finding:
    return fault("packages", FaultCode.PACKAGES, seen, cause=cause, mend=mend)
