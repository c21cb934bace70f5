"""Bad bundles, each made from a copy of the tiny one: files, manifests and arrays that are not what they claim.

Hashes are made to agree wherever that takes the bundle past the first checks. Those of a graph are in `hostile_graphs`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.device.damage import rewrite
from tnn_edge.bundle.reading import GOLDEN, MANIFEST, STATISTICS

__all__ = ["BLOCK", "FILES", "WEIGHTS", "Damage", "edit_arrays", "edit_manifest"]

Damage = Callable[[Path], object]
BLOCK, WEIGHTS = "blocks/01_stage1_block1.onnx", "blocks/weights.bin"

PLAIN = "must be a plain file of its own, not a link"
INSIDE = "must be a relative path inside the bundle"
MB = 2**20


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    edit(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def edit_arrays(bundle: Path, name: str, edit: Callable[[dict[str, npt.NDArray[Any]]], object]) -> None:
    with np.load(bundle / name) as file:
        arrays = {key: values.copy() for key, values in file.items()}
    edit(arrays)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    rewrite(bundle, name, packed.getvalue())


def moved_out(bundle: Path, name: str) -> Path:
    """Move a file of the bundle to a place beside it."""
    return (bundle / name).rename(bundle.parent / "outside")


def symlinked_weights(bundle: Path) -> None:
    (bundle / WEIGHTS).symlink_to(moved_out(bundle, WEIGHTS))


def hard_linked_weights(bundle: Path) -> None:
    os.link(moved_out(bundle, WEIGHTS), bundle / WEIGHTS)


def device_for_a_block(bundle: Path) -> None:
    (bundle / BLOCK).unlink()
    (bundle / BLOCK).symlink_to("/dev/zero")


def fifo(name: str) -> Damage:
    def damage(bundle: Path) -> None:
        (bundle / name).unlink()
        os.mkfifo(bundle / name)

    return damage


def symlinked_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).symlink_to(moved_out(bundle, MANIFEST))


def loop_of_links(bundle: Path) -> None:
    (bundle / BLOCK).unlink()
    (bundle / BLOCK).symlink_to(bundle / "blocks" / "other")
    (bundle / "blocks" / "other").symlink_to(bundle / BLOCK)


def linked_folder(bundle: Path) -> None:
    (bundle / "blocks").symlink_to(moved_out(bundle, "blocks"))


def folder_that_links_to_itself(bundle: Path) -> None:
    moved_out(bundle, "blocks")
    (bundle / "blocks").symlink_to(bundle / "blocks")


def listed_as(path: str) -> Damage:
    """List a file under another name."""
    return lambda bundle: edit_manifest(bundle, lambda m: m["files"].update({path: m["files"]["README.md"]}))


def sparse_file_of_3_gb(bundle: Path) -> None:
    os.truncate(bundle / WEIGHTS, 3 * 2**30)
    edit_manifest(bundle, lambda m: m["files"][WEIGHTS].update(bytes=3 * 2**30))


def sizes_that_overflow(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["files"][WEIGHTS].update(bytes=2**63))


def five_thousand_files(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["files"].update({f"f{i}": m["files"]["README.md"] for i in range(5000)}))


def flipped_bit(bundle: Path) -> None:
    data = bytearray((bundle / WEIGHTS).read_bytes())
    data[100] ^= 1
    (bundle / WEIGHTS).write_bytes(data)


def cut_short(bundle: Path) -> None:
    os.truncate(bundle / WEIGHTS, 100)


def file_in_a_folder_3000_deep(bundle: Path) -> None:
    listed_as("a/" * 3000 + "b")(bundle)


def manifest_of(text: Callable[[str], str]) -> Damage:
    """Replace the text of the manifest."""

    def damage(bundle: Path) -> None:
        (bundle / MANIFEST).write_text(text((bundle / MANIFEST).read_text()))

    return damage


def not_utf8(bundle: Path) -> None:
    (bundle / MANIFEST).write_bytes(b"\xff\xfe" + (bundle / MANIFEST).read_text().encode("utf-16-le"))


def set_to(value: Any, *place: str | int) -> Damage:
    """Set one value of the manifest."""

    def edit(manifest: Any) -> None:
        for step in place[:-1]:
            manifest = manifest[step]
        manifest[place[-1]] = value

    return lambda bundle: edit_manifest(bundle, edit)


def too_many_blocks(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m.update(blocks=[{**m["blocks"][0], "name": f"b{i}"} for i in range(1025)]))


def three_hundred_points(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m.update(
        light=None, operating_points=[{**m["operating_points"][0], "u": i / 300} for i in range(300)]
    ))  # fmt: skip


def replaced(name: str, data: Callable[[], bytes]) -> Damage:
    return lambda bundle: rewrite(bundle, name, data())


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(11):
            archive.writestr(f"a{i}.npy", bytes(20 * MB))
    return file.getvalue()


def archive_of_12_000_arrays() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(12_000):
            archive.writestr(f"{'a' * 60}{i}.npy", b"")
    return file.getvalue()


def archive_of_64_bits() -> bytes:
    """An archive whose second end says that its directory is elsewhere and large."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"")
    data, end = file.getvalue()[:-22], file.getvalue()[-22:]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**32, 2**32, 2**40, 0)
    return data + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(data), 1) + end


