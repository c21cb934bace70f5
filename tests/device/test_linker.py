"""The linked graph against the masked network: the bundle's own full-width blocks with zeros where a gate is off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from tnn_edge.bundle import BlockSpec, Bundle, open_bundle
from tnn_edge.runtime.linking.linker import link, link_blocks
from tnn_edge.runtime.linking.macs import graph_macs

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def run(model: onnx.ModelProto, x: Array, *, optimise: bool = False) -> Array:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(y)


def masked_block(bundle: Bundle, block: BlockSpec, gates: Mapping[str, str], row: int | None) -> onnx.ModelProto:
    """A block at full width: what is off is multiplied by zero, what is on by offered over on; nothing is folded."""
    model = onnx.load_model(str(bundle.path / block.file))
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    if row is not None:
        arrays |= {name: bundle.statistics[f"{block.name}/{name}"][row] for name in arrays if "running_" in name}
    if block.gate is not None:
        bits = gates[block.gate]
        n, k = len(bits), bits.count("1")
        read = arrays["conv3.weight"]  # reads every component's channels and sums them
        on = np.repeat([bit == "1" for bit in bits], read.shape[1] // n)
        arrays["conv3.weight"] = read * on[None, :, None, None] * np.float32(n / k if k else 0)
        if k == 0:  # a module with nothing on is its skip connection alone
            arrays["norm3.weight"], arrays["norm3.bias"] = np.zeros((2, read.shape[0]), np.float32)
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def masked_network(bundle: Bundle, gates: Mapping[str, str], x: Array) -> Array:
    row = bundle.manifest.statistics_for(gates)
    for block in bundle.manifest.blocks:
        x = run(masked_block(bundle, block, gates, row), x)
    return x


def random_gates(bundle: Bundle, seed: int) -> dict[str, str]:
    """A gate vector that leaves about a third of the modules without any component."""
    rng = np.random.default_rng(seed)
    return {
        gate.name: "".join(map(str, rng.integers(0, 2, len(gate.weights)) * (rng.random() > 1 / 3)))
        for gate in bundle.manifest.gates
    }


def relative_error(got: Array, wanted: Array) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("optimise", [False, True], ids=["as linked", "optimised"])
@pytest.mark.parametrize("i", range(5))
def test_each_operating_point_computes_the_golden_outputs(bundle: Bundle, i: int, optimise: bool) -> None:
    inputs, outputs = bundle.golden
    linked = ir.to_proto(link(bundle, bundle.manifest.operating_points[i].gates))
    logits = np.concatenate([run(linked, x[None], optimise=optimise) for x in inputs])
    assert relative_error(logits, outputs[i]) <= 1e-4
    np.testing.assert_array_equal(logits.argmax(axis=1), outputs[i].argmax(axis=1))


@pytest.mark.parametrize("i", range(5))
def test_the_masked_network_computes_the_golden_outputs(bundle: Bundle, i: int) -> None:
    inputs, outputs = bundle.golden
    got = masked_network(bundle, bundle.manifest.operating_points[i].gates, inputs[:1])
    assert relative_error(got, outputs[i][:1]) <= 1e-4


@pytest.mark.parametrize("seed", range(20))
def test_any_gate_vector_linked_equals_the_masked_network(bundle: Bundle, seed: int) -> None:
    gates = random_gates(bundle, seed)
    x = bundle.golden[0][:1]
    assert relative_error(run(ir.to_proto(link(bundle, gates)), x), masked_network(bundle, gates, x)) <= 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_any_gate_vector_linked_equals_its_blocks_chained(bundle: Bundle, seed: int) -> None:
    gates = random_gates(bundle, 100 + seed)
    x = y = bundle.golden[0][1:2]
    for _, model in link_blocks(bundle, gates):
        y = run(ir.to_proto(model), y)
    assert relative_error(run(ir.to_proto(link(bundle, gates)), x), y) <= 1e-5


def test_the_macs_of_the_linked_graph_are_those_of_the_manifest(bundle: Bundle) -> None:
    points = bundle.manifest.operating_points
    assert [graph_macs(ir.to_proto(link(bundle, p.gates))) for p in points] == [p.macs for p in points]


@pytest.mark.parametrize("seed", range(5))
def test_macs_rise_by_the_weight_of_what_is_on(bundle: Bundle, seed: int) -> None:
    gates = random_gates(bundle, seed)
    off = {name: "0" * len(bits) for name, bits in gates.items()}
    weights = {gate.name: gate.weights for gate in bundle.manifest.gates}
    on = sum(w for name, bits in gates.items() for bit, w in zip(bits, weights[name], strict=True) if bit == "1")
    linked, least = (graph_macs(ir.to_proto(link(bundle, each))) for each in (gates, off))
    assert linked - least == on


def blocks_in(model: ir.Model) -> set[str]:
    return {str(node.name).partition("/")[0] for node in model.graph}


def test_an_absent_block_beside_the_identity_leaves_no_node(bundle: Bundle) -> None:
    gates = {"stage1_block1": "0000", "stage2_block1": "0001", "stage2_block2": "0000", "stage3_block1": "1111"}
    assert blocks_in(link(bundle, gates)) == {"stem", "stage2_block1", "stage3_block1", "head"}


def test_an_absent_block_beside_a_projection_leaves_the_projection(bundle: Bundle) -> None:
    gates = {gate.name: "0000" for gate in bundle.manifest.gates}
    linked = link(bundle, gates)
    assert blocks_in(linked) == {"stem", "stage2_block1", "stage3_block1", "head"}
    kept = [node.op_type for node in linked.graph if str(node.name).startswith("stage2_block1/")]
    assert kept == ["Conv", "Relu"]
    assert not any("branch" in name or "conv1" in name for name in linked.graph.initializers)


def test_every_node_and_weight_carries_the_name_of_its_block(bundle: Bundle) -> None:
    linked = link(bundle, bundle.manifest.operating_points[-1].gates)
    names = {block.name for block in bundle.manifest.blocks}
    assert blocks_in(linked) == names
    assert {name.partition("/")[0] for name in linked.graph.initializers} == names
    node_names = [node.name for node in linked.graph]
    assert len(node_names) == len(set(node_names))


def test_the_linked_graph_reads_and_gives_what_the_manifest_names(bundle: Bundle) -> None:
    for point in bundle.manifest.operating_points:
        proto = ir.to_proto(link(bundle, point.gates))
        onnx.checker.check_model(proto, full_check=True)
        assert [value.name for value in proto.graph.input] == [bundle.manifest.input.name]
        assert [value.name for value in proto.graph.output] == [bundle.manifest.output]
        assert proto.graph.name == bundle.manifest.name
        assert not {"BatchNormalization", "Identity"} & {node.op_type for node in proto.graph.node}


def test_linking_changes_no_file(bundle: Bundle) -> None:
    link(bundle, bundle.manifest.operating_points[1].gates)
    assert open_bundle(bundle.path).digest == bundle.digest
