"""The commands: what they print, and how they fail."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from tests.device.conftest import Command
from tnn_edge.bundle import open_bundle
from tnn_edge.cli.options import print_table
from tnn_edge.cli.program import program
from tnn_edge.errors import TnnEdgeError
from tnn_edge.printable import printable

COMMANDS = [["bundle", "inspect"], ["install"], ["verify"], ["bench"]]
REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ["numpy", "onnx", "onnx_ir", "onnxruntime", "cv2", "pydantic", "torch", "matplotlib", "asyncio"]


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
    assert printed == json.loads((tiny_bundle / "manifest.json").read_text()) | {"quantisation": None}


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


@pytest.mark.parametrize(
    "args",
    [
        ["profile", "--rounds"],
        ["profile", "--seconds"],
        ["bench", "--switches"],
        ["bench", "--threads"],
        ["bench", "--rounds"],
        ["bundle", "costs", "--rounds"],
        ["run", "--limit"],
    ],
)
def test_a_number_that_no_machine_gets_through_is_a_usage_error(
    tnn_edge_command: Command, tiny_bundle: Path, args: list[str]
) -> None:
    code, out, err = tnn_edge_command(*args, str(10**20), str(tiny_bundle))
    assert (code, out) == (2, "")
    assert f"Invalid value for '{args[-1]}'" in err


@pytest.mark.parametrize("args", [["profile"], ["sweep"], ["bundle", "light"], ["policy", "explain"]])
def test_help_calls_a_picture_by_one_name(tnn_edge_command: Command, args: list[str]) -> None:
    _, out, _ = tnn_edge_command(*args, "--help")
    assert re.search(r"--png +FILE +\w", out)


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


def test_an_error_of_megabytes_is_told_without_its_middle(tnn_edge_command: Command, bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest | {"\x1b" * 100_000: 1}))
    code, _, said = tnn_edge_command("bundle", "inspect", str(bundle_copy))
    assert code == 1
    assert said.startswith(rf"error: {bundle_copy}/manifest.json: \x1b\x1b")
    assert re.search(r" \[\d{5} characters left out\] .*: Extra inputs are not permitted\n$", said)
    assert len(said) < 20_000


def rename(bundle: Path, name: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"name": name}))


@pytest.mark.usefixtures("builds_in_this_process")
@pytest.mark.parametrize("command", [["bundle", "inspect"], ["verify", "--device", "cpu"]], ids=["inspect", "verify"])
def test_brackets_in_the_name_of_a_bundle_are_printed_as_they_are(
    tnn_edge_command: Command, bundle_copy: Path, command: list[str]
) -> None:
    rename(bundle_copy, "net [/red] :smile: v2")
    code, out, err = tnn_edge_command(*command, str(bundle_copy))
    assert (code, err) == (0, "")
    assert out.startswith("net [/red] :smile: v2")


def test_a_table_prints_no_markup_and_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["[/u]"], [["[/red]\x1b[2J"]], title="[bold]net\x9b2J")
    out = capsys.readouterr().out
    assert out.startswith("[bold]net\\x9b2J")
    assert "[/red]\\x1b[2J" in out
    assert not {"\x1b", "\x9b"} & set(out)


PROFILE_HEADINGS = [
    "u from", "accuracy", "MMAC", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "mJ (modelled)", "mJ above rest"
]  # fmt: skip


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_figure_of_a_table_is_cut_off_on_a_narrow_terminal(columns: int) -> None:
    row = ["0.9091", "0.8600", "44.48", "1.040", "1.207", "1.300", "0.917", "0.801", "0.412"]
    code = f"from tnn_edge.cli.options import print_table; print_table({PROFILE_HEADINGS}, [{row}])"
    env = {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": str(columns)}
    master, terminal = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as reader:
        subprocess.run([sys.executable, "-c", code], env=env, stdout=terminal, check=True)
        os.close(terminal)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", reader.read(65536).decode()).splitlines()
    seen = [" ".join(re.split(r"[ │┃]+", line.strip(" │┃"))) for line in lines]
    assert " ".join(PROFILE_HEADINGS) in seen
    assert " ".join(row) in seen
    assert max(map(len, lines)) <= max(columns, 80)  # 77 without a frame, 98 with it
    assert any("│" in line for line in lines) == (columns >= 98)


def test_a_title_stays_one_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a folder/" * 60
    print_table(["u"], [["0.5"]], title=title)
    assert capsys.readouterr().out.splitlines()[0] == title


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("two\nlines", r"two\nlines"),
        ("\x7f\x9b\u2028", r"\x7f\x9b\u2028"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        (os.fsdecode(b"a\xff.jpg"), r"a\xff.jpg"),
        ("\ud83d", r"\ud83d"),
        ("Jürgen 猫 👩\u200d🌾 [x]", "Jürgen 猫 👩\u200d🌾 [x]"),
    ],
)
def test_only_what_is_unprintable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_is_one_line_whatever_a_file_is_called(tnn_edge_command: Command, tmp_path: Path) -> None:
    code, out, err = tnn_edge_command("verify", str(tmp_path / "a\x1b[2J\nb"))
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path}/a\\x1b[2J\\nb is not a bundle: manifest.json is missing\n"


def shell(words: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `words` in a shell, with `tnn-edge` as $0 and the arguments as $1, $2, ..."""
    code = "from tnn_edge.cli.main import main; main()"
    command = ["sh", "-c", words.replace("tnn-edge", f'"$0" -c "{code}"'), sys.executable, *map(str, args)]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        ("--help", ""),
        ("--help", "1"),
        ('bundle inspect "$1"', ""),
        pytest.param('bundle inspect "$1"', "1", marks=pytest.mark.slow),
        pytest.param('bundle inspect "$1" --json', "", marks=pytest.mark.slow),
        ('bundle inspect "$1" --json', "1"),
    ],
)
def test_a_full_stdout_is_one_line_on_stderr(command: str, unbuffered: str, tiny_bundle: Path) -> None:
    done = shell(f"PYTHONUNBUFFERED={unbuffered} tnn-edge {command} > /dev/full", tiny_bundle)
    assert done.returncode == 1
    assert done.stderr == "error: stdout cannot be written (No space left on device); send it elsewhere\n"


def test_a_closed_stdout_is_one_line_on_stderr(tiny_bundle: Path) -> None:
    done = shell('tnn-edge bundle inspect "$1" >&-', tiny_bundle)
    assert done.returncode == 1
    assert done.stderr == "error: stdout or stderr is closed; send to /dev/null what you do not want\n"
    assert shell('tnn-edge bundle inspect "$1" 2>&-', tiny_bundle).returncode == 1


def test_a_reader_of_a_table_that_leaves_ends_the_program_in_silence(tiny_bundle: Path) -> None:
    done = shell('{ tnn-edge bundle inspect "$1"; echo "code $?" >&2; } | true', tiny_bundle)
    assert done.stderr == "code 1\n"


def test_the_version_is_that_of_the_distribution(tnn_edge_command: Command) -> None:
    assert tnn_edge_command("--version") == (0, f"tnn-edge {metadata.version('tnn-edge')}\n", "")


def test_an_interrupt_while_packages_are_imported_is_a_quiet_exit() -> None:
    code = (
        "import signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from tnn_edge.cli.main import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")
