"""Which ONNX Runtime is installed, and whether a session runs where it was asked to."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import tnn_edge
from tnn_edge.errors import MissingExtraError, ProviderError
from tnn_edge.runtime import SessionSettings, device_choice
from tnn_edge.runtime.device_choice import check_distribution, choose_device
from tnn_edge.runtime.providers import open_session, session_options
from tnn_edge.runtime.verify import verify

REPOSITORY = Path(__file__).resolve().parents[2]
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
INSTALLED = [name for name in ("onnxruntime", "onnxruntime-gpu") if list(metadata.distributions(name=name))]
WAY_OUT = "pip install 'tnn-edge[cpu]' or 'tnn-edge[gpu]'"


def distribution(folder: Path, name: str) -> None:
    """The metadata that pip leaves for an installed distribution."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def installed_without_onnxruntime(folder: Path) -> None:
    """Links to every installed package but ONNX Runtime."""
    for entry in Path(onnxruntime.__file__).parents[1].iterdir():
        if not entry.name.lower().startswith(("onnxruntime", "__pycache__")):
            (folder / entry.name).symlink_to(entry)


def tnn_edge_with(paths: list[Path], *args: str, bare: bool = False) -> subprocess.CompletedProcess[str]:
    """The command in a process that looks for packages in `paths` first, and nowhere else if it is `bare`."""
    first = [str(path) for path in (REPOSITORY, *paths)]
    code = f"import sys; sys.path[:0] = {first}; from tnn_edge.cli.main import main; main()"
    options = ["-I", "-S"] if bare else []
    return subprocess.run([sys.executable, *options, "-c", code, *args], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["install", "verify", "bench"])
def test_without_onnxruntime_the_way_out_names_the_extras(tiny_bundle: Path, tmp_path: Path, command: str) -> None:
    installed_without_onnxruntime(tmp_path)
    done = tnn_edge_with([tmp_path], command, str(tiny_bundle), bare=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: running a network needs ONNX Runtime: {WAY_OUT}\n"


def test_without_onnxruntime_a_bundle_can_be_inspected(tiny_bundle: Path, tmp_path: Path) -> None:
    installed_without_onnxruntime(tmp_path)
    done = tnn_edge_with([tmp_path], "bundle", "inspect", str(tiny_bundle), bare=True)
    assert done.returncode == 0, done.stderr
    assert "all hashes right, all blocks sound" in done.stdout


@pytest.mark.parametrize("command", ["install", "verify", "bench"])
def test_two_installed_distributions_are_refused(tiny_bundle: Path, tmp_path: Path, command: str) -> None:
    for name in {"onnxruntime", "onnxruntime-gpu"} - set(INSTALLED):
        distribution(tmp_path, name)
    done = tnn_edge_with([tmp_path], command, str(tiny_bundle))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
        f"pip uninstall onnxruntime onnxruntime-gpu, then {WAY_OUT}\n"
    )


def test_the_errors_also_are_the_builtins_they_refine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_DISTRIBUTIONS", ("surely-not-installed",))
    with pytest.raises(MissingExtraError, match=re.escape(WAY_OUT)) as missing:
        check_distribution()
    assert isinstance(missing.value, ImportError)
    monkeypatch.setattr(device_choice, "_DISTRIBUTIONS", ("numpy", "onnx"))
    with pytest.raises(ProviderError, match=r"^numpy and onnx are both installed") as both:
        check_distribution()
    assert isinstance(both.value, RuntimeError)


def test_one_installed_distribution_is_fine() -> None:
    assert len(INSTALLED) == 1
    check_distribution()


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == "cpu"


def test_auto_is_cuda_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_cuda_fault", lambda: None)
    for offered, device in (
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        (["CPUExecutionProvider"], "cpu"),
    ):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda offered=offered: offered)
        assert choose_device("auto") == device


def test_cuda_that_is_not_there_is_refused(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    message = (
        "^asked for cuda, this ONNX Runtime offers AzureExecutionProvider, CPUExecutionProvider; "
        r"install tnn-edge\[gpu\] instead of \[cpu\], or pass device='cpu' \(--device cpu\)$"
    )
    with pytest.raises(ProviderError, match=message):
        choose_device("cuda")
    with pytest.raises(ProviderError, match=message):
        tnn_edge.load(tiny_bundle, device="cuda")


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("command", ["install", "verify", "bench"])
def test_asking_a_command_for_cuda_that_is_not_there_is_one_line(tiny_bundle: Path, command: str) -> None:
    done = tnn_edge_with([], command, str(tiny_bundle), "--device", "cuda")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"error: asked for cuda, this ONNX Runtime offers .*device='cpu' \(--device cpu\)\n", done.stderr
    )


def test_a_device_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ProviderError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        choose_device("tpu")  # type: ignore[arg-type]  # what a caller without a type checker may write


def test_a_device_that_no_command_knows_is_a_usage_error(tiny_bundle: Path) -> None:
    done = tnn_edge_with([], "verify", str(tiny_bundle), "--device", "tpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert "tpu" in done.stderr
    assert "cuda" in done.stderr


class FallenBack:
    """A session that silently runs on the CPU, as ONNX Runtime's do when CUDA cannot start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_session_that_fell_back_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    options = session_options(SessionSettings(), optimise=True)
    message = (
        r"^asked for cuda, the session runs on CPUExecutionProvider; pass device='cpu' \(--device cpu\) to accept that$"
    )
    with pytest.raises(ProviderError, match=message):
        open_session(b"model", options, "cuda")
    open_session(b"model", options, "cpu")


def fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that lists CUDA and cannot start it."""
    build = onnxruntime.InferenceSession
    monkeypatch.setattr(device_choice, "cuda_driver", lambda: None)
    monkeypatch.setattr(device_choice, "_cuda_fault", device_choice._cuda_fault.__wrapped__)  # not cached
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: build(model, options, providers=["CPUExecutionProvider"]),
    )


def test_auto_falls_back_to_the_cpu_and_says_so(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fall_back(monkeypatch)
    with tnn_edge.load(tiny_bundle, device="auto") as engine:
        assert engine.device == "cpu"
        assert verify(engine).faults == ()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("asked for cuda, the session runs on CPUExecutionProvider")
    assert record.getMessage().endswith(": running on the CPU instead")


def test_cuda_never_falls_back(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fall_back(monkeypatch)
    with pytest.raises(ProviderError, match=r"pass device='cpu' \(--device cpu\) to accept that"):
        tnn_edge.load(tiny_bundle, device="cuda", cache=tmp_path)


def test_sessions_take_their_settings() -> None:
    levels = onnxruntime.GraphOptimizationLevel
    for spinning in (False, True):
        options = session_options(SessionSettings(threads=3, spinning=spinning), optimise=spinning)
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))
        assert options.graph_optimization_level == (levels.ORT_ENABLE_ALL if spinning else levels.ORT_DISABLE_ALL)
