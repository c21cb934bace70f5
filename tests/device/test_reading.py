"""Opening a bundle: whatever differs from the manifest is refused, and the message says which file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.device.damage import rewrite
from tnn_edge.bundle import open_bundle
from tnn_edge.bundle.arrays import read_npz
from tnn_edge.bundle.reading import GOLDEN, MANIFEST, STATISTICS, file_sha256
from tnn_edge.errors import BundleError, SchemaError, TnnEdgeError

BLOCK = "blocks/01_stage1_block1.onnx"
EVERY_FILE = [BLOCK, "blocks/weights.bin", GOLDEN, STATISTICS, "README.md"]


def npz(**arrays: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its second positional parameter is a flag
    return file.getvalue()


def test_a_bundle_opens_and_its_digest_is_that_of_the_manifest(tiny_bundle: Path) -> None:
    bundle = open_bundle(str(tiny_bundle))
    assert bundle.path == tiny_bundle
    assert bundle.digest == hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()
    inputs, outputs = bundle.golden
    points, labels = bundle.manifest.operating_points, bundle.manifest.labels
    assert inputs.shape[1:] == bundle.manifest.input.shape[1:]
    assert outputs.shape == (len(points), len(inputs), len(labels))
    assert set(bundle.statistics) == set(np.load(tiny_bundle / STATISTICS).files)


def test_a_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * 2**20 + 17)
    (tmp_path / "file").write_bytes(data)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_truncated_file_is_named(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=re.escape(f"{path} has {size - 1} bytes, its manifest says {size}")):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_with_one_flipped_bit_is_named(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=re.escape(f"{path} is damaged or was edited (SHA-256 differs")):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(BundleError, match=re.escape(f"{bundle_copy / name} is missing; the bundle is incomplete")):
        open_bundle(bundle_copy)


def symlink(path: Path, target: Path) -> None:
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    os.link(target, path)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("replace", [symlink, hard_link, folder])
@pytest.mark.parametrize("name", [BLOCK, "blocks/weights.bin", GOLDEN])
def test_what_is_no_plain_file_is_refused(
    bundle_copy: Path, tmp_path: Path, name: str, replace: Callable[[Path, Path], None]
) -> None:
    path = bundle_copy / name
    outside = Path(shutil.copy(path, tmp_path / "outside"))
    path.unlink()
    replace(path, outside)
    with pytest.raises(BundleError, match=re.escape(f"{path} must be a plain file of its own, not a link")):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["nothing", "empty folder", "file"])
def test_a_path_that_is_no_bundle_says_so(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "here"
    make(path)
    with pytest.raises(BundleError, match=re.escape(f"{path} is not a bundle: {MANIFEST} is missing")):
        open_bundle(path)


def test_a_manifest_that_is_not_utf8_is_named(bundle_copy: Path) -> None:
    (bundle_copy / MANIFEST).write_bytes(b'{"name": "caf\xe9"}')
    with pytest.raises(BundleError, match=f"^{re.escape(str(bundle_copy / MANIFEST))}: not UTF-8 .*copy it again"):
        open_bundle(bundle_copy)


def test_a_truncated_manifest_is_named(bundle_copy: Path) -> None:
    text = (bundle_copy / MANIFEST).read_text()
    (bundle_copy / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(SchemaError, match=f"^{re.escape(str(bundle_copy / MANIFEST))}: not valid JSON"):
        open_bundle(bundle_copy)


def test_a_manifest_too_large_to_be_one_is_not_read(bundle_copy: Path) -> None:
    with (bundle_copy / MANIFEST).open("r+b") as file:
        file.truncate(2 * 2**20 + 1)
    with pytest.raises(BundleError, match=re.escape(f"{bundle_copy / MANIFEST} is larger than {2 * 2**20} bytes")):
        open_bundle(bundle_copy)


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


def test_a_pickle_inside_golden_is_refused_and_never_loaded(bundle_copy: Path) -> None:
    rewrite(bundle_copy, GOLDEN, npz(inputs=np.array([Trap()], dtype=object), outputs=np.zeros(3, np.float32)))
    bundle = open_bundle(bundle_copy)
    message = f"^{re.escape(str(bundle_copy / GOLDEN))}: cannot be read .inputs.npy holds object, not float32."
    with pytest.raises(BundleError, match=message):
        _ = bundle.golden
    assert not Trap.sprung


NOT_NPZ = {"empty": b"", "text": b"hello", "pickle": pickle.dumps([1, 2, 3]), "cut archive": npz(a=np.zeros(9))[:-8]}


@pytest.mark.parametrize("name", [GOLDEN, STATISTICS])
@pytest.mark.parametrize("content", [*NOT_NPZ, "bare array"])
def test_a_file_of_arrays_that_is_none_is_named(bundle_copy: Path, name: str, content: str) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    rewrite(bundle_copy, name, NOT_NPZ.get(content, array.getvalue()))
    bundle = open_bundle(bundle_copy)
    with pytest.raises(BundleError, match=f"^{re.escape(str(bundle_copy / name))}: cannot be read"):
        _ = bundle.golden if name == GOLDEN else bundle.statistics


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def with_flags(data: bytes, *, flags: int = 0, method: int = 8) -> bytes:
    """The first member's flags and packing method, both where it lies and in the directory at the end."""
    changed, directory = bytearray(data), data.index(b"PK\x01\x02")
    changed[6], changed[directory + 8] = flags, flags
    changed[8], changed[directory + 10] = method, method
    return bytes(changed)


