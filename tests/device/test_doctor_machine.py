"""`tnn-edge doctor` on machines that lack memory, room, permission, time or sensors."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.device.diagnosis import (
    assert_fault,
    assert_note,
    diagnosed,
    install_package,
    only,
    ordinary_user,
    write_files,
)
from tnn_edge.doctor import FaultCode, Finding, Status, Surroundings
from tnn_edge.doctor.cache import check_cache
from tnn_edge.doctor.cameras import check_cameras, check_opencv
from tnn_edge.doctor.clock import judge_clock, kernel_says_synchronised
from tnn_edge.doctor.cpu import check_cores, judge_features
from tnn_edge.doctor.memory import check_memory
from tnn_edge.doctor.sensors import check_battery, check_energy, check_temperature

REPOSITORY = Path(__file__).resolve().parents[2]
STANDARD = tuple(path for path in sys.path if "site-packages" not in path and path != str(REPOSITORY))
MIB = 2**20


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose way is open to every user, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def soft_limit(kind: int, value: int) -> Iterator[None]:
    """A resource limit of this process, for a moment."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


# The cache.


def cache_finding(folder: Path) -> Finding:
    return only(check_cache(Surroundings(cache=folder)))


def test_a_cache_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    there, to_be_made = cache_finding(tmp_path), cache_finding(tmp_path / "a" / "b")
    assert Status.fault not in {there.status, to_be_made.status}
    assert there.seen.startswith(f"{tmp_path}: can be written, ")
    assert to_be_made.seen.startswith(f"{tmp_path}/a/b, to be made in {tmp_path}: can be written, ")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_the_one_that_load_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNN_EDGE_CACHE", str(tmp_path))
    assert only(check_cache(Surroundings())).seen.startswith(f"{tmp_path}: can be written, ")


def test_a_cache_below_a_file_is_a_fault(tmp_path: Path) -> None:
    file = write_files(tmp_path, {"file": ""}) / "file"
    finding = cache_finding(file / "cache")
    assert finding.seen == f"{file}/cache, to be made in {file}: Not a directory"
    assert_fault(finding, FaultCode.CACHE, cause=f"{file} is no folder", mend=f"mv {file} {file}.away")


def test_a_cache_behind_a_link_to_nowhere_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert_fault(cache_finding(tmp_path / "link"), FaultCode.CACHE, cause="is no folder", mend="TNN_EDGE_CACHE")


def test_a_device_in_the_place_of_the_cache_is_not_moved_away() -> None:
    finding = cache_finding(Path("/dev/null"))
    assert_fault(finding, FaultCode.CACHE, cause="/dev/null is no folder", mend="export TNN_EDGE_CACHE=")
    assert "mv" not in (finding.mend or "")


