"""A child process under limits: what it does, it does to itself alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.device import confined_targets
from tnn_edge import errors
from tnn_edge.errors import BundleError, ConfigError, PlanError, SchemaError, TnnEdgeError
from tnn_edge.runtime.installing import confined as module
from tnn_edge.runtime.installing.confined import Confined, Limits, confined

ROOMY = Limits(address_space_bytes=None, cpu_seconds=None, wall_seconds=30)
MB = 2**20


def run(target: str, arguments: dict[str, Any] | None = None, limits: Limits = ROOMY, **options: Any) -> Any:
    return confined(f"{confined_targets.__name__}:{target}", arguments or {}, limits, what="the probe of B", **options)


def start(target: str, limits: Limits = ROOMY, **options: Any) -> Confined:
    return Confined(f"{confined_targets.__name__}:{target}", {}, limits, what="the probe of B", **options)


def refusal(message: str) -> str:
    return f"^{re.escape(f'the probe of B {message}; do not use this bundle; export it again')}$"


def test_what_goes_in_comes_out() -> None:
    arguments = {"a": [1, 2.5, None, True], "b": {"text": "ü\n\udce9"}, "long": "x" * 300_000}
    assert run("echo", arguments) == arguments


def test_the_child_limits_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROM_PARENT", "seen")
    monkeypatch.syspath_prepend(str(tmp_path))
    limits = Limits(address_space_bytes=600 * MB, cpu_seconds=7, wall_seconds=30)
    with start("surroundings", limits, niceness=3) as child:
        seen = child.result()
    assert (seen["memory"], seen["cpu"], seen["core"]) == (600 * MB, 7, [0, 0])
    assert seen["niceness"] == min(os.nice(0) + 3, 19)
    assert seen["session"] == seen["pid"]
    assert seen["environment"] == {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "FROM_PARENT": "seen"}
    assert seen["path"] == sys.path


def test_the_callers_program_is_not_imported_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from tnn_edge.runtime.installing.confined import Limits, confined\n"
        "print('imported', flush=True)\n"  # no guard, as in many a user's script
        f"confined('{confined_targets.__name__}:echo', {{}}, Limits(None, None, 30), what='it')\n"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("imported\n", "")


@pytest.mark.parametrize("kind", ["TnnEdgeError", "SchemaError", "DeviceError", "MissingExtraError"])
def test_an_error_of_ours_comes_back_as_it_was_raised(kind: str) -> None:
    with pytest.raises(getattr(errors, kind), match=r"^first line\nsecond$") as caught:
        run("fail", {"kind": kind, "message": "first line\nsecond"})
    assert type(caught.value).__name__ == kind


def test_an_error_that_derives_from_ours_comes_back_as_ours() -> None:
    with pytest.raises(SchemaError, match=r"^unknown here$") as caught:
        run("fail", {"kind": "OurOwn", "message": "unknown here"})
    assert type(caught.value) is SchemaError


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("fail", {"kind": "ValueError", "message": "odd\nmore"}, "failed: ValueError: odd"),
        ("fail", {"kind": "ValueError", "message": ""}, "failed: ValueError"),
        ("crash", {}, "was killed by SIGSEGV"),
        ("end_by", {"number": signal.SIGKILL}, "was killed by SIGKILL, as the system does when it runs out of memory"),
        ("end_by", {"number": signal.SIGABRT, "words": "a\n oh \x1b[1m\n\n"}, "was killed by SIGABRT (oh \\x1b[1m)"),
        ("end_by", {"number": 40}, "was killed by signal 40"),
        ("leave", {"code": 0}, "gave an answer that cannot be read"),
        ("leave", {"code": 3}, "ended with exit code 3 and no answer"),
        ("answer", {"text": '{"result"'}, "gave an answer that cannot be read"),
        ("answer", {"text": "[" * 100_000}, "gave an answer that cannot be read"),
        ("answer", {"text": '{"result": "' + "x" * 2**20 + '"}'}, "gave an answer that cannot be read"),
        ("answer", {"text": '{"error": "SystemExit", "message": "x"}'}, "gave an answer that cannot be read"),
        ("answer", {"text": '{"error": ["list"], "message": "x"}'}, "gave an answer that cannot be read"),
        ("answer", {"text": '["result"]'}, "gave an answer that cannot be read"),
        (
            "answer_with_what_json_cannot_say",
            {},
            "ended with exit code 1 and no answer (TypeError: Object of type set is not JSON serializable)",
        ),
        ("absent", {}, f"failed: AttributeError: module '{confined_targets.__name__}' has no attribute 'absent'"),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_is_one_clear_error(target: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=refusal(message)):
        run(target, arguments)


def test_the_caller_names_the_error_and_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"^the probe of B was killed by SIGSEGV; try another$"):
        run("crash", error=ConfigError, way_out="try another")


def test_memory_is_limited() -> None:
    limits = Limits(address_space_bytes=150 * MB, cpu_seconds=None, wall_seconds=30)
    assert run("fill", {"n_bytes": MB}, limits) == MB
    assert run("fill", {"n_bytes": 150 * MB}) == 150 * MB
    with pytest.raises(BundleError, match=refusal("needs more than 150 MB of memory")):
        run("fill", {"n_bytes": 150 * MB}, limits)


@pytest.mark.parametrize(
    "words",
    [
        "terminate called\n  what():  std::bad_alloc\n",
        "Cannot allocate memory",
        "Error parsing message with type 'onnx.ModelProto': Arena alloc failed",
        "EncodeError: Failed to serialize proto",
    ],
)
def test_a_library_that_aborts_for_want_of_memory_is_told_from_a_crash(words: str) -> None:
    arguments = {"number": signal.SIGABRT, "words": words}
    with pytest.raises(BundleError, match=refusal("needs more than 600 MB of memory")):
        run("end_by", arguments, Limits(address_space_bytes=600 * MB, cpu_seconds=None, wall_seconds=30))
    with pytest.raises(BundleError, match=refusal("needs more memory than there is")):
        run("end_by", arguments)


def test_a_limit_too_low_for_the_libraries_is_reported() -> None:
    limits = Limits(address_space_bytes=64 * MB, cpu_seconds=None, wall_seconds=30)
    with pytest.raises(BundleError, match=refusal("needs more than 64 MB of memory")):
        confined("numpy:zeros", {"shape": 1}, limits, what="the probe of B")


def test_processor_time_is_limited() -> None:
    with pytest.raises(BundleError, match=refusal("ran longer than 1 s of CPU time")):
        run("burn", {}, Limits(address_space_bytes=None, cpu_seconds=1, wall_seconds=30))


@pytest.mark.parametrize("target", ["wait_for_ever", "burn", "burn_without_the_gil"])
def test_time_is_limited(target: str) -> None:
    with pytest.raises(BundleError, match=refusal("ran longer than 0.3 s")):
        run(target, {}, Limits(address_space_bytes=None, cpu_seconds=None, wall_seconds=0.3))


def test_a_child_that_does_not_hear_its_clock_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    with start("wait_for_ever", Limits(None, None, wall_seconds=0.1)) as child:
        os.kill(child._process.pid, signal.SIGSTOP)
        with pytest.raises(BundleError, match=refusal("ran longer than 0.1 s")):
            child.result()
    assert child._process.returncode == -signal.SIGKILL


def test_much_output_stops_nothing_and_shows_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("print_much", {"n_lines": 50_000}) == 50_000
    assert capfd.readouterr() == ("", "")


def test_a_job_in_the_background_is_asked_whether_it_is_done() -> None:
    with start("wait_for_ever") as waiting, start("echo") as quick:
        assert not waiting.poll()
        assert quick.result() == {}
        assert quick.poll()
        assert quick.result() == {}
        assert not waiting.poll()


def test_a_job_that_is_cancelled_ends() -> None:
    child = start("wait_for_ever")
    child.cancel()
    assert child.poll()
    with pytest.raises(BundleError, match=refusal("was cancelled")):
        child.result()
    child.cancel()


def test_an_interrupt_ends_the_child(hears_ctrl_c: None) -> None:
    child = start("wait_for_ever")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        child.result()
    assert child._process.returncode == -signal.SIGKILL


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool]) -> None:
    """Wait, at most as long as a stuck test may take, for what another process does."""
    gone = threading.Event()
    for _ in range(1000):
        if condition():
            return
        gone.wait(0.01)
    raise AssertionError("it did not happen within 10 s")


@pytest.mark.parametrize("target", ["wait_for_ever", "burn", "burn_without_the_gil"])
def test_the_child_of_a_killed_process_ends(target: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    parent = Confined(
        f"{confined_targets.__name__}:have_a_child", {"target": target, "pid_file": str(file)}, ROOMY, what="the parent"
    )
    until(lambda: file.exists() and file.read_text() != "")
    pid = int(file.read_text())
    assert is_running(pid)
    os.kill(parent._process.pid, signal.SIGKILL)
    until(lambda: not is_running(pid))
    parent.cancel()


def test_a_child_started_in_a_thread_outlives_the_thread() -> None:
    started: list[Confined] = []
    thread = threading.Thread(target=lambda: started.append(start("echo")))
    thread.start()
    thread.join()
    assert started[0].result() == {}


def test_a_system_that_starts_no_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    message = "the probe of B cannot be started: No such file or directory; free memory or disk space"
    with pytest.raises(PlanError, match=f"^{message}$"):
        start("echo")


def test_a_request_that_json_cannot_say_starts_nothing() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        run("echo", {"a": {1, 2}})


def test_every_error_of_ours_may_come_back_and_no_other() -> None:
    assert sorted(module._OWN_ERRORS) == sorted(errors.__all__)
    assert all(issubclass(kind, TnnEdgeError) for kind in module._OWN_ERRORS.values())
