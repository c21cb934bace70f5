"""`tnn-edge doctor` where Python, its packages or ONNX Runtime are broken, and the examination as a whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime
import pytest

from tests.device.diagnosis import (
    assert_fault,
    assert_note,
    install_package,
    only,
    write_files,
)
from tnn_edge.cli.doctor import doctor
from tnn_edge.doctor import FaultCode, Finding, Report, Status, Surroundings, cache, declared, examine, memory
from tnn_edge.doctor.apart import Broken
from tnn_edge.doctor.examination import CHECKS
from tnn_edge.doctor.finding import fault, note, ok
from tnn_edge.doctor.import_failures import reason_of
from tnn_edge.doctor.interpreter import Interpreter, check_interpreter
from tnn_edge.doctor.memory import check_memory
from tnn_edge.doctor.onnxruntime_check import check_onnxruntime
from tnn_edge.doctor.onnxruntime_probe import MODEL
from tnn_edge.doctor.onnxruntime_wheels import Wheel
from tnn_edge.doctor.packages import check_packages
from tnn_edge.doctor.providers import check_providers

REPOSITORY = Path(__file__).resolve().parents[2]
STANDARD = tuple(path for path in sys.path if "site-packages" not in path and path != str(REPOSITORY))
INSTALLED = Path(onnxruntime.__file__).parents[1]
Device = Literal["auto", "cpu", "cuda"]
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()

WORKING = """
import os
import numpy as np
__version__ = {version!r}
def get_available_providers():
    return {providers!r}
class InferenceSession:
    def __init__(self, model, providers):
        self.runs_on = "CPUExecutionProvider" if "CUDA" in providers[0] else providers[0]
        if "CUDA" in providers[0]:
            os.write(2, {said!r}.encode())
    def get_providers(self):
        return [self.runs_on]
    def run(self, outputs, inputs):
        return [np.maximum(inputs["x"], 0)]
