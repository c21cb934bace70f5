"""A camera's configuration: what a file gives, and what every fault in it is told with."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.device.camera_folder import POLICY, write_camera, write_images
from tests.device.conftest import Command
from tests.device.toml_mutations import MUTATIONS, is_refused_rightly
from tnn_edge.camera import ImageFolder, LightMeter, SyntheticCamera
from tnn_edge.camera.config import CameraConfig, read_config
from tnn_edge.errors import ConfigError, SourceError
from tnn_edge.plant import Exposure, ImageSensor
from tnn_edge.toml_file import TomlFile

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

GOOD = """\
[source]
spec = "images"
stall_s = 3
[engine]
bundle = "bundle"
device = "cpu"
threads = 2
precision = "int8"
max_resident_mb = 64
[policy]
file = "policy.toml"
period_s = 0.5
confidence_time_constant_s = 4
[power]
backend = "sysfs"
root = "supplies"
need_battery = true
not_mains = ["panel"]
[temperature]
root = "/sys/class"
zone = "cpu-thermal"
[light]
exposure_s = 0.02
gain = 2
full_well = 8000
reflectance = 0.3
[output]
lines = "out/frames.jsonl"
database = "out/frames.db"
page = "out/page.html"
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_bundle: Path) -> Path:
    """What GOOD names."""
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "supplies").mkdir()
    write_images(tmp_path / "images", 2)
    return tmp_path


def read(folder: Path, text: str = GOOD) -> CameraConfig:
    path = folder / "camera.toml"
    path.write_text(text)
    return read_config(path)


def faults_of(folder: Path, text: str) -> list[str]:
    """The faults of a text, each without the name of the file, which it must begin with."""
    with pytest.raises(ConfigError) as raised:
        read(folder, text)
    begin = f"{folder / 'camera.toml'}:"
    rows = str(raised.value).split("\n")
    assert all(row.startswith(begin) for row in rows), rows
    return [row.removeprefix(begin) for row in rows]


def test_a_good_file_gives_what_it_says(folder: Path) -> None:
    config = read(folder)
    source = config.open_source()
    assert isinstance(source, ImageFolder)
    assert source.root == folder / "images"
    assert (config.path, config.text, config.stall_s) == (folder / "camera.toml", GOOD, 3.0)
    assert (config.engine.bundle, config.engine.device, config.engine.threads) == (folder / "bundle", "cpu", 2)
    assert (config.engine.precision, config.engine.max_resident_mb) == ("int8", 64.0)
    assert config.policy.signals == {"soc", "confidence"}
    settings = config.policy_settings
    assert (settings.file, settings.period_s) == (folder / "policy.toml", 0.5)
    assert settings.confidence_time_constant_s == 4.0
    assert (config.power.backend, config.power.root) == ("sysfs", folder / "supplies")
    assert (config.power.need_battery, config.power.not_mains) == (True, ["panel"])
    assert (config.temperature.root, config.temperature.zone) == (Path("/sys/class"), "cpu-thermal")
    sensor, exposure = ImageSensor(full_well=8000.0), Exposure(seconds=0.02, gain=2.0)
    assert config.light == LightMeter(sensor=sensor, exposure=exposure, reflectance=0.3)
    assert config.output.lines == folder / "out" / "frames.jsonl"
    assert config.output.database == folder / "out" / "frames.db"
    assert config.output.page == folder / "out" / "page.html"
    assert not (folder / "out").exists()  # reading writes nothing


def test_the_shortest_file_has_defaults_for_the_rest(folder: Path) -> None:
    config = read(folder, '[source]\nspec="0"\n[engine]\nbundle="bundle"\n[policy]\nfile="policy.toml"')
    assert (config.stall_s, config.engine.device, config.engine.threads) == (10.0, "auto", 1)
    assert (config.engine.precision, config.engine.max_resident_mb) == ("float32", None)
    assert (config.policy_settings.period_s, config.policy_settings.confidence_time_constant_s) == (1.0, 10.0)
    assert (config.power.backend, config.power.need_battery, config.power.not_mains) == ("auto", False, [])
    assert (config.power.root, config.temperature.root) == (Path("/sys/class/power_supply"), Path("/sys/class"))
    assert config.temperature.zone is None
    assert config.light == LightMeter()
    assert (config.output.files, config.output.commit_period_s) == ({}, 1.0)