def archive_member(header: bytes, values: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values)
    return file.getvalue()


def pickled() -> bytes:
    return archive_member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", pickle.dumps([print]))


def four_billion_values() -> bytes:
    return archive_member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000,)}\n")


def header_of_nested_lists() -> bytes:
    return archive_member(b"[" * 5000 + b"]" * 5000)


def header_of_190_mb() -> bytes:
    """A header of version 2.0 may claim 4 GB; NumPy reads all of it before it looks at it."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as npy,
    ):
        npy.write(b"\x93NUMPY\x02\x00" + struct.pack("<L", 190 * MB))
        for _ in range(190):
            npy.write(b" " * MB)
    return file.getvalue()


def header_of_20_kb() -> bytes:
    return archive_member(b"{'descr': '<f4', 'fortran_order': False, 'shape': ()}" + b" " * 20_000 + b"\n")


def statistics(edit: Callable[[dict[str, npt.NDArray[Any]]], object]) -> Damage:
    return lambda bundle: edit_arrays(bundle, STATISTICS, edit)


def golden(edit: Callable[[dict[str, npt.NDArray[Any]]], object]) -> Damage:
    return lambda bundle: edit_arrays(bundle, GOLDEN, edit)


MEAN, VARIANCE = "stage1_block1/norm1.running_mean", "stage1_block1/norm1.running_var"

FILES: dict[str, tuple[Damage, str]] = {
    "weights that are a symbolic link": (symlinked_weights, PLAIN),
    "weights that are a hard link to a file outside": (hard_linked_weights, PLAIN),
    "a block that is a link to an endless device": (device_for_a_block, PLAIN),
    "weights that are a FIFO": (fifo(WEIGHTS), PLAIN),
    "a manifest that is a FIFO": (fifo(MANIFEST), PLAIN),
    "a manifest that is a symbolic link": (symlinked_manifest, PLAIN),
    "a block in a loop of links": (loop_of_links, PLAIN),
    "a folder that is a link": (linked_folder, "lies behind a linked folder"),
    "a folder that links to itself": (folder_that_links_to_itself, "(is missing|cannot be read|linked folder)"),
    "a file above the bundle": (listed_as("../outside"), INSIDE),
    "a file above the bundle, through a folder": (listed_as("blocks/../../outside"), INSIDE),
    "a file at an absolute path": (listed_as("/etc/passwd"), INSIDE),
    "a file behind a backslash": (listed_as("..\\outside"), INSIDE),
    "a file with NUL in its name": (listed_as("a\0b"), INSIDE),
    "a file above the bundle in wide dots": (listed_as("\uff0e\uff0e/outside"), "\uff0e\uff0e/outside is missing"),
    "a file with an escape sequence in its name": (listed_as("\x1b[2J"), "must hold no control character"),
    "a file in a folder 3000 deep": (file_in_a_folder_3000_deep, "cannot be read: File name too long"),
    "a sparse file of 3 GB": (sparse_file_of_3_gb, r"bytes in all files, at most 2147483648 are allowed"),
    "a size that overflows": (sizes_that_overflow, r"bytes in all files, at most 2147483648 are allowed"),
    "5000 files": (five_thousand_files, r"5010 files, at most 4096 are allowed"),
    "a flipped bit": (flipped_bit, "is damaged or was edited"),
    "a file cut short": (cut_short, "has 100 bytes, its manifest says 15272"),
    "a manifest of 3 MB": (manifest_of(lambda text: text + " " * 3 * MB), "is larger than 2097152 bytes"),
    "a manifest of 150,000 wrong values": (
        set_to([0] * 150_000, "gates", 0, "weights"), r"values, at most 100000 are allowed"
    ),
    "a manifest of 150,000 empty lists": (
        set_to([[]] * 150_000, "provenance", "a"), r"values, at most 100000 are allowed"
    ),
    "a manifest of 100,000 nested lists": (manifest_of(lambda _: "[" * 100_000), "not valid JSON"),
    "provenance of 900 nested lists": (
        manifest_of(lambda text: text.replace('"provenance": {', f'"provenance": {{"a": {"[" * 900 + "]" * 900}, ')),
        "manifest: Invalid JSON: recursion limit exceeded",
    ),
    "a manifest with two lists of files": (
        manifest_of(lambda text: '{"files": {},' + text[1:]), "two values are named 'files' in one object"
    ),
    "a manifest with a number of 5000 digits": (
        manifest_of(lambda text: text.replace('"tolerance": 0.0001', f'"tolerance": {"1" * 5000}')), "manifest.json: "
    ),
    "a manifest in another encoding": (not_utf8, "not UTF-8"),
    "a manifest with NaN": (set_to([float("nan")] * 3, "input", "mean"), "input.mean.0"),
    "a manifest with half a character": (
        manifest_of(lambda text: text.replace("airplane", "\\ud800")), "manifest.json: manifest: Invalid JSON"
    ),
    "a manifest of a newer schema": (set_to(99, "schema_version"), "schema version 99 is newer than"),
    "a manifest with an unknown key": (set_to("x", "run_this"), "run_this: Extra inputs are not permitted"),
    "a label with a line break": (set_to("cat\ndog", "labels", 0), "must hold no control character"),
    "a name of 1 MB": (set_to("n" * MB, "name"), "name: String should have at most 1000 characters"),
    "1025 blocks": (too_many_blocks, "1025 blocks, at most 1024 are allowed"),
    "300 operating points": (three_hundred_points, "300 operating points, at most 256 are allowed"),
    "statistics that unpack to 220 MB": (replaced(STATISTICS, zip_bomb), "bytes unpacked, at most 209715200"),
    "statistics of 12,000 arrays": (replaced(STATISTICS, archive_of_12_000_arrays), "and a directory of"),
    "statistics whose directory lies elsewhere": (replaced(STATISTICS, archive_of_64_bits), "or of 64 bits"),
    "statistics that are no archive": (replaced(STATISTICS, lambda: bytes(50)), "not an archive"),
    "statistics that run code when unpickled": (replaced(STATISTICS, pickled), "a.npy holds object, not float32"),
    "statistics of 4e9 values that are not there": (replaced(STATISTICS, four_billion_values), "a.npy holds 0 bytes"),
    "statistics with a header of nested lists": (replaced(STATISTICS, header_of_nested_lists), "cannot be read"),
    "statistics with a header of 190 MB": (replaced(STATISTICS, header_of_190_mb), r"of version \(2, 0\), not"),
    "statistics with a header of 20 kB": (
        replaced(STATISTICS, header_of_20_kb), r"cannot be read \(Header info length [^\n]*\); copy the bundle again$"
    ),
    "statistics of NaN": (statistics(lambda a: a[MEAN].fill(np.nan)), "holds values that are not finite"),
    "statistics of infinity": (statistics(lambda a: a[VARIANCE].fill(np.inf)), "holds values that are not finite"),
    "statistics of a negative variance": (
        statistics(lambda a: a[VARIANCE].fill(-1)), "holds -1, a variance is at least 0"
    ),
    "statistics of another width": (
        statistics(lambda a: a.update({MEAN: np.zeros((4, 10**6), np.float32)})),
        "has 1000000 channels, its normalisation 8",
    ),
    "statistics without a row that a point names": (
        statistics(lambda a: a.update({MEAN: a[MEAN][:1]})), "has no row 3"
    ),
}  # fmt: skip