"""
"""Stands for an ONNX Runtime of another release or another machine: a wheel for CUDA has 300 MB."""

SAID = (
    "\x1b[1;31m2026-11-25 23:17:51.519 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] Get() "
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: "
    "libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m\n"
    "\x1b[0;93m2026-11-25 23:17:51.519 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 "
    "CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. "
    "Please install all dependencies as mentioned in the GPU requirements page.\x1b[m\n"
)
"""What onnxruntime-gpu 1.31.1 says on stderr on a machine without CUDA, shortened."""

BUS = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000",
}
DRIVER = {**BUS, "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65\n"}


def working(version: str = "1.32.0", providers: tuple[str, ...] = ("CPUExecutionProvider",), said: str = "") -> str:
    return WORKING.format(version=version, providers=list(providers), said=said)


def everything_but_onnxruntime(folder: Path) -> Path:
    for entry in INSTALLED.iterdir():
        if not entry.name.lower().startswith(("onnxruntime", "__pycache__")):
            (folder / entry.name).symlink_to(entry)
    return folder


def link_numpy(folder: Path) -> None:
    for entry in INSTALLED.glob("numpy*"):
        (folder / entry.name).symlink_to(entry)


def onnxruntime_findings(
    folder: Path, *, root: Path = Path("/nowhere"), device: Device = "auto", program_s: float = 20.0
) -> list[Finding]:
    """What the doctor says of the ONNX Runtime in a folder, which is seen beside NumPy and our own package alone."""
    link_numpy(folder)
    path = (str(REPOSITORY), str(folder), *STANDARD)
    return list(check_onnxruntime(Surroundings(root=root, path=path, device=device, program_s=program_s)))


def doctor_command(paths: list[Path], *args: str, bare: bool = False) -> subprocess.CompletedProcess[str]:
    """The command in a process that looks for packages in `paths` first, and nowhere else if it is `bare`."""
    first = [str(path) for path in (REPOSITORY, *paths)]
    code = (
        f"import sys; sys.path[:0] = {first}\n"
        "from tnn_edge.cli.doctor import doctor\nfrom tnn_edge.cli.program import program\nprogram(doctor)"
    )
    options = ["-I", "-S"] if bare else []
    return subprocess.run([sys.executable, *options, "-c", code, *args], capture_output=True, text=True, check=False)


# The interpreter.

GOOD = Interpreter(
    version=(3, 12, 1),
    implementation="cpython",
    bits=64,
    is_free_threaded=False,
    architecture="aarch64",
    system="Linux",
    libc=("glibc", "2.35"),
)


@pytest.mark.parametrize(
    ("change", "cause", "mend"),
    [
        ({"version": (3, 9, 18)}, "tnn-edge needs Python 3.10 or later", "python3.13 -m venv .venv"),
        ({"implementation": "pypy"}, "no wheel for pypy", "python3.13 -m venv .venv"),
        ({"bits": 32}, "no wheel for 32 bit", "getconf LONG_BIT must say 64"),
        ({"architecture": "armv7l"}, "no wheel for armv7l", "https://onnxruntime.ai/docs/build/"),
        ({"libc": ("musl", "")}, "need glibc 2.27 or later", "docker run"),
        ({"libc": ("glibc", "2.17")}, "need glibc 2.27 or later", "docker run"),
    ],
)
def test_a_python_without_wheels_is_a_fault(change: dict[str, Any], cause: str, mend: str) -> None:
    assert_fault(check_interpreter(replace(GOOD, **change)), FaultCode.PYTHON, cause=cause, mend=mend)


def test_a_python_that_was_not_tried_is_a_note() -> None:
    assert check_interpreter(GOOD).status is Status.ok
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(declared, "DISTRIBUTION", "surely-not-installed")
        assert check_interpreter(GOOD).status is Status.ok  # another check says that it is not installed
    assert_note(check_interpreter(replace(GOOD, version=(3, 99, 0))), cause="tried up to Python 3.13", mend="venv")
    assert_note(check_interpreter(replace(GOOD, is_free_threaded=True)), cause="without the global lock")


def test_this_python_is_known() -> None:
    here = Interpreter.here()
    assert here.version == sys.version_info[:3]
    assert check_interpreter(here).status is not Status.fault


# What tnn-edge needs.


def test_a_package_that_is_too_old_is_named_with_the_release_that_is_needed(tmp_path: Path) -> None:
    folder = install_package(tmp_path, "rich", "1.0")
    findings = check_packages(Surroundings(path=(str(folder), *sys.path)))
    finding = only(findings)
    assert finding.seen == "rich 1.0"
    assert_fault(
        finding, FaultCode.PACKAGES, cause="needs rich 13.7 or later", mend="pip install --upgrade 'rich>=13.7'"
    )


def test_every_missing_package_is_named(tmp_path: Path) -> None:
    seen = [finding.seen for finding in check_packages(Surroundings(path=(str(tmp_path),)))]
    assert {"numpy is not installed", "onnx is not installed", "psutil is not installed"} <= set(seen)
    assert not any("onnxruntime" in line for line in seen)  # which is an extra


def test_a_broken_numpy_is_told_by_a_command_that_ends_well(tmp_path: Path) -> None:
    write_files(tmp_path, {"numpy/__init__.py": "raise ImportError('numpy/core/x.so: wrong ELF', name='numpy')"})
    done = doctor_command([tmp_path], "--json")
    assert (done.returncode, done.stderr) == (FaultCode.PACKAGES, "")
    report = json.loads(done.stdout)
    assert report["exit_code"] == FaultCode.PACKAGES
    assert report["machine"] is None
    by_check = {finding["check"]: finding for finding in report["findings"]}
    packages = by_check["packages"]
    assert packages["seen"] == "tnn_edge.runtime cannot be imported: ImportError: numpy/core/x.so: wrong ELF"
    assert packages["cause"] == "numpy is missing or broken"
    assert packages["mend"] == "pip install --force-reinstall numpy"
    assert by_check["memory"]["status"] == "ok"  # what needs no NumPy is examined all the same


# ONNX Runtime.


def test_without_onnxruntime_the_command_says_how_to_get_one(tmp_path: Path) -> None:
    done = doctor_command([everything_but_onnxruntime(tmp_path)], "--json", "--device", "cpu", bare=True)
    assert (done.returncode, done.stderr) == (FaultCode.NO_ONNXRUNTIME, "")
    report = json.loads(done.stdout)
    (finding,) = [finding for finding in report["findings"] if finding["check"] == "onnxruntime"]
    assert finding == {
        "check": "onnxruntime",
        "status": "fault",
        "seen": "not installed",
        "cause": "no ONNX Runtime is installed; tnn-edge leaves the choice between CPU and GPU to you",
        "mend": "pip install 'tnn-edge[cpu]'",
        "exit_code": FaultCode.NO_ONNXRUNTIME,
    }
    assert report["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["machine"]["onnxruntime"] is None


def test_where_a_gpu_is_the_onnxruntime_for_it_is_proposed(tmp_path: Path) -> None:
    root = write_files(tmp_path / "root", BUS)
    (finding,) = onnxruntime_findings(tmp_path, root=root)
    assert_fault(finding, FaultCode.NO_ONNXRUNTIME, cause="no ONNX Runtime", mend="pip install 'tnn-edge[gpu]'")


def test_two_distributions_are_a_fault_that_the_table_shows_with_its_cure(tmp_path: Path) -> None:
    other = "onnxruntime-gpu" if (INSTALLED / "onnxruntime").is_dir() and not HAS_CUDA else "onnxruntime"
    done = doctor_command([install_package(tmp_path, other, "1.30.0")], "--device", "cpu")
    assert (done.returncode, done.stderr) == (FaultCode.TWO_ONNXRUNTIMES, "")
    assert re.search(r"│ onnxruntime +│ fault +│ onnxruntime\S* [\d.]+ and onnxruntime-gpu [\d.]+", done.stdout)
    assert "fault 13, onnxruntime: they overwrite each other's files; with both, CUDA is silently gone\n" in done.stdout
    assert "  pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'tnn-edge[cpu]'\n" in done.stdout
    assert done.stdout.endswith("1 fault, exit code 13\n")


def test_an_onnxruntime_that_tnn_edge_does_not_take_is_no_onnxruntime(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime-openvino", "1.24.1", working(), module="onnxruntime")
    (finding,) = onnxruntime_findings(tmp_path)
    assert_fault(
        finding,
        FaultCode.NO_ONNXRUNTIME,
        cause="tnn-edge runs on onnxruntime or onnxruntime-gpu",
        mend="pip uninstall -y onnxruntime-openvino && pip install 'tnn-edge[cpu]'",
    )


def test_files_that_another_uninstall_took_along_are_missed(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime", "1.32.0")
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    (finding,) = onnxruntime_findings(tmp_path)
    assert "module 'onnxruntime' has no attribute" in finding.seen
    assert_fault(
        finding,
        FaultCode.ONNXRUNTIME_BROKEN,
        cause="its files are gone",
        mend="pip install --force-reinstall --no-cache-dir onnxruntime",
    )


@pytest.mark.parametrize(
    ("code", "seen", "cause", "mend"),
    [
        (
            'raise ImportError("/lib/libm.so.6: version `GLIBC_2.38\' not found (required by /x/onnxruntime.so)")',
            "ImportError: /lib/libm.so.6: version `GLIBC_2.38' not found",
            "it needs GLIBC_2.38, which this one lacks",
            "pip install --force-reinstall --no-cache-dir onnxruntime",
        ),
        (
            "raise ImportError('\\nA module that was compiled using NumPy 1.x cannot be run in\\nNumPy 2.4.6')",
            "ImportError: A module that was compiled using NumPy 1.x cannot be run in",
            "compiled for another NumPy",
            "pip install 'numpy<2'",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "the process was ended by SIGILL",
            "instructions that this processor does not have",
            "install a release built for this processor",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "the process was ended by SIGSEGV",
            "its files are incomplete or do not fit together",
            "--force-reinstall",
        ),
        (
            "import os; os._exit(3)",
            "exit code 3, without a word",
            "its files are incomplete or do not fit together",
            "--force-reinstall",
        ),
        (
            "import sys; sys.exit('licence expired')",
            "SystemExit: licence expired",
            "its files are incomplete or do not fit together",
            "--force-reinstall",
        ),
    ],
    ids=["glibc", "numpy", "illegal instruction", "crash", "silent exit", "exit"],
)
def test_an_onnxruntime_that_does_not_import_is_told_with_its_cause(
    tmp_path: Path, code: str, seen: str, cause: str, mend: str
) -> None:
    install_package(tmp_path, "onnxruntime", "1.32.0", code)
    (finding,) = onnxruntime_findings(tmp_path)
    assert seen in finding.seen
    assert_fault(finding, FaultCode.ONNXRUNTIME_BROKEN, cause=cause, mend=mend)


def test_an_import_that_never_ends_is_given_up(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime", "1.32.0", "import threading; threading.Event().wait()")
    (finding,) = onnxruntime_findings(tmp_path, program_s=0.4)
    assert finding.seen.endswith("cannot be imported: no answer within 0.4 s")
    assert_fault(finding, FaultCode.ONNXRUNTIME_BROKEN, cause="loading it does not end", mend="--force-reinstall")


def test_a_file_of_the_same_name_is_found_out(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_files(mine, {"onnxruntime.py": "raise ValueError('a script of mine')"})
    site = install_package(tmp_path / "site", "onnxruntime", "1.32.0", working())
    where = Surroundings(root=tmp_path, path=(str(REPOSITORY), str(mine), str(site), *STANDARD))
    finding = only(check_onnxruntime(where))
    assert "ValueError: a script of mine" in finding.seen
    assert_fault(
        finding,
        FaultCode.ONNXRUNTIME_BROKEN,
        cause=f"{mine / 'onnxruntime.py'} is imported in place of the installed one",
        mend=f"mv {mine / 'onnxruntime.py'}",
    )


def test_a_copy_that_pip_does_not_know_is_a_note(tmp_path: Path) -> None:
    site = install_package(tmp_path / "site", "onnxruntime", "1.32.0", working())
    copy = install_package(tmp_path / "copy", "unrelated", "1.0", working("1.25.0"), module="onnxruntime")
    link_numpy(copy)
    where = Surroundings(root=tmp_path, path=(str(REPOSITORY), str(copy), str(site), *STANDARD))
    finding = only(check_onnxruntime(where), "onnxruntime")
    assert_note(
        finding, cause=f"{copy / 'onnxruntime' / '__init__.py'} (1.25.0) is imported in place", mend="PYTHONPATH"
    )


def test_files_of_another_release_than_pip_knows_are_a_fault(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime", "1.32.0", working("1.31.1"))
    finding = only(onnxruntime_findings(tmp_path), "onnxruntime")
    assert finding.seen == "onnxruntime 1.32.0, whose files are of 1.31.1"
    assert_fault(
        finding,
        FaultCode.TWO_ONNXRUNTIMES,
        cause="another ONNX Runtime was installed over it",
        mend="pip install --force-reinstall --no-deps onnxruntime==1.32.0",
    )


def test_an_onnxruntime_that_is_too_old_is_a_fault(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime", "1.16.3", working("1.16.3"))
    finding, providers = onnxruntime_findings(tmp_path)
    assert_fault(
        finding,
        FaultCode.ONNXRUNTIME_OLD,
        cause="tnn-edge needs onnxruntime 1.20 or later",
        mend="pip install --upgrade 'onnxruntime>=1.20'",
    )
    assert providers.status is Status.ok


# Providers.

CPU = "CPUExecutionProvider"
CUDA = ("CUDAExecutionProvider", CPU)


GPU_WHEEL = Wheel("onnxruntime-gpu", "1.31.1", Path("/nowhere"))


def cuda_finding(said: str, root: Path, device: Device = "auto") -> Finding:
    """What is made of it that CUDA is listed and says this when a session is opened."""
    where = Surroundings(root=root, device=device)
    return only(check_providers({"CUDAExecutionProvider": said, CPU: None}, GPU_WHEEL, where))


def test_why_cuda_does_not_start_is_heard_from_onnxruntime_itself(tmp_path: Path) -> None:
    install_package(tmp_path, "onnxruntime-gpu", "1.31.1", working("1.31.1", CUDA, SAID), module="onnxruntime")
    wheel, finding = onnxruntime_findings(tmp_path)
    assert (wheel.status, wheel.seen) == (Status.ok, "onnxruntime-gpu 1.31.1")
    assert finding == cuda_finding(SAID, Path("/nowhere"))


@pytest.mark.parametrize(
    ("files", "cause", "mend"),
    [
        ({}, "there is no NVIDIA GPU here", "pip uninstall -y onnxruntime-gpu && pip install 'tnn-edge[cpu]'"),
        (BUS, "the GPU's driver is not loaded", "sudo modprobe nvidia"),
        (DRIVER, "ONNX Runtime needs cuDNN 9.* and CUDA 13", "sudo apt install nvidia-jetpack"),
    ],
    ids=["no GPU", "no driver", "no libraries"],
)
def test_cuda_that_is_listed_and_does_not_start_is_told_with_its_cause(
    tmp_path: Path, files: dict[str, str], cause: str, mend: str
) -> None:
    finding = cuda_finding(SAID, write_files(tmp_path, files))
    assert finding.seen == (
        "CUDAExecutionProvider is listed and does not start: "
        "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    )
    assert_fault(finding, FaultCode.PROVIDER, cause=cause, mend=mend)
    assert (finding.cause or "").endswith("; device auto takes cpu instead")


@pytest.mark.parametrize(
    ("said", "cause", "mend"),
    [
        ("CUDA failure 35: CUDA driver version is insufficient ; GPU=0", "older than this CUDA", "ubuntu-drivers"),
        ("CUDA failure 2: out of memory ; GPU=0", "hold the GPU's memory", "nvidia-smi"),
        ("CUDA failure 999: unknown error ; GPU=0", "CUDA itself fails", "nvidia-smi"),
    ],
)
def test_what_cuda_says_decides_the_cause(tmp_path: Path, said: str, cause: str, mend: str) -> None:
    finding = cuda_finding(said, write_files(tmp_path, DRIVER), "cuda")
    assert finding.seen == f"CUDAExecutionProvider is listed and does not start: {said.partition(' ;')[0]}"
    assert_fault(finding, FaultCode.PROVIDER, cause=cause, mend=mend)


def test_whoever_wants_the_cpu_alone_need_not_mind_cuda(tmp_path: Path) -> None:
    finding = cuda_finding(SAID, tmp_path, "cpu")
    assert_note(finding, cause="there is no NVIDIA GPU here", mend="pip uninstall -y onnxruntime-gpu")


def test_cuda_that_starts_is_what_auto_takes(tmp_path: Path) -> None:
    answers = {"TensorrtExecutionProvider": SAID, "CUDAExecutionProvider": None, CPU: None}
    finding = only(check_providers(answers, GPU_WHEEL, Surroundings(root=tmp_path)))
    assert (finding.status, finding.seen) == (
        Status.ok,
        (
            "a session runs on CUDAExecutionProvider, CPUExecutionProvider; device auto takes cuda; "
            "TensorrtExecutionProvider, which tnn-edge does not use, refuses "
            "(libcublasLt.so.13: cannot open shared object file: No such file or directory)"
        ),
    )


def test_a_gpu_wheel_that_lists_no_cuda_is_a_fault(tmp_path: Path) -> None:
    finding = only(check_providers({CPU: None}, GPU_WHEEL, Surroundings(root=tmp_path)))
    assert_fault(
        finding,
        FaultCode.PROVIDER,
        cause="the files are not those of onnxruntime-gpu",
        mend="pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1",
    )


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_this_onnxruntime_runs_on_the_cpu_and_lacks_cuda(tmp_path: Path) -> None:
    findings = list(check_onnxruntime(Surroundings(root=tmp_path)))
    assert [finding.status for finding in findings] == [Status.ok, Status.ok], findings
    assert findings[0].seen == f"onnxruntime {onnxruntime.__version__}"
    assert re.fullmatch(r"a session runs on .*CPUExecutionProvider; device auto takes cpu", findings[1].seen)


def test_an_onnxruntime_for_the_cpu_where_cuda_is_wanted_or_idle(tmp_path: Path) -> None:
    wheel = Wheel("onnxruntime", "1.32.0", tmp_path)
    way_out = "pip uninstall -y onnxruntime && pip install 'tnn-edge[gpu]'"
    wanted = only(check_providers({CPU: None}, wheel, Surroundings(root=tmp_path, device="cuda")))
    assert_fault(wanted, FaultCode.PROVIDER, cause="onnxruntime is made for the CPU alone", mend=way_out)
    idle = only(check_providers({CPU: None}, wheel, Surroundings(root=write_files(tmp_path, DRIVER))))
    assert_note(idle, cause="onnxruntime is made for the CPU alone", mend=way_out)


def test_a_cpu_that_computes_nothing_is_a_fault(tmp_path: Path) -> None:
    wrong = working().replace("np.maximum", "np.minimum")
    install_package(tmp_path, "onnxruntime", "1.32.0", wrong)
    finding = only(onnxruntime_findings(tmp_path), "providers")
    assert finding.seen == "CPUExecutionProvider: it computes Relu as [-1.0, 0.0, 0.0, 0.0]"
    assert_fault(
        finding, FaultCode.PROVIDER, cause="this one is damaged", mend="--force-reinstall --no-deps onnxruntime"
    )


def test_the_model_that_is_tried_is_the_one_it_is_said_to_be() -> None:
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[4] x) => (float[4] y) { y = Relu(x) }'
    assert onnx.load_from_string(MODEL) == onnx.parser.parse_model(text)


@pytest.mark.parametrize(
    ("text", "cause", "mend"),
    [
        ("libGL.so.1: cannot open shared object file", "libraries of a screen", "pip install 'tnn-edge[camera]'"),
        ("libcudart.so.12: cannot open shared object", "made for CUDA, and libcudart.so.12", "tnn-edge[cpu]"),
        ("libfoo.so.3: cannot open shared object file", "the library libfoo.so.3 is missing", "--force-reinstall"),
        ("/x/onnxruntime.so: file too short", "the library onnxruntime.so is missing or damaged", "--force-reinstall"),
        ("/x/y.so: wrong ELF class: ELFCLASS32", "for another processor", "--force-reinstall"),
        (
            "/usr/lib/libgomp.so.1: cannot allocate memory in static TLS block",
            "must be loaded before everything else",
            "export LD_PRELOAD=/usr/lib/libgomp.so.1",
        ),
        ("cannot enable executable stack as shared object requires", "executable stack", "pip install -U p"),
        ("cannot import name 'x' from partially initialized module 'p'", "of the same name", "rename a file"),
        ("numpy.dtype size changed, may indicate binary incompatibility", "another NumPy", "pip install --upgrade p"),
        ("the process was ended by SIGKILL", "not enough memory to load it", "swapon"),
        ("No module named 'numpy'", "it needs numpy, which is not installed", "pip install numpy"),
        ("nobody knows", "incomplete or do not fit together", "pip install --force-reinstall --no-cache-dir p"),
    ],
)
def test_what_the_loader_says_decides_the_cause(text: str, cause: str, mend: str) -> None:
    reason = reason_of(Broken(f"ImportError: {text}", ""), "p")
    assert cause in reason.cause
    assert mend in reason.mend


# The examination.


def test_a_check_that_raises_is_a_finding_and_stops_nothing() -> None:
    def falls(_where: Surroundings) -> Iterator[Finding]:
        yield ok("half", "done")
        raise ZeroDivisionError("by nothing")

    report = examine(checks={"falls": falls, "stands": lambda _where: [ok("stands", "still")]})
    assert [finding.check for finding in report.findings] == ["half", "falls", "stands"]
    finding = report.findings[1]
    assert finding.seen == "the check failed: ZeroDivisionError: by nothing"
    assert_fault(finding, FaultCode.CHECK, cause="a state that the check does not know", mend="report this line")
    assert report.exit_code == FaultCode.CHECK


def test_a_check_that_hangs_is_a_finding(tmp_path: Path) -> None:
    fifo = tmp_path / "proc" / "meminfo"
    fifo.parent.mkdir()
    os.mkfifo(fifo)  # opening it waits for a writer
    report = examine(Surroundings(root=tmp_path, patience_s=0.2), checks={"memory": check_memory})
    try:
        finding = only(report.findings)
        assert finding.seen == "the check failed: no answer within 0.2 s"
        assert_fault(
            finding, FaultCode.CHECK, cause="a state that the check does not know", mend="tnn-edge doctor again"
        )
    finally:
        os.close(os.open(fifo, os.O_WRONLY))
    for thread in threading.enumerate():
        if thread.name == "doctor-memory":
            thread.join(5)
            assert not thread.is_alive()


def test_a_machine_without_a_single_kernel_file_is_examined_to_the_end(tmp_path: Path) -> None:
    report = examine(Surroundings(root=tmp_path, cache=tmp_path, path=(str(REPOSITORY), *STANDARD)))
    assert {finding.check for finding in report.findings} == CHECKS.keys() - {"providers"}
    assert report.exit_code == FaultCode.PACKAGES  # none of them is on that path
    assert {finding.code for finding in report.findings} == {None, FaultCode.PACKAGES, FaultCode.NO_ONNXRUNTIME}
    assert report.machine is not None
    json.dumps(report.as_json())


def test_this_machine_is_examined_without_a_failing_check(tmp_path: Path) -> None:
    report = examine(Surroundings(cache=tmp_path))
    assert FaultCode.CHECK not in {finding.code for finding in report.findings}
    assert [f.check for f in report.findings if f.check in CHECKS] == sorted(
        (f.check for f in report.findings if f.check in CHECKS), key=list(CHECKS).index
    )


def test_the_most_severe_fault_is_the_exit_code() -> None:
    clock = fault("clock", FaultCode.CLOCK, "1970", cause="c", mend="m")
    two = fault("onnxruntime", FaultCode.TWO_ONNXRUNTIMES, "two", cause="c", mend="m")
    assert Report((ok("a", "b"), note("c", "d", cause="e")), None).exit_code == 0
    assert Report((clock, ok("a", "b"), two), None).exit_code == FaultCode.TWO_ONNXRUNTIMES


@pytest.mark.parametrize("code", FaultCode)
def test_help_and_guide_explain_every_exit_code(code: FaultCode) -> None:
    assert re.search(rf"^ +{code:d} \w", doctor.__doc__ or "", re.MULTILINE)
    guide = (REPOSITORY / "docs" / "doctor.md").read_text()
    assert re.search(rf"^\| {code:d} \| \w", guide, re.MULTILINE)


def test_the_guide_has_the_bounds_that_are_checked() -> None:
    guide = (REPOSITORY / "docs" / "doctor.md").read_text()
    assert f"less than {memory._LEAST_MIB} MiB left" in guide
    assert f"less than {cache._LEAST_MB} MB are free" in guide
    assert f"less than {cache._ENOUGH_MB} MB free" in guide
