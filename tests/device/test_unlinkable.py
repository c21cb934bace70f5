"""Blocks that cannot be linked, or must not be: named before anything is optimised or run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.device.damage import rewrite
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.structure import check_structure
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime import install
from tnn_edge.runtime.installing import building
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.macs import graph_macs


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def build(bundle: Bundle, folder: Path) -> None:
    """What an install does in a child."""
    building.build(str(bundle.path), bundle.digest, "cpu", "float32", str(folder / "plans"))


def test_blocks_that_do_not_fit_together_are_named_with_their_point(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misfit(*args: object) -> NoReturn:
        raise ValueError("shapes (16,8) (8,1) differ\nand more")

    monkeypatch.setattr("tnn_edge.runtime.linking.linker.link", misfit)
    message = f"^{re.escape(str(bundle.path))}: blocks cannot be linked at u=0.8: shapes .16,8. .8,1. differ$"
    with pytest.raises(PlanError, match=message):
        build(bundle, tmp_path)


def with_block(bundle: Path, nodes: list[onnx.NodeProto], value_info: Mapping[str, list[int]] | None = None) -> Bundle:
    """The tiny bundle with other nodes in its first gated block, x [1, 8, 16, 16] -> y; w is a convolution's weight."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 16, 16]) for name in ("x", "y")]
    constants: dict[str, npt.NDArray[Any]] = {
        "w": np.ones((8, 8, 1, 1), np.float32),
        "two": np.array([2]),
        "tall": np.array([-1, 1]),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    claimed = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (value_info or {}).items()]
    graph = helper.make_graph(nodes, "own", ends[:1], ends[1:], tensors, value_info=claimed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    rewrite(bundle, "blocks/01_stage1_block1.onnx", model.SerializeToString())
    with np.load(bundle / "statistics.npz") as file:
        kept = {name: values for name, values in file.items() if not name.startswith("stage1_block1/")}
    np.savez(bundle / "kept.npz", **kept)
    rewrite(bundle, "statistics.npz", (bundle / "kept.npz").read_bytes())
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["blocks"][1].update(gate=None, branches={}, tensors={})
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return open_bundle(bundle)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def pooled(value: str) -> list[onnx.NodeProto]:
    return [node("GlobalAveragePool", value, "pool"), node("Add", "pool x", "y")]


BOMBS = {
    "doubled 40 times": [
        node("Identity", "x", "c0"),
        *(node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=3) for i in range(40)),
        *pooled("c40"),
    ],
    "padded": [node("Conv", "x w", "h", pads=[0, 0, 30_000, 30_000]), *pooled("h")],
    "many large values": [
        node("Conv", "x w", "h0", pads=[0, 0, 2500, 2500]),
        *(node("Sigmoid", f"h{i}", f"h{i + 1}") for i in range(12)),
        *pooled("h12"),
    ],
    "outer product": [
        node("Reshape", "x tall", "t"),
        node("Flatten", "x", "f"),
        node("MatMul", "t f", "m"),
        node("Reshape", "m tall", "s"),
        node("MatMul", "s f", "n"),
        node("ReduceMean", "n", "r", keepdims=0),
        node("Add", "x r", "y"),
    ],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_graph_that_would_fill_the_memory_is_refused_before_it_is_optimised(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str
) -> None:
    optimised: list[object] = []
    monkeypatch.setattr(building, "_optimised", lambda *graph: optimised.append(graph))
    unsound = with_block(bundle_copy, BOMBS[bomb])
    message = r"cannot be linked at u=0\.8: stage1_block1/\w+ of shape .* for one and 2147483648 for all are allowed$"
    with pytest.raises(BundleError, match=message):
        build(unsound, tmp_path)
    assert not optimised


def test_a_shape_that_a_block_claims_is_not_believed(bundle_copy: Path, tmp_path: Path) -> None:
    nodes = [node("Concat", "two two", "s", axis=0), node("Identity", "s", "t"), node("Reshape", "x t", "h")]
    unsound = with_block(bundle_copy, [*nodes, *pooled("h")], {"h": [1, 8, 16, 16]})
    message = "the shape of stage1_block1/h is not known before the network runs; export it with fixed shapes$"
    with pytest.raises(BundleError, match=message):
        install(unsound, "cpu", tmp_path / "cache")


def test_a_long_chain_is_linked_without_recursion(bundle_copy: Path) -> None:
    n = 3 * sys.getrecursionlimit()
    chain = [node("Identity", f"a{i}" if i else "x", f"a{i + 1}") for i in range(n)]
    sound = with_block(bundle_copy, [*chain, node("Relu", f"a{n}", "y")])
    check_structure(sound)
    assert graph_macs(ir.to_proto(link(sound, sound.manifest.operating_points[-1].gates))) > 0


@pytest.mark.parametrize("error", [ZeroDivisionError("0"), OverflowError("0"), RecursionError("0"), RuntimeError("0")])
def test_whatever_a_rewrite_raises_is_a_plan_error(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("tnn_edge.runtime.linking.linker.link", fails)
    with pytest.raises(PlanError, match=r"blocks cannot be linked at u=0\.8: 0$"):
        build(bundle, tmp_path)


def test_a_block_sliced_by_a_gate_that_is_off_needs_a_branch(bundle_copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["blocks"][1]["branches"] = {}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    message = r"cannot be linked at u=0: .* is sliced by stage1_block1, of which no component is on$"
    with pytest.raises(PlanError, match=message):
        install(open_bundle(bundle_copy), "cpu", tmp_path / "cache")
