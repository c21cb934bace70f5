"""Fixtures of the device half."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tnn_edge.cli.main import main

Command = Callable[..., tuple[int, str, str]]
WritePolicy = Callable[[str], Path]


@pytest.fixture
def tnn_edge_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``tnn-edge ARGS``: exit code, stdout, stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tnn-edge", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, even in a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def write_policy(tmp_path: Path) -> WritePolicy:
    def write_policy(text: str) -> Path:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return path

    return write_policy
