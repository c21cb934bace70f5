"""Bad bundles whose files are what the manifest says, and whose graphs are not what a network is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.device.damage import rewrite
from tests.device.hostile_bundles import BLOCK, WEIGHTS, Damage, edit_arrays, edit_manifest
from tnn_edge.bundle.reading import GOLDEN, STATISTICS

__all__ = ["GRAPHS", "many_convolutions"]

IMAGE = [1, 8, 16, 16]
"""What the first gated block reads and gives."""
TOO_LARGE = "at most 268435456 for one and 2147483648 for all are allowed"


def edited(edit: Callable[[onnx.ModelProto], object]) -> Damage:
    """Edit the first gated block."""

    def damage(bundle: Path) -> None:
        model = onnx.load_model(str(bundle / BLOCK), load_external_data=False)
        edit(model)
        rewrite(bundle, BLOCK, model.SerializeToString())

    return damage


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def block_of(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, npt.NDArray[Any]] | None = None) -> Damage:
    """Put another graph in place of the first gated block: x -> y, `w` a convolution's weight of 3 x 3."""
    tensors = {"w": np.full((8, 8, 3, 3), 0.01, np.float32), **(constants or {})}

    def damage(bundle: Path) -> None:
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE) for name in "xy")
        graph = helper.make_graph(
            nodes, "own", [x], [y], [numpy_helper.from_array(array, name) for name, array in tensors.items()]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        rewrite(bundle, BLOCK, model.SerializeToString())
        edit_manifest(bundle, lambda m: m["blocks"][1].update(gate=None, branches={}, tensors={}))
        edit_arrays(bundle, STATISTICS, lambda arrays: [
            arrays.pop(name) for name in list(arrays) if name.startswith("stage1_block1/")
        ])  # fmt: skip

    return damage


def pooled(value: str) -> list[onnx.NodeProto]:
    """From an image of any size back to the block's output."""
    return [node("GlobalAveragePool", value, "pool"), node("Add", "pool x", "y")]


def placed(tensor: str = "conv1.weight", **place: str) -> Damage:
    """Let a tensor read another place."""

    def edit(model: onnx.ModelProto) -> None:
        found = next(t for t in model.graph.initializer if t.name == tensor)
        old = {entry.key: entry.value for entry in found.external_data}
        del found.external_data[:]
        for key, value in {**old, **place}.items():
            found.external_data.add(key=key, value=value)

    return edited(edit)


def function_chain(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("deep", 1)]
    for i in range(3000):
        call = helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="deep")
        model.functions.append(helper.make_function("deep", f"f{i}", ["a"], ["b"], [call], opset))
    model.graph.node.append(helper.make_node("f0", ["x"], ["unused"], domain="deep"))