def test_relative_paths_begin_in_the_files_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(folder)
    for where, name in ((folder.parent, folder.name), (folder / "images", "..")):
        monkeypatch.chdir(where)
        config = read_config(Path(name) / "camera.toml")
        assert config.engine.bundle.samefile(folder / "bundle")
        assert config.policy_settings.file.samefile(folder / "policy.toml")
        assert config.output.database is not None
        assert config.output.database.parent.parent.samefile(folder)
        source = config.open_source()
        assert isinstance(source, ImageFolder)
        assert source.root.samefile(folder / "images")


def test_paths_may_be_absolute_or_begin_at_home(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    text = GOOD.replace('"bundle"', '"~/bundle"').replace('"policy.toml"', f'"{folder}/policy.toml"')
    text = text.replace('"images"', '"~/images"').replace('"out/frames.db"', '"~/frames.db"')
    text = text.replace('"supplies"', '"~/supplies"')
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    config = read(elsewhere, text)
    assert config.engine.bundle == folder / "bundle"
    assert config.policy_settings.file == folder / "policy.toml"
    assert config.output.database == folder / "frames.db"
    assert config.output.lines == elsewhere / "out" / "frames.jsonl"
    assert config.open_source().n_frames == 2


def test_an_output_may_be_a_device(folder: Path) -> None:
    lines = read(folder, GOOD.replace("out/frames.jsonl", "/dev/stdout")).output.lines
    assert lines == Path("/dev/stdout")  # not what it leads to, which has no name


def test_another_source_stands_in_for_that_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "camera.toml"
    path.write_text(GOOD.replace('"images"', '"ftp://nowhere"'))
    monkeypatch.chdir(folder / "images")
    source = read_config(path, source="001.png").open_source()
    assert isinstance(source, ImageFolder)
    assert source.n_frames == 1
    assert isinstance(read_config(path, source="test:").open_source(), SyntheticCamera)
    with pytest.raises(SourceError, match="ftp:// streams cannot be read; a stream begins with one of rtsp://"):
        read_config(path, source="ftp://x")


FAULTS = [
    # A key that is not there is told with one that is.
    ("stall_s = 3", "stall = 3", "3: source.stall: unknown key; did you mean stall_s?"),
    ("period_s = 0.5", "period = 1", "12: policy.period: unknown key; did you mean period_s?"),
    ("exposure_s = 0.02", "exposure = 0.02", "23: light.exposure: unknown key; did you mean exposure_s?"),
    ("gain = 2\n", "gain = 2\niso = 100\n", "25: light.iso: unknown key; there are exposure_s, gain, electrons_per_"),
    ("[temperature]", "[temprature]", "19: temprature: unknown key; did you mean temperature?"),
    ("[source]", "volume = 1\n[source]", "1: volume: unknown key; there are source, engine, policy, power, temp"),
    # What must be there and is not.
    ('[source]\nspec = "images"\nstall_s = 3\n', "", "1: source: missing: the table [source] with spec, where frames"),
    ('spec = "images"\n', "", "1: source.spec: missing: where frames come from"),
    ('bundle = "bundle"\n', "", "4: engine.bundle: missing: the bundle's folder"),
    ('file = "policy.toml"\n', "", "10: policy.file: missing: the policy file, as `tnn-edge policy check` takes it"),
    ("exposure_s = 0.02\n", "", "22: light.exposure_s: missing: the camera's exposure time in seconds"),
    ("gain = 2\n", "", "22: light.gain: missing: the camera's gain as a factor"),
    # Another type.
    ("stall_s = 3", 'stall_s = "3"', '3: source.stall_s: must be a valid number, got "3"'),
    ("threads = 2", "threads = 2.5", "7: engine.threads: must be a valid integer"),
    ("threads = 2", "threads = true", "7: engine.threads: must be a valid integer, got true"),
    ("max_resident_mb = 64", "max_resident_mb = true", "9: engine.max_resident_mb: must be a valid number, got true"),
    ('spec = "images"', "spec = 0", "2: source.spec: must be a valid string, got 0"),
    ("need_battery = true", "need_battery = 1", "17: power.need_battery: must be a valid boolean, got 1"),
    ('not_mains = ["panel"]', 'not_mains = "panel"', '18: power.not_mains: must be a valid array, got "panel"'),
    ('not_mains = ["panel"]', "not_mains = [1]", "18: power.not_mains[0]: must be a valid string, got 1"),
    ('[source]\nspec = "images"\nstall_s = 3', "source = 3", "1: source: must be a table, got 3"),
    ("[temperature]", "[[temperature]]", "19: temperature: must be a table, got ["),
    ('device = "cpu"', 'device = "gpu"', "6: engine.device: must be 'auto', 'cpu' or 'cuda', got \"gpu\"; did you"),
    ('backend = "sysfs"', 'backend = "acpi"', "15: power.backend: must be 'auto', 'sysfs' or 'psutil', got \"acpi\""),
    # Numbers that cannot be.
    ("stall_s = 3", "stall_s = 0", "3: source.stall_s: must be greater than 0, got 0"),
    ("max_resident_mb = 64", "max_resident_mb = 0", "9: engine.max_resident_mb: must be greater than 0, got 0"),
    ("max_resident_mb = 64", "max_resident_mb = nan", "9: engine.max_resident_mb: must be a finite number, got NaN"),
    ('precision = "int8"', 'precision = "int4"', "8: engine.precision: must be 'float32' or 'int8', got \"int4\""),
    ('device = "cpu"', 'device = "cuda"', '8: engine.precision: int8 runs on the CPU only; say device = "cpu"'),
    ("period_s = 0.5", "period_s = -1", "12: policy.period_s: must be greater than 0, got -1"),
    ("period_s = 0.5", "period_s = inf", "12: policy.period_s: must be a finite number, got "),
    ("time_constant_s = 4", "time_constant_s = 0", "13: policy.confidence_time_constant_s: must be greater than 0"),
    ("threads = 2", "threads = 0", "7: engine.threads: must be greater than or equal to 1, got 0"),
    ("exposure_s = 0.02", "exposure_s = 0", "23: light.exposure_s: exposure_s must be above 0, got 0"),
    ("gain = 2", "gain = 0", "24: light.gain: gain must be finite and at least 1, got 0"),
    ("full_well = 8000", "full_well = -8", "25: light.full_well: full_well must be a finite number above 0, got -8"),
    ("full_well = 8000", "read_noise = -1", "25: light.read_noise: read_noise must be finite and not negative, got -1"),
    ("reflectance = 0.3", "reflectance = 30", "26: light.reflectance: reflectance must lie in (0, 1], got 30"),
    ('zone = "cpu-thermal"', 'zone = ""', "21: temperature.zone: String should have at least 1 character"),
    # Sources that are none.
    ('spec = "images"', 'spec = ""', "2: source.spec: String should have at least 1 character"),
    ('spec = "images"', 'spec = "ftp://x"', "2: source.spec: ftp:// streams cannot be read; a stream begins with"),
    ('spec = "images"', 'spec = "test:?fbs=3"', "2: source.spec: test:?fbs=3: a test source has no option fbs; it has"),
    ('spec = "images"', 'spec = "a\\u0000b"', r"2: source.spec: 'a\x00b' is no source: no name holds a NUL"),
    ('spec = "images"', 'spec = "~nobody-of-that-name/x"', "2: source.spec: ~nobody-of-that-name/x names the home of"),
    # Paths that lead nowhere.
    ('"bundle"', '"images"', "5: engine.bundle: {folder}/images is no bundle: it has no manifest.json"),
    ('"policy.toml"', '"rules.toml"', "11: policy.file: there is no file {folder}/rules.toml"),
    ('"policy.toml"', '"images"', "11: policy.file: there is no file {folder}/images"),
    ('"policy.toml"', '"~nobody-of-that-name/x"', "11: policy.file: leads nowhere (Could not determine home directory"),
    ('"bundle"', '"~nobody-of-that-name/x"', "5: engine.bundle: leads nowhere (Could not determine home directory"),
    ('"policy.toml"', '"loop"', "11: policy.file: leads nowhere (Too many levels of symbolic links); name another"),
    ('"out/page.html"', f'"{"x" * 300}"', "30: output.page: leads nowhere (File name too long); name another"),
    ('"out/frames.db"', '"policy.toml/x"', "29: output.database: leads nowhere (Not a directory); name another"),
    ('"supplies"', '"a\\u0000b"', "16: power.root: leads nowhere ("),
    ('"supplies"', '"suplies"', "16: power.root: there is no folder "),
    ('"/sys/class"', '"policy.toml"', "20: temperature.root: there is no folder "),
    ('"out/page.html"', '"out/page.html"\ncommit_period_s = 0', "31: output.commit_period_s: must be greater than 0"),
    # Outputs that would destroy something.
    ('"out/frames.jsonl"', '"images"', "28: output.lines: {folder}/images is a folder; name a file in it"),
    ('"out/frames.jsonl"', '"camera.toml"', "28: output.lines: {folder}/camera.toml is this file itself; name another"),
    ('"out/page.html"', '"./policy.toml"', "30: output.page: {folder}/policy.toml is the policy file; name"),
    ('"out/page.html"', '"out/../link"', "30: output.page: {folder}/policy.toml is the policy file; name"),
    ('"out/page.html"', '"out/frames.db"', "30: output.page: {folder}/out/frames.db is that of database; name another"),
    ('"out/frames.db"', '"out/frames.jsonl"', "29: output.database: {folder}/out/frames.jsonl is that of lines; name"),
    ('"out/page.html"', '"out/frames.db-wal"', "30: output.page: {folder}/out/frames.db-wal is that of database; name"),
    ('"out/frames.jsonl"', '"bundle/manifest.json"', "28: output.lines: {folder}/bundle/manifest.json lies in the"),
    ('database = "out/frames.db"\n', "", "29: output.page: the page is drawn from the database; name a database too"),
    # No TOML.
    ("stall_s = 3", "stall_s = 3 s", "3: stall_s = 3 s: not valid TOML, column 13: "),
    ("[engine]", "[source]", "4: [source]: not valid TOML, column 8: "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "fault"), FAULTS, ids=[fault[:40] for *_, fault in FAULTS])
def test_a_fault_is_told_with_file_line_key_and_a_way_out(folder: Path, old: str, new: str, fault: str) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "out").mkdir()
    (folder / "link").symlink_to("policy.toml")
    assert GOOD.count(old) == 1
    assert any(row.startswith(fault.format(folder=folder)) for row in faults_of(folder, GOOD.replace(old, new)))


