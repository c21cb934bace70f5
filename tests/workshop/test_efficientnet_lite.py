"""EfficientNet-Lite: the published network on its published weights, and what is its own of building and exporting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]  # it ships none
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tnn_edge
from export.bundle import export_bundle
from export.static import export_static
from tests.workshop.conftest import SIZE, allowed, random_gates, relative_error, small_recipe
from tnn_edge.bundle import InputSpec, open_bundle
from tnn_edge.camera.image_folder import ImageFolder
from tnn_edge.camera.preprocessing import preprocess
from tnn_edge.errors import RunError
from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.networks.efficientnet_lite import LIBRARY_MODELS, library_names
from tnn_edge.nn.packaged_weights import packaged_weights
from tnn_edge.nn.same_padding import same_conv, same_padding
from tnn_edge.nn.weights import load_library_weights
from tnn_edge.runtime.verify import verify
from train.recipe import NetworkSettings, Recipe, read_recipe
from train.untrained import write_untrained

ROOT = Path(__file__).parents[2]
EXACT = 1e-5  # float32: the same sums in another order
SMALL: dict[str, Any] = {
    "channels": [8, 12], "blocks": [2, 1], "kernels": [3, 5], "strides": [2, 2], "stem_channels": [8, 4],
    "head_channels": 16, "expansion": 4, "n_components": 4, "n_classes": 4,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(ROOT / "train" / "recipes" / "imagenet_efficientnet_lite0.toml")


@pytest.fixture(scope="module")
def weights(recipe: Recipe) -> Path:
    found = packaged_weights(recipe.network.weights)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def lite0(recipe: Recipe, weights: Path) -> ThrottleableNetwork:
    """The recipe's, with its weights for ImageNet, in evaluation mode. Read only."""
    network = build_network(recipe.network.architecture, recipe.network.sizes).eval()
    assert load_library_weights(network, recipe.network.architecture, recipe.network.sizes, str(weights)) == ()
    return network


def published(weights: Path, image_size: int) -> nn.Module:
    plain: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    plain.load_state_dict(torch.load(weights, weights_only=True))
    return plain.eval()


