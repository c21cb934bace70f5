"""A block file is hostile until checked: what may not be in it is refused before anything loads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from tests.device.damage import rewrite
from tnn_edge.bundle import open_bundle
from tnn_edge.bundle.reading import STATISTICS
from tnn_edge.bundle.structure import ALLOWED_OPERATORS, check_structure
from tnn_edge.errors import BundleError
from tnn_edge.runtime import install

Array = npt.NDArray[np.float32]

BLOCK = "blocks/01_stage1_block1.onnx"
WEIGHTS = "blocks/weights.bin"


def edit_block(bundle: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load_model(str(bundle / BLOCK), load_external_data=False)
    edit(model)
    rewrite(bundle, BLOCK, model.SerializeToString())


def refuses(bundle: Path, says: str) -> None:
    """Both the check and the install refuse the bundle, whose hashes are right."""
    opened = open_bundle(bundle)
    for use in (lambda: check_structure(opened), lambda: install(opened, "cpu", bundle / "cache")):
        with pytest.raises(BundleError, match=f"^{re.escape(str(bundle / BLOCK))}: {says}"):
            use()
    assert not list((bundle / "cache").rglob("*.onnx"))


def placed(model: onnx.ModelProto, tensor: str, **place: str) -> None:
    """Let a tensor read another place."""
    found = next(t for t in model.graph.initializer if t.name == tensor)
    old = {entry.key: entry.value for entry in found.external_data}
    del found.external_data[:]
    for key, value in {**old, **place}.items():
        found.external_data.add(key=key, value=value)


def test_the_tiny_bundle_is_sound(tiny_bundle: Path) -> None:
    check_structure(open_bundle(tiny_bundle))


def test_a_block_that_is_edited_but_sound_passes(bundle_copy: Path) -> None:
    edit_block(bundle_copy, lambda model: model.metadata_props.add(key="edited", value="yes").Clear())
    check_structure(open_bundle(bundle_copy))


@pytest.mark.parametrize("data", [b"hello world", b"\x08", bytes(range(256))], ids=["text", "cut", "bytes"])
def test_a_file_that_is_no_onnx_model_is_named(bundle_copy: Path, data: bytes) -> None:
    rewrite(bundle_copy, BLOCK, data)
    refuses(bundle_copy, "not an ONNX model")


def test_an_empty_file_fails_the_onnx_checker(bundle_copy: Path) -> None:
    rewrite(bundle_copy, BLOCK, b"")
    refuses(bundle_copy, "(fails the ONNX checker: |opset None, the blocks before it 18)")


@pytest.mark.parametrize("operator", ["Loop", "Scan", "Constant", "RandomNormal", "SequenceConstruct", "NoSuchThing"])
def test_an_operator_that_is_not_on_the_list_is_named(bundle_copy: Path, operator: str) -> None:
    assert operator not in ALLOWED_OPERATORS
    edit_block(bundle_copy, lambda model: setattr(model.graph.node[2], "op_type", operator))
    refuses(bundle_copy, f"operator {operator} is not allowed in a bundle")


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "com.example"])
def test_an_operator_of_another_domain_is_named_with_it(bundle_copy: Path, domain: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[2].domain = domain
        model.opset_import.add(domain=domain, version=1)

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, f"operator {re.escape(domain)}::Relu is not allowed in a bundle")


def test_a_local_function_is_refused(bundle_copy: Path) -> None:
    body = helper.make_node("Relu", ["a"], ["b"])
    function = helper.make_function("", "Relu", ["a"], ["b"], [body], [helper.make_opsetid("", 18)])
    edit_block(bundle_copy, lambda model: model.functions.append(function))
    refuses(bundle_copy, "local functions are not allowed in a bundle")


def test_a_chain_of_local_functions_that_would_crash_onnx_runtime_is_refused(bundle_copy: Path) -> None:
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("deep", 1)]

    def edit(model: onnx.ModelProto) -> None:
        for i in range(3000):
            call = helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="deep")
            model.functions.append(helper.make_function("deep", f"f{i}", ["a"], ["b"], [call], opset))

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, "local functions are not allowed in a bundle")


def branch() -> onnx.GraphProto:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    return helper.make_graph([], "branch", [], [value])


def test_an_if_is_refused(bundle_copy: Path) -> None:
    node = helper.make_node("If", ["x"], ["unused"], then_branch=branch(), else_branch=branch())
    edit_block(bundle_copy, lambda model: model.graph.node.append(node))
    refuses(bundle_copy, "operator If is not allowed in a bundle")


def test_a_subgraph_inside_an_allowed_operator_is_refused(bundle_copy: Path) -> None:
    attribute = helper.make_attribute("body", branch())
    edit_block(bundle_copy, lambda model: model.graph.node[2].attribute.append(attribute))
    refuses(bundle_copy, "Relu holds a subgraph, which is not allowed in a bundle")


def test_too_many_nodes_are_refused(bundle_copy: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node.extend(helper.make_node("Relu", ["x"], [f"r{i}"]) for i in range(10_001))

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, r"100\d\d nodes, at most 10000 are allowed")


@pytest.mark.parametrize("location", ["../secret.bin", "../../../etc/passwd", "/etc/passwd", "other.bin", ""])
def test_external_data_that_the_manifest_does_not_list_is_refused(bundle_copy: Path, location: str) -> None:
    (bundle_copy / "secret.bin").write_bytes(bytes(10_000))
    (bundle_copy / "blocks" / "other.bin").write_bytes(bytes(10_000))
    edit_block(bundle_copy, lambda model: placed(model, "conv1.weight", location=location))
    refuses(bundle_copy, "tensor conv1.weight reads '.*', which the manifest does not list")


@pytest.mark.parametrize("offset", [15_272 - 255, 10**9, -4])
def test_external_data_past_the_end_of_its_file_is_refused(bundle_copy: Path, offset: int) -> None:
    assert (bundle_copy / WEIGHTS).stat().st_size == 15_272
    edit_block(bundle_copy, lambda model: placed(model, "conv1.weight", offset=str(offset), length=str(8 * 8 * 4)))
    refuses(bundle_copy, "tensor conv1.weight reads past the end of blocks/weights.bin or has another size")


@pytest.mark.parametrize("length", [0, 4, 8 * 8 * 4 - 1, 8 * 8 * 4 + 4])
def test_external_data_of_another_size_than_its_tensor_is_refused(bundle_copy: Path, length: int) -> None:
    edit_block(bundle_copy, lambda model: placed(model, "conv1.weight", length=str(length)))
    refuses(bundle_copy, "tensor conv1.weight reads past the end of blocks/weights.bin or has another size")


@pytest.mark.parametrize("place", [{"offset": "first"}, {"length": "1e3"}, {"length": ""}])
def test_external_data_at_no_readable_place_is_refused(bundle_copy: Path, place: dict[str, str]) -> None:
    edit_block(bundle_copy, lambda model: placed(model, "conv1.weight", **place))
    refuses(bundle_copy, "tensor conv1.weight has no readable offset and length")


@pytest.mark.parametrize("dims", [[2**20, 2**20], [-1, 8], [2**40, 2**40, 2**40]])
def test_a_tensor_that_would_fill_the_memory_is_refused(bundle_copy: Path, dims: list[int]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, f"tensor conv1.weight of shape {re.escape(str(dims))} is too large")


@pytest.mark.parametrize("data_type", [0, 999])
def test_a_tensor_of_no_known_type_is_refused(bundle_copy: Path, data_type: int) -> None:
    edit_block(bundle_copy, lambda model: setattr(model.graph.initializer[0], "data_type", data_type))
    refuses(bundle_copy, f"tensor conv1.weight is of unknown type {data_type}")


@pytest.mark.parametrize("n_bytes", [0, 8, 8 * 8 * 4 + 4])
def test_raw_data_of_another_size_than_its_tensor_is_refused(bundle_copy: Path, n_bytes: int) -> None:
    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = bytes(n_bytes)

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, f"tensor conv1.weight holds {n_bytes} bytes, its shape {8 * 8 * 4}")


def test_a_value_that_nothing_computes_fails_the_onnx_checker(bundle_copy: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "from nowhere"

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, "fails the ONNX checker: ")


def test_another_opset_than_that_of_the_blocks_before_is_refused(bundle_copy: Path) -> None:
    edit_block(bundle_copy, lambda model: setattr(model.opset_import[0], "version", 17))
    refuses(bundle_copy, "opset 17, the blocks before it 18; linked blocks need one opset")


@pytest.mark.parametrize("end", ["input", "output"])
def test_another_name_than_the_manifest_says_is_refused(bundle_copy: Path, end: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        old = getattr(model.graph, end)[0].name
        getattr(model.graph, end)[0].name = "renamed"
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = "renamed" if name == old else name

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, r"reads \['(x|renamed)'\] and gives \['(y|renamed)'\], the manifest says otherwise")


def test_a_second_input_is_refused(bundle_copy: Path) -> None:
    second = helper.make_tensor_value_info("second", TensorProto.FLOAT, [1])
    edit_block(bundle_copy, lambda model: model.graph.input.append(second))
    refuses(bundle_copy, re.escape("reads ['x', 'second'] and gives ['y'], the manifest says otherwise"))


def test_a_slice_map_that_names_a_missing_tensor_is_refused(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    tensors = manifest["blocks"][1]["tensors"]
    tensors["conv9.weight"] = tensors["conv1.weight"]
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    refuses(bundle_copy, "the slice map names conv9.weight, which the block does not hold")


@pytest.mark.parametrize("dims", [[8, 8], [8, 8, 1], [8, 8, 1, 1, 1]])
def test_a_convolution_weight_of_other_than_four_dimensions_is_refused(bundle_copy: Path, dims: list[int]) -> None:
    def reshape(model: onnx.ModelProto) -> None:
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "conv1.weight")
        del weight.dims[:]
        weight.dims.extend(dims)

    edit_block(bundle_copy, reshape)
    refuses(bundle_copy, "a convolution's weight must be an initializer of four dimensions")


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("node", "old", "new"),
    [
        ("Conv", "conv3.weight", "conv1.weight"),
        ("BatchNormalization", "norm2.running_var", "norm1.running_var"),
        ("BatchNormalization", "norm2.weight", "norm1.weight"),
    ],
)
def test_a_constant_that_two_nodes_read_and_linking_changes_is_refused(
    bundle_copy: Path, node: str, old: str, new: str
) -> None:
    def share(model: onnx.ModelProto) -> None:
        (reader,) = (each for each in model.graph.node if each.op_type == node and old in each.input)
        reader.input[list(reader.input).index(old)] = new

    edit_block(bundle_copy, share)
    refuses(bundle_copy, f"tensor {new} is read 2 times; linking changes it for one reader, give each a tensor of its")


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("group", 0, "group 0, it must lie in [1, 1048576]"),
        ("strides", [0, 1], "strides 0, it must lie in [1, 1048576]"),
        ("dilations", [1, -1], "dilations -1, it must lie in [1, 1048576]"),
        ("pads", [0, 0, 2**40, 0], "pads 1099511627776, it must lie in [0, 1048576]"),
        ("pads", [-1, 0, 0, 0], "pads -1, it must lie in [0, 1048576]"),
        ("axis", -(2**40), "axis -1099511627776, it must lie in [-1048576, 1048576]"),
    ],
)
def test_an_attribute_out_of_range_is_named(bundle_copy: Path, attribute: str, value: Any, says: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        kept = [each for each in conv.attribute if each.name != attribute]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute(attribute, value)])

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, re.escape(f"Conv has {says}"))


def test_a_sparse_tensor_is_refused(bundle_copy: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        value = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
        index = helper.make_tensor("index", TensorProto.INT64, [1], [0])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(value, index, [2**40]))

    edit_block(bundle_copy, edit)
    refuses(bundle_copy, "sparse tensors are not allowed in a bundle")


@pytest.mark.parametrize(
    ("tensor", "change", "says"),
    [
        (
            "conv1.weight",
            {"channels": 1},
            "of shape [8, 8, 1, 1] has not 4 entries on axis 0: 0 ungated and 1 for each of 4 components",
        ),
        (
            "conv1.weight",
            {"channels": 3},
            "of shape [8, 8, 1, 1] has not 12 entries on axis 0: 0 ungated and 3 for each of 4 components",
        ),
        (
            "norm1.bias",
            {"axis": 1},
            "of shape [8] has not 8 entries on axis 1: 0 ungated and 2 for each of 4 components",
        ),
        (
            "conv2.weight",
            {"axis": 2},
            "of shape [8, 2, 3, 3] has not 8 entries on axis 2: 0 ungated and 2 for each of 4 components",
        ),
    ],
)
def test_a_slice_that_does_not_fit_its_tensor_is_refused(
    bundle_copy: Path, tensor: str, change: dict[str, int], says: str
) -> None:
    edit_manifest(bundle_copy, lambda m: m["blocks"][1]["tensors"][tensor]["slices"][0].update(change))
    refuses(bundle_copy, re.escape(f"tensor {tensor} {says}"))


def test_one_axis_sliced_twice_is_refused(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["blocks"][1]["tensors"]["conv1.weight"].update(
        slices=2 * m["blocks"][1]["tensors"]["conv1.weight"]["slices"]
    ))  # fmt: skip
    refuses(bundle_copy, "the slice map slices an axis of conv1.weight twice")


@pytest.mark.parametrize("tensor", ["conv1.weight", "norm1.bias"])
def test_groups_are_those_of_a_convolution_with_a_group_for_each_component(bundle_copy: Path, tensor: str) -> None:
    edit_manifest(bundle_copy, lambda m: m["blocks"][1]["tensors"][tensor].update(group_of="stage1_block1"))
    says = "must be the weight of a convolution whose groups are a multiple of the 4 components of stage1_block1"
    refuses(bundle_copy, f"tensor {tensor} {says}")


def renamed(arrays: dict[str, Array]) -> None:
    arrays["stage1_block1/nrm1.running_mean"] = arrays.pop("stage1_block1/norm1.running_mean")


def cut(arrays: dict[str, Array]) -> None:
    arrays["stage1_block1/norm1.running_var"] = arrays["stage1_block1/norm1.running_var"][:, :1]


def widened(arrays: dict[str, Array]) -> None:
    arrays["stage1_block1/norm1.running_mean"] = np.tile(arrays["stage1_block1/norm1.running_mean"], (1, 2))


def negative(arrays: dict[str, Array]) -> None:
    arrays["stage2_block1/norm2.running_var"][3, 1] = -0.5


def dropped(arrays: dict[str, Array]) -> None:
    del arrays["stage1_block1/norm2.running_mean"], arrays["stem/norm.running_var"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (renamed, "stage1_block1/nrm1.running_mean names no running mean or variance of a normalisation in the blocks"),
        (cut, "stage1_block1/norm1.running_var has 1 channels, its normalisation 8"),
        (widened, "stage1_block1/norm1.running_mean has 16 channels, its normalisation 8"),
        (negative, "stage2_block1/norm2.running_var holds -0.5, a variance is at least 0"),
        (dropped, "stage1_block1/norm2.running_mean, stem/norm.running_var are missing"),
    ],
)
def test_statistics_that_do_not_fit_the_blocks_are_refused(
    bundle_copy: Path, spoil: Callable[[dict[str, Array]], None], says: str
) -> None:
    with np.load(bundle_copy / STATISTICS) as file:
        arrays = {name: values.copy() for name, values in file.items()}
    spoil(arrays)
    np.savez(bundle_copy / "spoiled.npz", **arrays)
    rewrite(bundle_copy, STATISTICS, (bundle_copy / "spoiled.npz").read_bytes())
    with pytest.raises(BundleError, match=f"^{re.escape(f'{bundle_copy / STATISTICS}: {says}')}$"):
        check_structure(open_bundle(bundle_copy))