def with_size(data: bytes, n_bytes: int) -> bytes:
    """The first member's unpacked size, as the directory at the end claims it."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + n_bytes.to_bytes(4, "little") + data[at + 4 :]


def packed(header: bytes, data: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)
    return file.getvalue()


def header_of(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()


def deflated() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, inputs=np.random.default_rng(0).random((2, 3, 32, 32), np.float32))
    return file.getvalue()


def repeated() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of just what is made here
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inputs.npy", b"")
            archive.writestr("inputs.npy", b"")
    return file.getvalue()


HOSTILE = {
    "damaged deflate stream": (flipped(deflated(), 60), ""),
    "encrypted": (with_flags(deflated(), flags=1), "inputs.npy is encrypted"),
    "packed by another method": (with_flags(deflated(), method=99), "inputs.npy is packed by method 99"),
    "header that is no Python": (packed(b"{" * 64), ""),
    "header of 100 nested lists": (packed(b"[" * 400 + b"]" * 400), ""),
    "header of mixed keys": (packed(b"{1: 2, 'a': 3}"), ""),
    "header of a list as key": (packed(b"{[]: 1}"), ""),
    "header that claims 4e9 values": (packed(header_of((4_000_000_000,))), "holds 0 bytes, not those of shape"),
    "header that claims too few": (packed(header_of((1,)), bytes(8)), "holds 8 bytes, not those of shape"),
    "negative shape": (packed(header_of((-1, -1)), bytes(4)), "holds 4 bytes, not those of shape"),
    "complex": (npz(inputs=np.zeros((2, 3, 32, 32), np.complex64)), "inputs.npy holds complex64, not float32"),
    "double": (npz(inputs=np.zeros((2, 3, 32, 32))), "inputs.npy holds float64, not float32"),
    "other byte order": (npz(inputs=np.zeros((2, 3, 32, 32), ">f4")), "inputs.npy holds >f4, not float32"),
    "bomb": (with_size(deflated(), 2**28 + 1), "bytes unpacked, at most 209715200 are allowed"),
    "two of one name": (repeated(), "two arrays have one name"),
}


@pytest.mark.parametrize("content", HOSTILE)
def test_a_hostile_file_of_arrays_is_one_error(bundle_copy: Path, content: str) -> None:
    data, says = HOSTILE[content]
    rewrite(bundle_copy, GOLDEN, data)
    with pytest.raises(BundleError, match=f"^{re.escape(str(bundle_copy / GOLDEN))}: .*{re.escape(says)}"):
        _ = open_bundle(bundle_copy).golden


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, write: Callable[..., None], order: Any) -> None:
    values = np.random.default_rng(1).random((3, 4, 5), np.float32)
    write(tmp_path / "a.npz", one=np.asarray(values, order=order), none=np.zeros((0, 2), np.float32), n=np.float32(3))
    with np.load(tmp_path / "a.npz") as by_numpy:
        ours = read_npz(tmp_path / "a.npz")
        assert list(ours) == by_numpy.files
        for name, array in ours.items():
            np.testing.assert_array_equal(array, by_numpy[name])
            assert (array.dtype, array.shape) == (by_numpy[name].dtype, by_numpy[name].shape)


def test_statistics_that_are_not_finite_are_refused(bundle_copy: Path) -> None:
    with np.load(bundle_copy / STATISTICS) as arrays:
        spoiled = {name: values.copy() for name, values in arrays.items()}
    spoiled["stage2_block1/norm1.running_var"][2, 3] = np.nan
    rewrite(bundle_copy, STATISTICS, npz(**spoiled))
    message = f"{bundle_copy / STATISTICS}: stage2_block1/norm1.running_var holds values that are not finite"
    with pytest.raises(BundleError, match=f"^{re.escape(message)}$"):
        _ = open_bundle(bundle_copy).statistics


def test_golden_without_outputs_names_the_array(bundle_copy: Path) -> None:
    rewrite(bundle_copy, GOLDEN, npz(inputs=np.zeros((1, 3, 32, 32), np.float32)))
    with pytest.raises(BundleError, match=re.escape(f"{bundle_copy / GOLDEN}: array 'outputs' is missing")):
        _ = open_bundle(bundle_copy).golden


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((2, 3, 32, 32), (4, 2, 10)),
        ((2, 3, 32, 32), (5, 3, 10)),
        ((2, 3, 32, 32), (5, 2, 9)),
        ((2, 3, 16, 32), (5, 2, 10)),
        ((0, 3, 32, 32), (5, 0, 10)),
        ((), ()),
    ],
)
def test_golden_arrays_that_do_not_fit_the_manifest_are_refused(
    bundle_copy: Path, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    rewrite(bundle_copy, GOLDEN, npz(inputs=np.zeros(inputs, np.float32), outputs=np.zeros(outputs, np.float32)))
    shapes = f"inputs {list(inputs)} and outputs {list(outputs)} do not fit 5 operating points, images [3, 32, 32]"
    with pytest.raises(BundleError, match=re.escape(f"{bundle_copy / GOLDEN}: {shapes} and 10 labels")):
        _ = open_bundle(bundle_copy).golden


def test_a_row_of_statistics_that_is_not_there_is_named(bundle_copy: Path) -> None:
    rewrite(bundle_copy, STATISTICS, npz(**{"stem/norm.running_mean": np.zeros((3, 8), np.float32)}))
    message = f"{bundle_copy / STATISTICS}: stem/norm.running_mean of shape [3, 8] has no row 3"
    with pytest.raises(BundleError, match=re.escape(message)):
        _ = open_bundle(bundle_copy).statistics


def test_statistics_that_are_named_and_not_there_are_missed(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    del manifest["files"][STATISTICS]
    (bundle_copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"an operating point names statistics, and there is no {STATISTICS}"):
        _ = open_bundle(bundle_copy).statistics


def test_a_bundle_error_is_one_of_ours_and_a_value_error() -> None:
    assert issubclass(BundleError, TnnEdgeError)
    assert issubclass(BundleError, ValueError)


def test_a_folder_that_is_a_link_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "blocks").rename(tmp_path / "elsewhere")
    (bundle_copy / "blocks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"lies behind a linked folder; copy the bundle without links"):
        open_bundle(bundle_copy)


def test_a_bundle_reached_through_a_link_opens(bundle_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle_copy)
    assert open_bundle(tmp_path / "link").digest == open_bundle(bundle_copy).digest


def refuse_to(action: str, name: str, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse an action on the paths that end in `name`: root, who runs tests too, may do anything."""
    allowed = getattr(os, action)

    def refused(path: Any, *args: Any, **kwargs: Any) -> Any:
        if os.fspath(path).endswith(f"/{name}"):
            raise error
        return allowed(path, *args, **kwargs)

    monkeypatch.setattr(os, action, refused)