def four_gigabytes_in_84_bytes(bundle: Path) -> None:
    """A model that fits into a line and asks for 4 GB when it runs."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [10**9])
    graph = helper.make_graph([helper.make_node("ConstantOfShape", ["s"], ["y"])], "g", [], [value], [shape])
    rewrite(bundle, BLOCK, helper.make_model(graph, ir_version=8).SerializeToString())


def one_weight_read_a_thousand_times(model: onnx.ModelProto) -> None:
    weight = next(t for t in model.graph.initializer if t.name == "conv1.weight")
    for i in range(1000):
        model.graph.initializer.append(weight)
        model.graph.initializer[-1].name = f"w{i}"


def twice_placed(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def hidden_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[100], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../outside")
    model.graph.node[2].attribute.append(helper.make_attribute("value", tensor))


def training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.node.append(helper.make_node("Loop", ["x"], ["z"]))


def with_loop(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    body = helper.make_graph([], "body", [], [value])
    model.graph.node.append(helper.make_node("Loop", ["", "", "x"], ["unused"], body=body))


def sparse_tensor(model: onnx.ModelProto) -> None:
    value = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("index", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(value, index, [2**40]))


def set_dims(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return edit


def tensor_of_text(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.STRING


def two_of_one_name(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), model.graph.initializer[-1].name)
    model.graph.initializer.append(tensor)


def empty_nodes(n: int) -> Damage:
    """A graph of two bytes a node, of which parsing makes more than a hundred each."""

    def damage(bundle: Path) -> None:
        graph = b"\x0a\x00" * n
        length = bytes((len(graph) >> shift & 0x7F) | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))
        rewrite(bundle, BLOCK, b"\x08\x08\x3a" + length + graph)

    return damage


def in_a_circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[3].output[0]


def node_of_200_000_inputs(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Concat", ["x"] * 200_000, ["unused"], axis=1))


def attribute(name: str, value: Any) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        conv = next(each for each in model.graph.node if each.op_type == "Conv")
        kept = [each for each in conv.attribute if each.name != name]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute(name, value)])

    return edited(edit)


def gate_network(bundle: Path, *, n_scores: int = 5, operator: str = "GlobalAveragePool", golden: float = 0.0) -> None:
    """A gate network that scores every point alike, whatever it sees."""
    image, u = (helper.make_tensor_value_info(*each) for each in (("x", 1, [1, 3, 32, 32]), ("u", 1, [1])))
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, n_scores])
    nodes = [
        node(operator, "x", "mean"), node("Flatten", "mean", "flat"), node("MatMul", "flat w", "by_image"),
        node("Mul", "by_image u", "scores"),
    ]  # fmt: skip
    weight = numpy_helper.from_array(np.zeros((3, n_scores), np.float32), "w")
    graph = helper.make_graph(nodes, "gate", [image, u], [scores], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    rewrite(bundle, "gate.onnx", model.SerializeToString())
    edit_manifest(bundle, lambda m: m.update(gate_network={
        "file": "gate.onnx", "image": "x", "throttle": "u", "scores": "scores", "macs": 3 * n_scores
    }))  # fmt: skip
    edit_arrays(bundle, GOLDEN, lambda arrays: arrays.update(
        gate_throttles=np.array([0.5], np.float32),
        gate_scores=np.full((1, len(arrays["inputs"]), 5), golden, np.float32),
    ))  # fmt: skip


def gate_network_of_element_type(bundle: Path) -> None:
    """No node reads the image, so that shape inference has nothing to say about it."""
    gate_network(bundle)
    model = onnx.load_model(str(bundle / "gate.onnx"))
    del model.graph.node[:]
    model.graph.node.extend([node("MatMul", "one w", "row"), node("Mul", "row u", "scores")])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3), np.float32), "one"))
    model.graph.input[0].type.tensor_type.elem_type = 9999
    rewrite(bundle, "gate.onnx", model.SerializeToString())


def gate_network_of_150_mb(bundle: Path) -> None:
    """To serialise a graph with its weights, and to infer shapes from that, takes five times the weights."""
    gate_network(bundle)
    rewrite(bundle, "zeros.bin", bytes(150 * 2**20))
    model = onnx.load_model(str(bundle / "gate.onnx"))
    model.graph.node.append(node("Identity", "zeros", "unused"))
    zeros = model.graph.initializer.add(
        name="zeros", data_type=TensorProto.FLOAT, dims=[150, 2**18], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": "zeros.bin", "offset": "0", "length": str(150 * 2**20)}.items():
        zeros.external_data.add(key=key, value=value)
    rewrite(bundle, "gate.onnx", model.SerializeToString())
    edit_manifest(bundle, lambda m: m["gate_network"].update(macs=1))


def weights_of_nan(bundle: Path) -> None:
    rewrite(bundle, WEIGHTS, b"\xff" * (bundle / WEIGHTS).stat().st_size)


def macs_of(n: int) -> Damage:
    return lambda bundle: edit_manifest(bundle, lambda m: [point.update(macs=n) for point in m["operating_points"]])


def many_convolutions(bundle: Path) -> None:
    """Each legal, and together 33e9 multiply-adds, of which the manifest knows nothing."""
    grown = node("Conv", "x w", "h0", pads=[500, 500, 500, 500])
    nodes = [grown, *(node("Conv", f"h{i} w{i}", f"h{i + 1}", pads=[1, 1, 1, 1]) for i in range(55))]
    weights = {f"w{i}": np.full((8, 8, 3, 3), 0.01, np.float32) for i in range(55)}
    block_of([*nodes, *pooled("h55")], weights)(bundle)


def large_window(bundle: Path) -> None:
    """Pooling costs no multiply-add, and here 8e11 comparisons."""
    grown = node("Conv", "x w", "h0", pads=[400, 400, 400, 400])
    pool = node("MaxPool", "h0", "h1", kernel_shape=[401, 401], strides=[1, 1], pads=[200, 200, 200, 200])
    block_of([grown, pool, *pooled("h1")])(bundle)
    edit_manifest(bundle, lambda m: [
        point.update(macs=point["macs"] + 814**2 * 8 * 72) for point in m["operating_points"]
    ])  # fmt: skip


def large_kernels(bundle: Path) -> None:
    """Four convolutions of 31 x 31, and a manifest that counts them right."""
    weights = {f"w{i}": np.zeros((8, 8, 31, 31), np.float32) for i in range(4)}
    nodes = [node("Conv", "x w", "h0", pads=[500] * 4)]
    nodes += [node("Conv", f"h{i} w{i}", f"h{i + 1}", pads=[15] * 4) for i in range(4)]
    block_of([*nodes, *pooled("h4")], weights)(bundle)


GRAPHS: dict[str, tuple[Damage, str]] = {
    "a chain of 3000 functions": (edited(function_chain), "local functions are not allowed"),
    "84 bytes that ask for 4 GB": (four_gigabytes_in_84_bytes, "operator ConstantOfShape is not allowed"),
    "weights past the end of their file": (placed(offset="15200"), "reads past the end of blocks/weights.bin"),
    "weights before the start of their file": (placed(offset="-4"), "reads past the end of blocks/weights.bin"),
    "weights above the bundle": (placed(location="../../outside"), "which the manifest does not list"),
    "weights at an absolute path": (placed(location="/etc/passwd"), "which the manifest does not list"),
    "weights in a file of a like name": (placed(location="weights\u200b.bin"), "which the manifest does not list"),
    "weights that are the manifest": (placed(location="../manifest.json"), "which the manifest does not list"),
    "weights at two places": (edited(twice_placed), "says twice or unclearly where its data lies"),
    "one weight under 1000 names": (edited(one_weight_read_a_thousand_times), "some are read twice"),
    "a tensor hidden in an attribute": (edited(hidden_in_an_attribute), "has value that is neither numbers nor text"),
    "a graph for training": (edited(training_graph), "training graphs are not allowed"),
    "a loop": (edited(with_loop), "operator Loop is not allowed"),
    "an operator of another domain": (
        edited(lambda m: setattr(m.graph.node[2], "domain", "com.microsoft")),
        "operator com.microsoft::Relu is not allowed",
    ),
    "a sparse tensor": (edited(sparse_tensor), "sparse tensors are not allowed"),
    "a tensor of 2^80 values": (edited(set_dims(2**40, 2**40)), "is too large"),
    "a tensor of 0 x 2^62 values": (edited(set_dims(0, 2**62)), "is too large"),
    "a tensor of a negative size": (edited(set_dims(-8, -8, 1, 1)), "is too large"),
    "a tensor of text": (edited(tensor_of_text), "is of unknown type 8"),
    "two tensors of one name": (edited(two_of_one_name), "two tensors are named"),
    "1,500,000 empty nodes": (empty_nodes(1_500_000), "at most 2097152 are allowed; large tensors belong"),
    "900,000 empty nodes": (empty_nodes(900_000), "900000 nodes, at most 10000 are allowed"),
    "a node of 200,000 inputs": (edited(node_of_200_000_inputs), "edges, at most 100000 are allowed"),
    "a node of 45,000 inputs": (
        block_of([node("Concat", "x " * 45_000, "c", axis=0), *pooled("c")]), "45000 inputs of Concat, at most 256 are"
    ),
    "an attribute of 100,000 numbers": (attribute("pads", [0] * 100_000), "100000 numbers in pads of Conv, at most 64"),
    "no group at all": (attribute("group", 0), r"Conv has group 0, it must lie in \[1, 1048576\]"),
    "a stride of 0": (attribute("strides", [0, 0]), r"Conv has strides 0, it must lie in \[1, 1048576\]"),
    "bytes that are no model": (lambda bundle: rewrite(bundle, BLOCK, bytes(range(256)) * 9), "not an ONNX model"),
    "a graph that goes in a circle": (edited(in_a_circle), "fails the ONNX checker"),
    "a version of the format to come": (edited(lambda m: setattr(m, "ir_version", 999)), "fails the ONNX checker"),
    "an opset to come": (edited(lambda m: setattr(m.opset_import[0], "version", 999)), "(fails the ONNX|opset 999)"),
    "a convolution of huge pads": (
        block_of([node("Conv", "x w", "h", pads=[0, 0, 30_000, 30_000]), *pooled("h")]), TOO_LARGE
    ),
    "pooling of huge pads": (
        block_of([
            node("MaxPool", "x", "h", kernel_shape=[30_001] * 2, pads=[30_000] * 4, strides=[1, 1]), *pooled("h")
        ]), TOO_LARGE,
    ),
    "pooling over a large window": (large_window, r"pools 8\d{11} values, at most .* and 1000000000 are allowed"),
    "convolutions of large kernels": (large_kernels, r"one run takes 25\d{10} MACs .* at most 200000000000"),
    "values that double 40 times": (
        block_of([
            node("Identity", "x", "c0"), *(node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=3) for i in range(40)),
            *pooled("c40"),
        ]), TOO_LARGE,
    ),
    "a product of a column and a row": (
        block_of([
            node("Reshape", "x tall", "t"), node("Flatten", "x", "f"), node("MatMul", "t f", "m"),
            node("Reshape", "m tall", "s"), node("MatMul", "s f", "n"), node("ReduceMean", "n", "r", keepdims=0),
            node("Add", "x r", "y"),
        ], {"tall": np.array([-1, 1])}), TOO_LARGE,
    ),
    "many values of 100 MB": (
        block_of([
            node("Conv", "x w", "h0", pads=[1800] * 4), *(node("Sigmoid", f"h{i}", f"h{i + 1}") for i in range(12)),
            *pooled("h12"),
        ]), TOO_LARGE,
    ),
    "a shape that only a run would tell": (
        block_of([node("Concat", "two two", "s", axis=0), node("Reshape", "x s", "h"), *pooled("h")],
                 {"two": np.array([2])}),
        "is not known before the network runs",
    ),
    "an input of 4096 pixels": (
        lambda bundle: edit_manifest(bundle, lambda m: m["input"].update(shape=[1, 3, 4096, 4096])),
        "(at most 268435456 for one|cannot be linked|the manifest's input and labels say)",
    ),
    "a slice longer than its tensor": (
        lambda bundle: edit_manifest(
            bundle, lambda m: m["blocks"][1]["tensors"]["conv1.weight"]["slices"][0].update(channels=2**20)
        ),
        "has not 4194304 entries on axis 0",
    ),
    "a gate network for other operating points": (
        lambda bundle: gate_network(bundle, n_scores=9), r"the manifest says .*\[1, 5\]"
    ),
    "a gate network of another operator": (
        lambda bundle: gate_network(bundle, operator="RandomNormalLike"), "operator RandomNormalLike is not allowed"
    ),
    "a gate network whose image is of a type that is none": (
        gate_network_of_element_type, r"gate\.onnx: x must be float32, as all that a network reads and gives$"
    ),
    "a gate network of 150 MB that costs something else": (gate_network_of_150_mb, "15 MACs, the manifest says 1$"),
    "a block that gives whole numbers": (
        edited(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT64)),
        r"y must be float32, as all that a network reads and gives$",
    ),
    "golden outputs of another network": (
        lambda bundle: edit_arrays(bundle, GOLDEN, lambda a: a.update(outputs=a["outputs"][::-1])), "exceeds 0.0001"
    ),
    "golden outputs of NaN": (
        lambda bundle: edit_arrays(bundle, GOLDEN, lambda a: a["outputs"].fill(np.nan)), "error nan exceeds 0.0001"
    ),
    "no golden outputs": (
        lambda bundle: edit_arrays(bundle, GOLDEN, lambda a: a.pop("outputs")), "array 'outputs' is missing"
    ),
    "blocks that do not fit together": (
        block_of([node("Concat", "x x", "y", axis=1)]), "145984 MACs in the linked graph at u=0.8, 215616 declared"
    ),
    "weights of NaN": (weights_of_nan, "error nan exceeds 0.0001"),
    "fewer multiply-adds than there are": (macs_of(1), "215616 MACs in the linked graph at u=0.8, 1 declared"),
    "a gate network that scores otherwise": (
        lambda bundle: gate_network(bundle, golden=1.0), "gate network at u=0.5000: error 1.00e"
    ),
    "many convolutions that the manifest does not count": (
        many_convolutions, "33165636160 MACs in the linked graph at u=0.8, 215616 declared"
    ),
}  # fmt: skip
"""Those that only a run shows."""