def test_every_fault_is_told_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = GOOD.replace('"images"', '"ftp://x"').replace('"policy.toml"', '"no.toml"').replace("gain = 2", "gain = 0")
    text = text.replace('database = "out/frames.db"\n', "")
    rows = faults_of(folder, text)
    assert [row.partition(": ")[0] for row in rows] == ["2", "11", "24", "29"]


def test_a_file_that_is_missing_or_no_text_is_one_clear_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.toml: No such file or directory"):
        read_config(folder / "nowhere.toml")
    with pytest.raises(ConfigError, match=r"cannot read .*images: Is a directory"):
        read_config(folder / "images")
    (folder / "camera.toml").write_bytes(b"[source]\nspec = '\xff'\n")
    with pytest.raises(ConfigError, match=r"camera\.toml:2: not UTF-8 text: byte 0xff"):
        read_config(folder / "camera.toml")


def test_a_faulty_policy_is_told_with_its_own_file_and_line(folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICY.replace("u = 0.6", "u = 6").replace("below = 0.3 }", "below = 30 }"))
    with pytest.raises(ConfigError) as raised:
        read(folder)
    low, normal = str(raised.value).split("\n")
    assert low.startswith(f"{folder / 'policy.toml'}:6: rules[0].when.soc.below: below must lie in [0, 1]")
    assert normal.startswith(f"{folder / 'policy.toml'}:14: rules[2].u: u must lie in [0, 1], got 6")


