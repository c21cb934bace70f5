"""The shared weight file: equal bytes once, prefixes as views, and what loads computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tnn_edge.runtime.installing.weight_store import WeightStore

Array = npt.NDArray[np.float32]

LARGE = 16 * 4096
"""Bytes from which a tensor begins on a page."""


def model_of(constants: Mapping[str, Array]) -> ir.Model:
    """The sum of matrix products of the input with each constant of shape [4, C]."""
    c = next(iter(constants.values())).shape[1]
    lines = "\n".join(f"p{i} = MatMul (x, {name})" for i, name in enumerate(constants))
    total = ", ".join(f"p{i}" for i in range(len(constants)))
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]>\n'
        f"g (float[1, 4] x) => (float[1, {c}] y) {{\n{lines}\ny = Sum ({total})\n}}"
    )
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in constants.items())
    return ir.from_proto(proto)


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def place_of(model: ir.Model, name: str) -> tuple[int, int]:
    """Offset and length of a tensor in the file."""
    tensor = model.graph.initializers[name].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    return int(tensor.offset or 0), int(tensor.length or 0)


def test_equal_bytes_are_stored_once(tmp_path: Path) -> None:
    weight = drawn(0, 4, 256)
    one, two = model_of({"a": weight, "b": weight.copy()}), model_of({"c": weight.copy()})
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(one)
        store.add_model(two)
        assert store.offered_bytes == 3 * weight.nbytes
        assert store.stored_bytes == weight.nbytes
    assert place_of(one, "a") == place_of(one, "b") == place_of(two, "c") == (0, weight.nbytes)
    assert (tmp_path / "w.bin").read_bytes() == weight.tobytes()


def test_a_prefix_is_a_view_of_the_longer_tensor(tmp_path: Path) -> None:
    weight = drawn(0, 8, 128)
    large, small = model_of({"a": weight[:4], "whole": weight[:4] + 1}), model_of({"b": weight[:4, :128]})
    prefix = ir.from_proto(ir.to_proto(small))
    prefix.graph.initializers["b"].const_value = ir.tensor(weight[:3], name="b")
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(large)
        store.add_model(prefix)
        assert store.stored_bytes == 2 * weight[:4].nbytes
    assert place_of(prefix, "b") == (place_of(large, "a")[0], weight[:3].nbytes)


def test_a_tensor_that_only_begins_alike_is_stored_apart(tmp_path: Path) -> None:
    weight = drawn(0, 4, 256)
    other = weight.copy()
    other[-1, -1] += 1
    model = model_of({"a": weight, "b": other})
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(model)
        assert store.stored_bytes == 2 * weight.nbytes
    assert place_of(model, "a")[0] != place_of(model, "b")[0]


def test_a_longer_tensor_added_later_is_stored_whole(tmp_path: Path) -> None:
    weight = drawn(0, 4, 512)
    small, large = model_of({"a": weight[:, :512][:2].repeat(2, axis=0)}), model_of({"b": weight})
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(small)
        store.add_model(large)
    data = (tmp_path / "w.bin").read_bytes()
    offset, length = place_of(large, "b")
    assert data[offset : offset + length] == weight.tobytes()


@pytest.mark.parametrize("n_floats", [1, 16, WeightStore.min_bytes // 4 - 4])
def test_a_small_tensor_stays_in_its_model(tmp_path: Path, n_floats: int) -> None:
    model = model_of({"a": drawn(0, 4, n_floats // 4 or 1)})
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(model)
        assert (store.offered_bytes, store.stored_bytes) == (0, 0)
    assert not isinstance(model.graph.initializers["a"].const_value, ir.ExternalTensor)


def test_large_tensors_begin_on_a_page_and_others_on_a_cache_line(tmp_path: Path) -> None:
    model = model_of({"a": drawn(0, 4, 65), "b": drawn(1, 4, 65)})
    large = model_of({"c": drawn(2, 4, LARGE // 16)})
    with WeightStore(tmp_path / "w.bin") as store:
        store.add_model(model)
        store.add_model(large)
    assert [place_of(model, name)[0] % 64 for name in "ab"] == [0, 0]
    assert place_of(large, "c")[0] % 4096 == 0


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 600)), min_size=1, max_size=12))
def test_every_tensor_is_found_again_where_its_model_says(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    long = [drawn(seed, 4, 600) for seed in range(3)]
    arrays = [long[seed].ravel()[: 4 * (columns or 1)].reshape(4, -1) for seed, columns in parts]
    models = [model_of({"w": array}) for array in arrays]
    with WeightStore(folder / "w.bin") as store:
        for model in models:
            store.add_model(model)
    assert (folder / "w.bin").stat().st_size <= sum(array.nbytes + 64 for array in arrays)
    for model, array in zip(models, arrays, strict=True):
        tensor = model.graph.initializers["w"].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_onnx_runtime_computes_the_same_from_the_shared_file(tmp_path: Path) -> None:
    weight = drawn(0, 4, 512)
    models = [model_of({"a": weight, "b": drawn(1, 4, 512)}), model_of({"c": weight})]
    x = drawn(2, 1, 4)
    wanted = [x @ weight + x @ drawn(1, 4, 512), x @ weight]
    with WeightStore(tmp_path / "w.bin") as store:
        for i, model in enumerate(models):
            store.add_model(model)
            ir.save(model, tmp_path / f"{i}.onnx")
    assert store.path.stat().st_size == 2 * weight.nbytes
    for i, expected in enumerate(wanted):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{i}.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)