def noise(n: int, size: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


# --- u = 1 is the published network


@pytest.mark.parametrize("size", [63, 64, 97, 224])
def test_full_throttle_equals_the_published_network(lite0: ThrottleableNetwork, weights: Path, size: int) -> None:
    """At odd sizes too: SAME padding depends on the size."""
    x = noise(2, size)
    expected = published(weights, size)(x)
    full = lite0.schedule.vector(1.0)
    assert relative_error(lite0(x), expected) <= EXACT
    assert relative_error(lite0(x, as_masks(full, len(x))), expected) <= EXACT
    assert relative_error(lite0.sliced(x, full), expected) <= EXACT
    assert relative_error(lite0.sliced(x, lite0.schedule.vector(0.5)), expected) > 100 * EXACT


@pytest.mark.parametrize("model", sorted(LIBRARY_MODELS))
def test_a_library_model_has_the_names_and_shapes_of_the_sizes_listed_for_it(model: str) -> None:
    with torch.device("meta"):
        plain = EfficientNet.from_name(model.replace("_", "-")).state_dict()
        ours = build_network("efficientnet_lite", {**LIBRARY_MODELS[model], "n_classes": 1000})
    place = library_names(ours)
    assert {place[name]: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in ours.state_dict().items()
    }


def test_photographs_are_recognised_as_their_sources_say(
    lite0: ThrottleableNetwork, weights: Path, recipe: Recipe
) -> None:
    classes = {"espresso": 967, "military uniform": 652, "tabby": 281, "tripod": 872}  # of ImageNet's 1000
    data = recipe.data
    spec = InputSpec(
        name="x",
        shape=(1, 3, data.image_size, data.image_size),
        short_side=data.short_side,
        mean=data.mean,
        std=data.std,
    )
    plain, ranks = published(weights, data.image_size), {}
    for frame in ImageFolder(ROOT / "examples" / "photographs"):
        assert frame.image is not None and frame.label is not None
        x = torch.from_numpy(preprocess(frame.image, spec))
        logits = lite0(x)
        assert relative_error(logits, plain(x)) <= EXACT
        ranks[frame.label] = logits[0].argsort(descending=True).tolist().index(classes[frame.label]) + 1
    assert ranks == {"espresso": 1, "military uniform": 3, "tabby": 3, "tripod": 1}


# --- gates


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_sliced_equals_masked_on_real_weights(lite0: ThrottleableNetwork, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gates = allowed(random_gates(lite0.schedule.sizes, generator), lite0.schedule)
    x = noise(2, 48)
    assert relative_error(lite0.sliced(x, gates), lite0(x, as_masks(gates, len(x)))) <= EXACT


@pytest.mark.parametrize("size", [63, 224])
def test_macs_are_what_the_sliced_network_runs(lite0: ThrottleableNetwork, size: int) -> None:
    for _, gates in lite0.schedule.operating_points(n_points=5):
        with FlopCounterMode(display=False) as counter:
            lite0.sliced(noise(1, size), gates)
        assert lite0.macs(gates, size) == int(counter.get_total_flops()) // 2


def test_macs_of_a_bottleneck_follow_the_formula() -> None:
    network = build_network("efficientnet_lite", SMALL)
    block = network.gated_blocks["stage1_block1"]  # 4 -> 16 -> 8 channels, 3x3 of stride 2: 9x9 -> 5x5
    for k in range(1, 5):
        width = 4 * k
        expected = 4 * width * 9**2 + width * 3**2 * 5**2 + width * 8 * 5**2
        assert block.macs({"stage1_block1": (1,) * k + (0,) * (4 - k)}, 9) == (expected, 5)


def test_the_first_bottleneck_of_a_stage_keeps_a_component_and_repeats_come_back_by_depth() -> None:
    sizes = {**SMALL, "channels": [8, 12, 12], "blocks": [3, 1, 2], "kernels": [3, 5, 3], "strides": [2, 2, 1]}
    schedule = build_network("efficientnet_lite", sizes).schedule
    first = {f"stage{stage}_block1" for stage in (1, 2, 3)}
    assert {name: sum(bits) for name, bits in schedule.vector(0.0).items()} == {
        name: int(name in first) for name in schedule.sizes
    }
    on = [{name for name, bits in schedule.vector(u).items() if any(bits)} - first for u in (0.0, 0.25, 0.5, 0.75)]
    # three repeats: a quarter of the dial each; the smallest share on first, of equal ones that nearest the output
    assert on[1:] == [on[0] | {"stage3_block2"}, on[1] | {"stage1_block2"}, on[2] | {"stage1_block3"}]


def test_every_part_of_a_fresh_network_learns() -> None:
    """Branches that start at zero are for blocks with a skip connection: without one, nothing would pass."""
    network = build_network("efficientnet_lite", SMALL).train()
    with torch.enable_grad():
        network(noise(8, SIZE)).square().sum().backward()
    for name in ("stem.conv1", "blocks.stage1_block1.conv2", "blocks.stage2_block1.conv1", "head.classifier"):
        gradient = network.get_submodule(name).weight.grad
        assert isinstance(gradient, Tensor) and float(gradient.abs().max()) > 0.0, name


def test_dropout_is_for_training_alone() -> None:
    network = build_network("efficientnet_lite", SMALL)
    x = noise(4, SIZE)
    assert torch.equal(network.eval()(x), network(x))
    torch.manual_seed(0)
    network.train()
    assert not torch.equal(network(x), network(x))


# --- SAME padding


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_same_padding_is_that_of_onnx(height: int, width: int, kernel: int, stride: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(2, 4, kernel, stride, kernel // 2, groups=2, bias=False)
    conv.weight.data.uniform_(-1.0, 1.0, generator=generator)
    x = torch.rand(1, 2, height, width, generator=generator)
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[stride, stride], group=2)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "same", values[:2], values[2:])
    (expected,) = ReferenceEvaluator(helper.make_model(graph)).run(None, {"x": x.numpy(), "w": conv.weight.numpy()})
    torch.testing.assert_close(same_conv(conv, x), torch.from_numpy(np.asarray(expected)), rtol=EXACT, atol=EXACT)


def test_same_padding_of_even_and_odd_sizes() -> None:
    assert [same_padding(size, 3, 2) for size in (224, 65)] == [(0, 1), (1, 1)]
    assert [same_padding(size, 5, 2) for size in (56, 7)] == [(1, 2), (2, 2)]
    assert same_padding(14, 5, 1) == (2, 2)


# --- export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run and bundle, random weights, statistics per point: they do not move past ReLU6 into the next convolution."""
    folder = tmp_path_factory.mktemp("efficientnet_lite")
    network = NetworkSettings(architecture="efficientnet_lite", sizes=SMALL)
    write_untrained(small_recipe(points=5).model_copy(update={"network": network}), folder / "run")
    export_bundle(folder / "run", folder / "bundle", licence="Apache-2.0")
    return folder / "run", folder / "bundle"


def test_exported_bundle_is_verified(exported: tuple[Path, Path]) -> None:
    with tnn_edge.load(exported[1], device="cpu") as engine:
        verification = verify(engine)
        assert verification.faults == ()
        outputs = engine.bundle.golden[1]
        for before, after in pairwise(outputs):
            assert np.abs(before - after).max() > 1e-2 * np.abs(after).max()
    assert [(point.u, point.blocks_run) for point in verification.points] == [(0.0, 2), (0.5, 3), (0.75, 3), (1.0, 3)]


def test_same_padding_is_in_the_convolutions(exported: tuple[Path, Path]) -> None:
    bundle = open_bundle(exported[1])
    pads = {}
    for block in bundle.manifest.blocks:
        nodes = onnx.load(bundle.path / block.file, load_external_data=False).graph.node
        assert "Pad" not in {node.op_type for node in nodes}
        for node in nodes:
            given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            if given.get("strides") == [2, 2]:
                pads[block.name] = given["pads"]
    assert pads == {"stem": [0, 0, 1, 1], "stage1_block1": [0, 0, 1, 1], "stage2_block1": [1, 1, 2, 2]}


@pytest.mark.slow
def test_linked_equals_a_static_export(exported: tuple[Path, Path], tmp_path: Path) -> None:
    run, bundle = exported
    export_static(run, 0.5, tmp_path / "half.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "half.onnx"), providers=["CPUExecutionProvider"])
    x = noise(1, SIZE).numpy()
    with tnn_edge.load(bundle, device="cpu") as engine:
        logits = torch.from_numpy(engine.run(x, 0.5).logits.copy())
    assert relative_error(logits, torch.from_numpy(session.run(None, {"x": x})[0])) <= EXACT


# --- weights of a package


def install(folder: Path, *files: str) -> None:
    """A package `some-weights` whose record lists the files."""
    info = folder / "some_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in ("some_weights/__init__.py", *files)))


def test_the_weights_of_a_package_are_its_one_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "some_weights/a/net.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged_weights("some-weights") == tmp_path / "some_weights" / "a" / "net.pth"


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "no-such-package", ""])
def test_there_are_no_weights_of_a_package_that_is_not_installed(name: str) -> None:
    assert packaged_weights(name) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"the package some-weights should ship one file of weights, but ships none"),
        (
            ["w/a.pth", "w/b.safetensors"],
            r"the package some-weights should ship one file of weights, but ships 2: w/a\.pth, w/b\.safetensors",
        ),
    ],
)
def test_a_package_without_one_file_of_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], message: str
) -> None:
    install(tmp_path, *files)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match=f"^{message}$"):
        packaged_weights("some-weights")


# --- building


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"blocks": [2]}, "2 stages have channels, 1 have blocks"),
        ({"kernels": [3]}, "2 stages have channels, 1 have kernels"),
        ({"strides": [1, 1, 1]}, "2 stages have channels, 3 have strides"),
        ({"kernels": [3, 4]}, "kernels must be odd, got 4"),
        ({"blocks": [0, 1]}, "a stage must have at least one block, got 0"),
        ({"n_components": 3}, "the 16 expanded channels of stage1_block1 do not divide into 3 components"),
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"stem_channels": [8]}, r"stem_channels must be two numbers, got \[8\]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=f"^efficientnet_lite: {message}$"):
        build_network("efficientnet_lite", {**SMALL, **sizes})
