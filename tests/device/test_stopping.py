"""Ctrl-C, SIGTERM and a reader that leaves: the frame is finished and every frame accounted for."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tnn_edge.camera.stopping import StopRequest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    """More frames than lines fit into a pipe."""
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 32))
    for i in range(3000):
        writer.write(np.full((32, 32, 3), i % 256, np.uint8))
    writer.release()
    return path


def start_run(bundle: Path, source: Path, *options: str) -> subprocess.Popen[str]:
    # A shell's background job ignores SIGINT, and so would the child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from tnn_edge.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", str(source), "--bundle", str(bundle), "--device", "cpu", "--json"]
    command += options
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_frame_and_prints_the_accounting(
    signum: int, code: int, tiny_bundle: Path, long_video: Path
) -> None:
    with start_run(tiny_bundle, long_video) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        first = child.stdout.readline()
        child.send_signal(signum)
        # Not communicate(): it would pass over the lines that readline() has already buffered.
        rest, errors = child.stdout.read(), child.stderr.read()
        child.wait(timeout=60)
    *records, last = map(json.loads, (first + rest).splitlines())
    n = len(records)
    assert child.returncode == code
    assert 1 <= n < 3000
    assert [record["frame"] for record in records] == list(range(n))
    assert last["summary"]["captured"] == last["summary"]["processed"] == n
    assert errors.startswith(f"captured {n} = {n} processed + 0 dropped + 0 failed; ")
    assert "Traceback" not in errors


def test_a_reader_that_leaves_ends_the_run_without_a_traceback(tiny_bundle: Path, long_video: Path) -> None:
    with start_run(tiny_bundle, long_video) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        errors = child.stderr.read()
        child.wait(timeout=60)
    assert child.returncode == 141
    counts = re.fullmatch(r"captured (\d+) = (\d+) processed \+ 0 dropped \+ 1 failed; .*\n", errors)
    assert counts
    assert int(counts[1]) == int(counts[2]) + 1


def test_a_reader_that_leaves_a_named_pipe_ends_the_run_too(
    tiny_bundle: Path, long_video: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with start_run(tiny_bundle, long_video, "--out", str(pipe)) as child:
        assert child.stderr is not None
        os.set_blocking(reader, True)
        select.select([reader], [], [])
        os.read(reader, 1)
        os.close(reader)
        errors = child.stderr.read()
        child.wait(timeout=60)
    assert child.returncode == 141
    assert re.fullmatch(r"captured \d+ = \d+ processed \+ 0 dropped \+ 1 failed; .*\n", errors)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_full_stdout_ends_the_run_in_one_line(unbuffered: str, tiny_bundle: Path, long_video: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from tnn_edge.cli.main import main; main()", "run", str(long_video)]
        env = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(
            [*command, "--bundle", str(tiny_bundle), "--device", "cpu", "--json"],
            env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    accounting, error = done.stderr.splitlines()
    assert done.returncode == 1
    assert accounting.startswith("captured 1 = 0 processed + 0 dropped + 1 failed")
    assert error == "error: stdout cannot be written (No space left on device); send it elsewhere"


@pytest.mark.usefixtures("hears_ctrl_c")
def test_a_second_signal_does_what_it_always_did() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        assert stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with StopRequest():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert not stop.is_set()
            assert stop.exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, before)