def test_a_cache_in_a_folder_of_another_user_leaves_that_folder_to_its_owner(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    cache = open_folder / "a" / "b"
    with ordinary_user():
        finding = cache_finding(cache)
    assert finding.seen == f"{cache}, to be made in {open_folder}: Permission denied"
    assert_fault(
        finding,
        FaultCode.CACHE,
        cause="no permission",
        mend=f"sudo mkdir -p {cache} && sudo chown $(id -u) {cache}; or",
    )


def test_a_cache_of_another_user_is_a_fault(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with ordinary_user():
        finding = cache_finding(open_folder)
        me = os.geteuid()
    cause = f"no permission: it belongs to uid {os.geteuid()}, and this is uid {me}"
    assert_fault(finding, FaultCode.CACHE, cause=cause, mend=f"sudo chown -R $(id -u) {open_folder}")


def test_a_cache_that_takes_no_file_of_some_size_is_a_fault(tmp_path: Path) -> None:
    with soft_limit(resource.RLIMIT_FSIZE, 1024):
        finding = cache_finding(tmp_path)
    assert_fault(finding, FaultCode.CACHE, cause="may not write files of that size", mend="ulimit -f unlimited")


def test_a_cache_whose_path_is_no_utf8_is_a_fault(tmp_path: Path) -> None:
    finding = cache_finding(tmp_path / "\udcff")
    assert finding.seen.endswith(r"\udcff'")
    assert_fault(finding, FaultCode.CACHE, cause="no path that is not UTF-8", mend="export TNN_EDGE_CACHE=")


@pytest.mark.parametrize(
    ("options", "seen", "cause", "mend"),
    [
        ("size=40k", "No space left on device", "the disk or the user's share of it is full", "df -h"),
        ("size=8m", "can be written, 8 MB free", "the plans of a small network take 50 MB", "then remove"),
        ("size=1m,nr_inodes=1", "No space left on device", "the disk or the user's share of it is full", "df -i"),
        ("ro", "Read-only file system", "mounted to be read only", "sudo mount -o remount,rw {disk}; or"),
    ],
    ids=["full", "nearly full", "no inodes", "read-only"],
)
def test_a_cache_on_a_disk_without_room_is_a_fault(
    tmp_path: Path, options: str, seen: str, cause: str, mend: str
) -> None:
    finding = _on_a_disk(tmp_path, options)
    assert seen in finding.seen
    assert_fault(finding, FaultCode.CACHE, cause=cause, mend=mend.format(disk=tmp_path))


def test_a_read_only_disk_is_mounted_anew_where_it_is_mounted(tmp_path: Path) -> None:
    finding = _on_a_disk(tmp_path, "ro", cache="some/cache")
    assert finding.seen == f"{tmp_path}/some/cache: Read-only file system"
    assert_fault(finding, FaultCode.CACHE, cause="read only", mend=f"sudo mount -o remount,rw {tmp_path}; or")


def _on_a_disk(folder: Path, options: str, *, cache: str = "") -> Finding:
    """Examine a folder of a file system of its own, which only a process in a namespace of its own sees."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import json\nfrom pathlib import Path\n"
        "from tnn_edge.doctor import Surroundings\nfrom tnn_edge.doctor.cache import check_cache\n"
        f"(finding,) = check_cache(Surroundings(cache=Path({str(folder / cache)!r})))\n"
        "print(json.dumps([finding.seen, finding.cause, finding.mend]))"
    )
    disk = 'mount -t tmpfs none "$1" && mkdir -p "$2" && mount -o "remount,$0" "$1"'
    mount = ["sh", "-c", f'{disk} || exit 77; exec "$3" -c "$4"', options, str(folder), str(folder / cache)]
    if shutil.which("unshare") is None:
        pytest.skip("this system has no unshare to mount a disk with")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *mount, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this system mounts nothing for us: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    seen, cause, mend = json.loads(done.stdout)
    return Finding(check="cache", status=Status.fault, seen=seen, cause=cause, mend=mend, code=FaultCode.CACHE)


# Cameras.


def camera_tree(root: Path, *, mode: int, groups: str = "video:x:{gid}:") -> int:
    """A camera that belongs to this process's group; the group's number."""
    write_files(root, {"dev/video0": "", "sys/class/video4linux/video0/name": "HD Webcam C525\n"})
    (root / "dev" / "video0").chmod(mode)
    gid = (root / "dev" / "video0").stat().st_gid
    write_files(root, {"etc/group": f"root:x:99999:\n{groups.format(gid=gid)}\n"})
    return gid


def user_name() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def shut_camera(root: Path) -> tuple[Finding, str]:
    """What the doctor says to an ordinary user, and the user's name."""
    with ordinary_user():
        return diagnosed(check_cameras, root), user_name()


def test_a_camera_is_named_as_run_takes_it(tmp_path: Path) -> None:
    camera_tree(tmp_path, mode=0o660)
    finding = diagnosed(check_cameras, tmp_path)
    assert (finding.status, finding.seen) == (Status.ok, "/dev/video0 (HD Webcam C525)")


def test_no_camera_is_a_note(tmp_path: Path) -> None:
    write_files(tmp_path, {"dev/video-dec0": "", "dev/null": ""})
    assert_note(diagnosed(check_cameras, tmp_path), cause="there is no /dev/video*", mend="sudo modprobe uvcvideo")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on a user that is not in a file's group")
def test_a_camera_of_a_group_that_the_user_is_not_in_is_a_fault(open_folder: Path) -> None:
    camera_tree(open_folder, mode=0o660)
    finding, user = shut_camera(open_folder)
    assert finding.seen == "no permission for /dev/video0 (HD Webcam C525)"
    cause = f"it belongs to group video, and {user} is not in it"
    assert_fault(finding, FaultCode.CAMERA, cause=cause, mend=f"sudo usermod -aG video {user}, then log out")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on a user that is not in a file's group")
def test_a_user_who_has_just_joined_the_group_is_told_to_log_in_again(open_folder: Path) -> None:
    with ordinary_user():
        user = user_name()
    camera_tree(open_folder, mode=0o660, groups=f"video:x:{{gid}}:pi,{user}")
    finding, _ = shut_camera(open_folder)
    assert_fault(finding, FaultCode.CAMERA, cause=f"{user} is in group video, but was not yet", mend="log out and in")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on a user that is not in a file's group")
def test_in_a_container_a_group_has_only_a_number(open_folder: Path) -> None:
    gid = camera_tree(open_folder, mode=0o660, groups="")
    finding, _ = shut_camera(open_folder)
    assert_fault(
        finding, FaultCode.CAMERA, cause=f"group {gid}, which has no name", mend=f"docker run --group-add {gid}"
    )


def test_a_camera_that_no_group_may_open_is_a_fault_beside_those_that_are_well(open_folder: Path) -> None:
    camera_tree(open_folder, mode=0o000)
    write_files(open_folder, {"dev/video10": "", "dev/video2": ""})
    for name in ("video10", "video2"):
        (open_folder / "dev" / name).chmod(0o666)
    with ordinary_user():
        shut, well = check_cameras(Surroundings(root=open_folder))
    assert_fault(
        shut, FaultCode.CAMERA, cause="its mode 000 gives its group nothing", mend="sudo chmod g+rw /dev/video0"
    )
    assert (well.status, well.seen) == (Status.ok, "/dev/video2, /dev/video10")


def opencv_finding(folder: Path) -> Finding:
    return only(check_opencv(Surroundings(path=(str(REPOSITORY), str(folder), *STANDARD))))


def test_without_opencv_cameras_cannot_be_read(tmp_path: Path) -> None:
    finding = opencv_finding(tmp_path)
    assert_note(finding, cause="cameras and videos cannot be read", mend="pip install 'tnn-edge[camera]'")


def test_an_opencv_that_wants_a_screen_is_a_fault(tmp_path: Path) -> None:
    code = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    finding = opencv_finding(install_package(tmp_path, "opencv-python", "4.12.0", code, module="cv2"))
    assert "opencv-python 4.12.0, which cannot be imported: ImportError: libGL.so.1" in finding.seen
    way_out = "pip uninstall -y opencv-python && pip install 'tnn-edge[camera]'"
    assert_fault(finding, FaultCode.CAMERA, cause="needs the libraries of a screen", mend=way_out)


def test_two_opencvs_are_a_note(tmp_path: Path) -> None:
    install_package(tmp_path, "opencv-python", "4.12.0", "__version__ = '4.12.0'", module="cv2")
    install_package(tmp_path, "opencv-python-headless", "4.11.0")
    way_out = "pip uninstall -y opencv-python-headless opencv-python && pip install 'tnn-edge[camera]'"
    assert_note(opencv_finding(tmp_path), cause="they overwrite each other's files", mend=way_out)


# Cores, memory, extensions.


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process has one core already")
def test_a_process_bound_to_one_core_is_told_so(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        finding = diagnosed(check_cores, tmp_path)
    finally:
        os.sched_setaffinity(0, before)
    assert finding.seen == f"1 of {os.cpu_count()} cores"
    assert_note(finding, cause="bound to some of the cores", mend="--threads 1, or widen it: taskset")


QUOTAS = {
    "version 2, a group above": {
        "proc/self/cgroup": "0::/system.slice/camera.service\n",
        "sys/fs/cgroup/system.slice/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/system.slice/camera.service/cpu.max": "max 100000\n",
    },
    "version 1": {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/a\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    },
}


@pytest.mark.parametrize("files", QUOTAS.values(), ids=QUOTAS.keys())
def test_a_control_group_with_half_a_core_is_a_note(tmp_path: Path, files: dict[str, str]) -> None:
    finding = diagnosed(check_cores, write_files(tmp_path, files))
    assert finding.seen.endswith("cores, 0.5 by quota")
    assert_note(
        finding, cause="a control group gives 0.5 cores' time", mend="--threads 1, or raise the limit: docker run"
    )


PLENTY = {"proc/meminfo": "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\n"}
GROUPS = {
    "version 2": {
        **PLENTY,
        "proc/self/cgroup": "0::/camera\n",
        "sys/fs/cgroup/camera/memory.max": f"{200 * MIB}\n",
        "sys/fs/cgroup/camera/memory.current": f"{190 * MIB}\n",
        "sys/fs/cgroup/camera/memory.stat": f"anon 1\ninactive_file {50 * MIB}\n",
    },
    "version 1": {
        **PLENTY,
        "proc/self/cgroup": "3:memory:/camera\n",
        "sys/fs/cgroup/memory/camera/memory.limit_in_bytes": f"{200 * MIB}\n",
        "sys/fs/cgroup/memory/camera/memory.usage_in_bytes": f"{190 * MIB}\n",
        "sys/fs/cgroup/memory/camera/memory.stat": f"inactive_file 7\ntotal_inactive_file {50 * MIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    },
}


@pytest.mark.parametrize("files", GROUPS.values(), ids=GROUPS.keys())
def test_a_control_group_that_is_nearly_full_is_a_fault(tmp_path: Path, files: dict[str, str]) -> None:
    finding = diagnosed(check_memory, write_files(tmp_path, files))
    assert finding.seen == f"{200 - (190 - 50)} MiB left, by its control group"  # unused page cache is given back
    assert_fault(
        finding, FaultCode.MEMORY, cause="to install even a small network takes 180 MiB", mend="docker run --memory"
    )


def test_a_machine_that_is_nearly_full_is_a_fault(tmp_path: Path) -> None:
    finding = diagnosed(check_memory, write_files(tmp_path, {"proc/meminfo": "MemAvailable:  65536 kB\n"}))
    assert finding.seen == "64 MiB left, by the machine"
    assert_fault(
        finding, FaultCode.MEMORY, cause="to install even a small network takes 180 MiB", mend="sudo swapon /swap"
    )


def test_a_limit_of_the_process_itself_counts() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with soft_limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + 64 * MIB):
        finding = only(check_memory(Surroundings()))
    assert finding.seen.endswith(" MiB left, by its own limit")
    assert int(finding.seen.split()[0]) <= 64
    assert_fault(
        finding, FaultCode.MEMORY, cause="to install even a small network takes 180 MiB", mend="ulimit -v unlimited"
    )


def test_memory_for_small_networks_alone_is_a_note(tmp_path: Path) -> None:
    finding = diagnosed(check_memory, write_files(tmp_path, {"proc/meminfo": "MemAvailable:  524288 kB\n"}))
    assert_note(finding, cause="a ResNeXt-50 with 17 operating points takes 550 MiB", mend="swapon")
    assert diagnosed(check_memory, write_files(tmp_path, PLENTY)).status is Status.ok
    assert_note(diagnosed(check_memory, tmp_path / "empty"), cause="/proc/meminfo does not say")


@pytest.mark.parametrize(
    ("features", "architecture", "seen", "cause"),
    [
        (
            ("sse4_2",),
            "x86_64",
            "x86_64 with no vector extension",
            "without AVX2 and FMA networks run several times slower",
        ),
        (("avx2", "fma"), "x86_64", "x86_64 with AVX2, FMA", "without VNNI or AMX an int8 bundle gains little"),
        (("asimd",), "aarch64", "aarch64 with NEON", "without dotprod or i8mm an int8 bundle gains little"),
        ((), "x86_64", "x86_64, extensions unknown", "/proc/cpuinfo tells no vector extensions"),
        (("v",), "riscv64", "riscv64, extensions unknown", "/proc/cpuinfo tells no vector extensions"),
    ],
)
def test_extensions_that_cost_speed_where_they_lack_are_notes(
    features: tuple[str, ...], architecture: str, seen: str, cause: str
) -> None:
    finding = judge_features(features, architecture)
    assert finding.seen == seen
    assert_note(finding, cause=cause)


def test_a_processor_with_everything_is_well() -> None:
    assert (
        judge_features(("avx2", "fma", "avx512f", "avx512_vnni"), "x86_64").seen
        == "x86_64 with AVX-512, AVX2, FMA, VNNI"
    )
    assert judge_features(("asimd", "asimddp", "i8mm"), "aarch64").status is Status.ok


# Clock and sensors.


def clock_finding(root: Path, year: int, *, kernel: bool | None = None) -> Finding:
    seconds = datetime(year, 1, 1, 0, 2, tzinfo=timezone.utc).timestamp()
    return judge_clock(Surroundings(root=root, clock=lambda: seconds), lambda: kernel)


def test_a_device_without_a_clock_chip_that_nothing_has_set_is_a_fault(tmp_path: Path) -> None:
    finding = clock_finding(tmp_path, 1970)
    assert finding.seen == "1970-01-01 00:02 UTC"
    cause = "it cannot be 1970: there is no clock chip that keeps the time without power"
    assert_fault(finding, FaultCode.CLOCK, cause=cause, mend="sudo timedatectl set-ntp true")


def test_a_clock_chip_that_has_lost_its_battery_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "sys/class/rtc/rtc0").mkdir(parents=True)
    finding = clock_finding(tmp_path, 2000, kernel=True)
    assert_fault(finding, FaultCode.CLOCK, cause="it cannot be 2000: the clock chip is wrong", mend="sudo date -s")


def test_a_clock_that_nothing_synchronises_is_a_note(tmp_path: Path) -> None:
    assert_note(
        clock_finding(tmp_path, 2026, kernel=False), cause="so it drifts; without a clock chip", mend="timedatectl"
    )
    assert clock_finding(tmp_path, 2026, kernel=True).status is Status.ok
    write_files(tmp_path, {"run/systemd/timesync/synchronized": ""})
    assert clock_finding(tmp_path, 2026, kernel=None).seen == "2026-01-01 00:02 UTC, synchronised"


def test_the_kernel_is_asked_for_its_clock() -> None:
    assert kernel_says_synchronised() in {None, False, True}


def test_a_device_without_sensors_is_told_what_its_policy_will_not_know(tmp_path: Path) -> None:
    battery, temperature, energy = (
        diagnosed(check, tmp_path) for check in (check_battery, check_temperature, check_energy)
    )
    assert_note(battery, cause=f"{tmp_path}/sys/class/power_supply: No such file")
    assert_note(temperature, cause="neither thermal zones nor temperatures")
    assert_note(energy, cause="modelled from time, not measured")
    assert energy.mend is None  # there is nothing to make readable


def test_sensors_that_answer_are_told_with_what_they_say(tmp_path: Path) -> None:
    root = write_files(
        tmp_path,
        {
            "sys/class/power_supply/BAT0/type": "Battery\n",
            "sys/class/power_supply/BAT0/capacity": "80\n",
            "sys/class/power_supply/BAT0/status": "Discharging\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "41500\n",
            "sys/class/powercap/intel-rapl:0/name": "package-0\n",
            "sys/class/powercap/intel-rapl:0/energy_uj": "1234567\n",
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
        },
    )
    findings = [diagnosed(check, root) for check in (check_battery, check_temperature, check_energy)]
    assert {finding.status for finding in findings} == {Status.ok}
    assert [finding.seen for finding in findings[:2]] == ["80% charged, not on mains", "41.5 degrees C"]
    assert findings[2].seen.startswith("RAPL package-0")


def test_a_battery_that_says_garbage_is_unknown_with_the_reason(tmp_path: Path) -> None:
    folder = "sys/class/power_supply/BAT0"
    finding = diagnosed(
        check_battery, write_files(tmp_path, {f"{folder}/type": "Battery", f"{folder}/capacity": "n/a"})
    )
    assert_note(finding, cause="BAT0/capacity: 'n/a' is no whole number")


def test_counters_that_only_root_may_read_are_told_with_the_command_that_opens_them(open_folder: Path) -> None:
    folder = "sys/class/powercap/intel-rapl:0"
    write_files(open_folder, {f"{folder}/name": "package-0", f"{folder}/energy_uj": "1"})
    (open_folder / folder / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
    with ordinary_user():
        finding = diagnosed(check_energy, open_folder)
    assert_note(finding, cause="Permission denied", mend="sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")