@pytest.mark.parametrize(("action", "name"), [("open", MANIFEST), ("open", "weights.bin"), ("lstat", "weights.bin")])
def test_a_file_that_may_not_be_read_is_called_so_and_not_missing(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, action: str, name: str
) -> None:
    refuse_to(action, name, PermissionError(13, "Permission denied"), monkeypatch)
    message = f"{name} cannot be read: Permission denied; give this user the right to read the bundle"
    with pytest.raises(BundleError, match=f"{re.escape(message)}$"):
        open_bundle(bundle_copy)


def test_a_file_where_a_folder_must_be_leaves_its_files_missing(bundle_copy: Path) -> None:
    shutil.rmtree(bundle_copy / "blocks")
    (bundle_copy / "blocks").write_text("no folder")
    with pytest.raises(BundleError, match=r"blocks/.* is missing; the bundle is incomplete, copy it again$"):
        open_bundle(bundle_copy)


def test_a_manifest_that_is_a_folder_is_no_plain_file(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json must be a plain file of its own, not a link"):
        open_bundle(tmp_path)


def test_a_path_that_is_not_utf8_names_the_way_out(bundle_copy: Path) -> None:
    path = bundle_copy.parent / os.fsdecode(b"caf\xe9")
    try:
        bundle_copy.rename(path)
    except OSError:  # a file system that takes only UTF-8: the name is refused before it is looked for
        assert not path.exists()
    with pytest.raises(BundleError, match=r"caf\\udce9' is not UTF-8; rename the folder or move the bundle$"):
        open_bundle(path)