def test_the_command_checks_a_configuration_its_policy_and_its_bundle(
    tnn_edge_command: Command, tmp_path: Path, bundle_copy: Path
) -> None:
    path = write_camera(tmp_path, bundle_copy, policy={"period_s": 2})
    code, out, err = tnn_edge_command("config", "check", str(path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{path}: right",
        "runs cifar10_tiny, 5 operating points",
        "decides every 2 s on confidence, soc; where one is lacking that is needed, u = 0.25",
        f"leaves lines in {tmp_path}/out/frames.jsonl, database in {tmp_path}/out/frames.db",
    ]
    assert not (tmp_path / "out").exists()
    (bundle_copy / "golden.npz").write_bytes(b"")
    code, _, err = tnn_edge_command("config", "check", str(path))
    assert code == 1
    assert re.fullmatch(r"error: .*golden\.npz has 0 bytes, its manifest says \d+; copy the bundle again\n", err)
    path.write_text(path.read_text().replace("period_s", "period").replace("fps=1000", "fps=0"))
    code, out, err = tnn_edge_command("config", "check", str(path))
    assert (code, out) == (1, "")
    assert err.splitlines() == [f"error: {path}:8: policy.period: unknown key; did you mean period_s?"]


EXAMPLE = re.sub(
    r"^# (\[light\]|exposure_s =.*|gain =.*)$", r"\1", (EXAMPLES / "usb_camera.toml").read_text(), flags=re.MULTILINE
)


@pytest.mark.parametrize("seed", range(15 * len(MUTATIONS)))
def test_a_mutated_example_is_refused_with_file_line_and_key_or_means_the_same(tmp_path: Path, seed: int) -> None:
    for name in ("demo", "policies"):
        (tmp_path / name).symlink_to(EXAMPLES / name)
    path = tmp_path / "camera.toml"
    path.write_text(EXAMPLE)
    whole, original = TomlFile.read(path).data, read_config(path)
    if is_refused_rightly(read_config, path, MUTATIONS[seed % len(MUTATIONS)](EXAMPLE, random.Random(seed))):
        return
    data, config = TomlFile.read(path).data, read_config(path)
    gone = {f"{name}.{key}" for name, table in whole.items() for key in table if key not in data.get(name, {})}
    assert len(gone) <= 1
    # Without an output there is less to read; every other key of the example that may be left out says the default.
    assert config.output == original.output.model_copy(
        update={name: None for name in original.output.files if f"output.{name}" in gone}
    )
    for field in ("stall_s", "engine", "policy_settings", "power", "temperature", "light"):
        assert getattr(config, field) == getattr(original, field)


def test_a_source_that_is_not_there_is_a_fault_of_the_file(folder: Path) -> None:
    rows = faults_of(folder, GOOD.replace('"images"', '"nope.mp4"'))
    assert rows[0].startswith(f"2: source.spec: {folder / 'nope.mp4'} does not exist; name ")


def test_faults_of_the_policy_are_told_beside_those_of_the_camera(folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICY.replace("unknown_u = 0.25", "unknown_u = 2"))
    with pytest.raises(ConfigError) as raised:
        read(folder, GOOD.replace("gain = 2", "gain = 0"))
    camera, policy = str(raised.value).split("\n")
    assert camera.startswith(f"{folder / 'camera.toml'}:24: light.gain: ")
    assert policy.startswith(f"{folder / 'policy.toml'}:3: governor.unknown_u: ")
