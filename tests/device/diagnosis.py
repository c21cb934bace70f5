"""Environments that are broken in one way, and what the doctor says of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tnn_edge.doctor import FaultCode, Finding, Report, Status, Surroundings

NOBODY = 65534


def only(findings: Iterable[Finding], check: str | None = None) -> Finding:
    """The one finding, or the one of a check."""
    (finding,) = [finding for finding in findings if check in {None, finding.check}]
    return finding


def assert_fault(finding: Finding, code: FaultCode, *, cause: str, mend: str) -> None:
    """A fault of that class alone decides the exit code, and says what it must."""
    assert finding.status is Status.fault, finding
    assert Report((finding,), None).exit_code == code, finding
    assert cause in (finding.cause or ""), finding
    assert mend in (finding.mend or ""), finding


def assert_note(finding: Finding, *, cause: str, mend: str | None = None) -> None:
    """A note leaves the exit code 0."""
    assert finding.status is Status.note, finding
    assert Report((finding,), None).exit_code == 0
    assert cause in (finding.cause or ""), finding
    assert mend is None or mend in (finding.mend or ""), finding


def diagnosed(check: Callable[[Surroundings], Iterable[Finding]], root: Path) -> Finding:
    """The one finding of a check on the machine whose files lie in `root`."""
    return only(check(Surroundings(root=root)))


def install_package(
    folder: Path, name: str, version: str, code: str | None = None, *, module: str | None = None
) -> Path:
    """What pip leaves of a distribution: its metadata and, with `code`, a package of the module's name."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if code is not None:
        package = folder / (module or name)
        package.mkdir()
        (package / "__init__.py").write_text(code)
    return folder


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    """Files below `root`, by their paths; gives `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Without the rights of root, if this is root, to whom every file is open."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
