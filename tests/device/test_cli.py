"""The commands: what they print, and how they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tnn_edge.bundle import open_bundle
from tnn_edge.cli.main import main
from tnn_edge.cli.program import program
from tnn_edge.errors import TnnEdgeError

Command = Callable[..., tuple[int, str, str]]

COMMANDS = [["bundle", "inspect"], ["install"], ["verify"], ["bench"]]
HEAVY = ["numpy", "onnx", "onnx_ir", "onnxruntime", "cv2", "pydantic", "torch", "matplotlib", "asyncio"]


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


def test_inspect_prints_what_a_bundle_holds(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    code, out, err = tnn_edge_command("bundle", "inspect", str(tiny_bundle))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "cifar10_tiny: classification, 10 classes, input [1, 3, 32, 32]"
    assert lines[1].split() == ["digest", open_bundle(tiny_bundle).digest]
    assert lines[2].startswith("files    10, ")
    assert lines[2].endswith(" MB, all hashes right, all blocks sound")
    for point in open_bundle(tiny_bundle).manifest.operating_points:
        on = sum("1" in bits for bits in point.gates.values())
        (row,) = [line for line in lines if f"{point.u:.4f}" in line[:12]]
        assert f"{on}/{len(point.gates)}" in row
        assert f"{point.macs / 1e6:.2f}" in row


def test_inspect_prints_the_manifest_as_json(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    code, out, err = tnn_edge_command("bundle", "inspect", str(tiny_bundle), "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed.pop("digest") == open_bundle(tiny_bundle).digest
    assert printed == json.loads((tiny_bundle / "manifest.json").read_text())


def test_install_prints_where_the_plans_are(tnn_edge_command: Command, tiny_bundle: Path, cache: Path) -> None:
    code, out, err = tnn_edge_command("install", str(tiny_bundle), "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.startswith(f"5 plans in {cache / 'plans'}")
    assert "equal bytes once" in out


def test_install_prints_json(tnn_edge_command: Command, tiny_bundle: Path, cache: Path) -> None:
    code, out, err = tnn_edge_command("install", str(tiny_bundle), "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert set(printed) == {"folder", "plans", "offered_bytes", "stored_bytes", "seconds"}
    assert printed["plans"] == 5
    assert Path(printed["folder"]).parent == cache / "plans"
    assert (Path(printed["folder"]) / "weights.bin").stat().st_size == printed["stored_bytes"]


def test_verify_prints_json(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    code, out, err = tnn_edge_command("verify", str(tiny_bundle), "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed["faults"] == []
    wanted = [(p.u, p.macs) for p in open_bundle(tiny_bundle).manifest.operating_points]
    assert [(p["u"], p["linked_macs"]) for p in printed["points"]] == wanted


def test_bench_prints_json(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    options = ["--device", "cpu", "--rounds", "2", "--u", "0.3", "--u", "1", "--json"]
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), *options)
    assert (code, err) == (0, "")
    assert [p["u"] for p in json.loads(out)["points"]] == [0.3, 1.0]


def test_bench_prints_a_table(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), "--device", "cpu", "--rounds", "2")
    assert (code, err) == (0, "")
    assert out.startswith("cifar10_tiny on ")
    assert all(f"{u:.4f}" in out for u in (0.0, 0.2, 0.4, 0.6, 0.8))


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_path_that_is_no_bundle_is_one_line_on_stderr(
    tnn_edge_command: Command, tmp_path: Path, command: list[str], form: list[str]
) -> None:
    code, out, err = tnn_edge_command(*command, str(tmp_path / "nowhere"), *form)
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / 'nowhere'} is not a bundle: manifest.json is missing\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_damaged_bundle_is_one_line_on_stderr(
    tnn_edge_command: Command, bundle_copy: Path, command: list[str]
) -> None:
    (bundle_copy / "golden.npz").write_bytes(b"short")
    code, out, err = tnn_edge_command(*command, str(bundle_copy))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {bundle_copy / 'golden.npz'} has 5 bytes, its manifest says ")
    assert err.count("\n") == 1


def test_a_hostile_block_is_one_line_on_stderr(tnn_edge_command: Command, bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["blocks"][1]["file"] = "golden.npz"
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    for command in COMMANDS:
        code, out, err = tnn_edge_command(*command, str(bundle_copy))
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {bundle_copy / 'golden.npz'}: not an ONNX model")
        assert err.count("\n") == 1


def test_a_setting_out_of_range_is_one_line_on_stderr(tnn_edge_command: Command, tiny_bundle: Path) -> None:
    code, out, err = tnn_edge_command("bench", str(tiny_bundle), "--device", "cpu", "--u", "1.5")
    assert (code, out, err) == (1, "", "error: throttle u must lie in [0, 1], got 1.5\n")


def test_a_cache_that_cannot_be_written_is_one_line_on_stderr(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TNN_EDGE_CACHE", str(tmp_path / "file"))
    code, out, err = tnn_edge_command("install", str(tiny_bundle), "--device", "cpu")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: cannot write plans to {tmp_path / 'file'}")
    assert err.endswith("set TNN_EDGE_CACHE to another folder\n")


@pytest.mark.parametrize(
    "args",
    [["verify"], ["no-such-command"], ["bench", "bundle", "--rounds", "0"], ["bench", "bundle", "--threads", "0"]],
    ids=" ".join,
)
def test_a_wrong_call_is_a_usage_error(tnn_edge_command: Command, args: list[str]) -> None:
    code, out, err = tnn_edge_command(*args)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")


def test_every_command_has_help(tnn_edge_command: Command) -> None:
    code, out, _ = tnn_edge_command("--help")
    assert code == 0
    for name in ("bundle", "install", "verify", "bench", "run", "sweep"):
        assert f" {name} " in out
        assert tnn_edge_command(name, "--help")[0] == 0


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import atexit, sys\n"
        "from tnn_edge.cli.main import main\n"
        "atexit.register(lambda: print('imported:', *{name.partition('.')[0] for name in sys.modules}))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Usage:" in done.stdout
    imported = done.stdout.rpartition("imported:")[2].split()
    assert "typer" in imported
    assert sorted(set(imported) & set(HEAVY)) == []


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "tnn_edge.cli.main", "verify", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: /nowhere is not a bundle: manifest.json is missing\n"


def test_a_program_of_one_function_fails_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(word: str) -> None:
        typer.echo(word)
        raise TnnEdgeError("it went wrong")

    monkeypatch.setattr("sys.argv", ["fail", "hello"])
    with pytest.raises(SystemExit, match=r"^1$"):
        program(fail)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("hello\n", "error: it went wrong\n")
