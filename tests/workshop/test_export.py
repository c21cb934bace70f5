"""From PyTorch to a bundle: linked equals masked, the linker's output equals an independent export, all or nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor

import tnn_edge
from export.bundle import export_bundle, finished_folder
from export.static import export_static
from tests.workshop.conftest import Exported, as_bits, colours, random_gates, small_recipe
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.structure import check_structure
from tnn_edge.errors import BundleError, RunError, ThrottleRangeError
from tnn_edge.nn import GateVector, ThrottleableNetwork
from tnn_edge.nn.checkpoint import load_network, read_run, read_statistics_table, use_point
from tnn_edge.nn.dataset import load_images, normalised
from tnn_edge.nn.gating import as_masks, nearest_point
from tnn_edge.nn.norm import Statistics
from tnn_edge.runtime import Engine
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.macs import graph_macs
from train.untrained import write_untrained

Array = npt.NDArray[np.float32]
TOLERANCE = 1e-4  # of the largest logit


@pytest.fixture
def loaded(exported: Exported) -> Iterator[Engine]:
    """Each bundle in turn, loaded."""
    with tnn_edge.load(exported.bundle, device="cpu") as engine:
        yield engine


def run_onnx(model: bytes | Path, inputs: Tensor) -> Array:
    """Answers of ONNX Runtime, one image at a time."""
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return np.concatenate([session.run(None, {name: x[None]})[0] for x in inputs.numpy()])


def linked_model(bundle: Bundle, gates: GateVector) -> onnx.ModelProto:
    return ir.to_proto(link(bundle, as_bits(gates)))


class Torch:
    """The PyTorch network of a run, at any gate vector, with the statistics of the nearest operating point."""

    def __init__(self, run: Path) -> None:
        description = read_run(run)
        self.network: ThrottleableNetwork = load_network(run)
        self.table: Sequence[Statistics] | None = read_statistics_table(run, self.network)
        self.points = [gates for _, gates in self.network.schedule.operating_points(description.recipe["seed"])]
        self.costs = self.network.component_costs(description.image_size)

    @torch.no_grad()
    def masked(self, x: Tensor, gates: GateVector) -> Array:
        use_point(self.network, self.table, nearest_point(gates, self.points, self.costs))
        answer: Array = self.network(x, as_masks(gates, len(x))).numpy()
        return answer


def assert_close(answer: Array, expected: Array) -> None:
    """Promise 2: within 1e-4 of the largest logit, the same class wherever the margin can tell."""
    error = np.abs(answer - expected).max(axis=1)
    assert error.max() <= TOLERANCE * np.abs(expected).max()
    second, first = np.sort(expected, axis=1)[:, -2:].T
    decided = first - second > 2 * error
    assert (answer.argmax(axis=1) == expected.argmax(axis=1))[decided].all()


def some_images(n: int) -> Tensor:
    """Real images where TNN_EDGE_DATA names a data folder, synthetic ones otherwise."""
    named = os.environ.get("TNN_EDGE_DATA")
    real = named and Path(named).is_dir()
    data = load_images(Path(str(named)), "test", image_size=16) if real else colours(n, seed=8)
    chosen = torch.arange(n) * (len(data) // n)
    return normalised(data.images[chosen], (0.4, 0.4, 0.4), (0.25, 0.25, 0.25))


# --- linked equals masked


def test_runtime_reproduces_the_golden_outputs_at_every_operating_point(loaded: Engine) -> None:
    inputs, outputs = loaded.bundle.golden
    assert len(outputs) == len(loaded.points) > 2
    for i, point in enumerate(loaded.points):
        answer = np.concatenate([loaded.run(x[None], point.u).logits for x in inputs])
        assert_close(answer, outputs[i])


def test_golden_outputs_are_those_of_the_masked_network(exported: Exported) -> None:
    bundle, reference = open_bundle(exported.bundle), Torch(exported.run)
    inputs, outputs = bundle.golden
    for i, (_, gates) in enumerate(reference.network.schedule.operating_points(exported.recipe.seed)):
        use_point(reference.network, reference.table, i)
        with torch.no_grad():
            expected = reference.network(torch.from_numpy(inputs), as_masks(gates, len(inputs))).numpy()
        assert np.array_equal(outputs[i], expected)


def test_golden_outputs_differ_from_point_to_point(exported: Exported) -> None:
    """Otherwise reproducing them would prove little."""
    _, outputs = open_bundle(exported.bundle).golden
    for before, after in pairwise(outputs):
        assert np.abs(before - after).max() > 20 * TOLERANCE * np.abs(after).max()


def random_vectors(run: Path, bundle: Bundle, n: int) -> list[GateVector]:
    """Different gate vectors without an operating point."""
    network, generator = load_network(run), torch.Generator().manual_seed(4)
    points = [point.gates for point in bundle.manifest.operating_points]
    found: list[GateVector] = []
    while len(found) < n:
        gates = random_gates(network.schedule.sizes, generator)
        if as_bits(gates) not in points and gates not in found:
            found.append(gates)
    return found


def test_linked_equals_masked_for_vectors_without_an_operating_point(exported: Exported) -> None:
    bundle, reference, x = open_bundle(exported.bundle), Torch(exported.run), some_images(4)
    for gates in random_vectors(exported.run, bundle, 4):
        answer = run_onnx(linked_model(bundle, gates).SerializeToString(), x)
        assert_close(answer, reference.masked(x, gates))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("resnet_d", {"channels": [8, 16, 16], "blocks": [4, 4, 4]}),
        (
            "resnext_w",
            {"channels": [8, 16, 16], "blocks": [2, 1, 1], "component_channels": [2] * 3, "n_components": 16},
        ),
    ],
)
def test_linked_equals_masked_for_200_vectors_on_1000_images(
    tmp_path: Path, architecture: str, sizes: dict[str, Any]
) -> None:
    recipe = small_recipe(architecture)
    network = recipe.network.model_copy(update={"sizes": {**sizes, "n_classes": 4}})
    write_untrained(recipe.model_copy(update={"network": network}), tmp_path / "run")
    export_bundle(tmp_path / "run", tmp_path / "bundle")
    bundle, reference, x = open_bundle(tmp_path / "bundle"), Torch(tmp_path / "run"), some_images(1000)
    for gates in random_vectors(tmp_path / "run", bundle, 200):
        answer = run_onnx(linked_model(bundle, gates).SerializeToString(), x)
        assert_close(answer, reference.masked(x, gates))


def test_vector_without_an_operating_point_uses_the_statistics_below_it(resnext_w: Exported) -> None:
    manifest = open_bundle(resnext_w.bundle).manifest
    rows = {point.utilisation: point.statistics for point in manifest.operating_points}
    first, second = manifest.gates
    w = sum(first.weights) + sum(second.weights)
    gates = {first.name: "0110", second.name: "0001"}
    used = (2 * first.weights[0] + second.weights[0]) / w
    assert manifest.statistics_for(gates) == rows[max(share for share in rows if share <= used)]


def test_statistics_of_operating_points_are_their_own(resnext_w: Exported, resnet_d: Exported) -> None:
    for exported in (resnext_w, resnet_d):
        bundle = open_bundle(exported.bundle)
        n = len(bundle.manifest.operating_points)
        assert [point.statistics for point in bundle.manifest.operating_points] == [*range(n - 1), None]
        assert all(len(rows) == n - 1 for rows in bundle.statistics.values())


def test_shared_statistics_are_not_stored_again(shared: Exported) -> None:
    bundle = open_bundle(shared.bundle)
    assert {point.statistics for point in bundle.manifest.operating_points} == {None}
    assert "statistics.npz" not in bundle.manifest.files


def test_network_of_one_operating_point_has_the_statistics_of_its_blocks(tmp_path: Path) -> None:
    recipe = small_recipe()
    sizes = {"channels": [8], "convolutions": [1], "hidden": [8], "n_components": 1, "image_size": 16, "n_classes": 4}
    network = recipe.network.model_copy(update={"architecture": "vgg", "sizes": sizes})
    write_untrained(recipe.model_copy(update={"network": network}), tmp_path / "run")
    export_bundle(tmp_path / "run", tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    check_structure(bundle)
    assert [(point.u, point.statistics) for point in bundle.manifest.operating_points] == [(0.0, None)]
    inputs, outputs = bundle.golden
    model = linked_model(bundle, load_network(tmp_path / "run").schedule.vector(1.0)).SerializeToString()
    assert_close(run_onnx(model, torch.from_numpy(inputs)), outputs[0])


# --- cost and shared weights


def test_linked_macs_are_those_of_the_manifest(loaded: Engine) -> None:
    assert loaded.plans.macs == tuple(point.macs for point in loaded.points)


def test_linked_macs_of_any_vector_are_those_of_the_sliced_network(exported: Exported) -> None:
    bundle, network = open_bundle(exported.bundle), load_network(exported.run)
    for gates in random_vectors(exported.run, bundle, 4):
        assert graph_macs(linked_model(bundle, gates)) == network.macs(gates, 16)


def test_linked_graph_holds_only_blocks_that_are_on(exported: Exported) -> None:
    bundle = open_bundle(exported.bundle)
    for point in bundle.manifest.operating_points:
        linked = ir.to_proto(link(bundle, point.gates))
        with_branch = {node.name.partition("/")[0] for node in linked.graph.node if node.op_type == "Add"}
        assert with_branch == set(point.blocks_on)


def weights_by_point(bundle: Bundle, block: str, tensor: str) -> list[bytes]:
    """Bytes of a weight at each operating point that has it, the largest last."""
    found = []
    for point in bundle.manifest.operating_points:
        initializers = link(bundle, point.gates).graph.initializers
        value = initializers.get(f"{block}/{tensor}")
        if value is not None:
            assert value.const_value is not None
            found.append(value.const_value.tobytes())
    return found


@pytest.mark.parametrize("name", ["resnext_w", "shared"])
def test_first_convolutions_share_their_bytes_between_operating_points(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Statistics per point go into the bias and the next convolution, so smaller points hold a prefix of these."""
    bundle = open_bundle(request.getfixturevalue(name).bundle)
    for block in ("stage1_block1", "stage2_block1"):
        *smaller, full = weights_by_point(bundle, block, "conv1.weight")
        assert [len(each) / len(full) for each in smaller] == [1 / 4, 2 / 4, 3 / 4]
        assert all(full.startswith(each) for each in smaller)
        *smaller, full = weights_by_point(bundle, block, "conv2.weight")
        assert all(full.startswith(each) == (name == "shared") for each in smaller)


# --- against an export that shares no code with the linker


@pytest.mark.parametrize(
    ("name", "u"),
    [
        pytest.param("resnext_w", 0.0, marks=pytest.mark.slow),
        ("resnext_w", 0.45),
        ("resnext_w", 1.0),
        ("resnet_d", 0.45),
        pytest.param("resnet_d", 1.0, marks=pytest.mark.slow),
    ],
)
def test_static_export_answers_as_the_linked_network(
    name: str, u: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    exported: Exported = request.getfixturevalue(name)
    export_static(exported.run, u, tmp_path / "static.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["static.onnx"]
    x = some_images(4)
    with tnn_edge.load(exported.bundle, device="cpu") as engine:
        linked = np.concatenate([engine.run(image[None], u).logits for image in x.numpy()])
        macs = engine.point_at(u).macs
    assert_close(run_onnx(tmp_path / "static.onnx", x), linked)
    assert graph_macs(onnx.load(tmp_path / "static.onnx")) == macs


@pytest.mark.parametrize("u", [-0.1, 1.1, math.nan])
def test_static_export_refuses_a_throttle_outside_the_dial(resnet_d: Exported, u: float, tmp_path: Path) -> None:
    with pytest.raises(ThrottleRangeError, match=rf"throttle u must lie in \[0, 1\], got {u:g}"):
        export_static(resnet_d.run, u, tmp_path / "static.onnx")


# --- the bundle


def test_bundle_is_sound(exported: Exported) -> None:
    bundle = open_bundle(exported.bundle)  # checks every hash
    check_structure(bundle)
    written = {path.relative_to(exported.bundle).as_posix() for path in exported.bundle.rglob("*") if path.is_file()}
    assert written == set(bundle.manifest.files) | {"manifest.json"}


def test_measured_accuracy_is_the_runtimes(loaded: Engine, exported: Exported) -> None:
    _, held_out = colours(256).hold_out(exported.recipe.data.held_out)
    x = normalised(held_out.images, exported.recipe.data.mean, exported.recipe.data.std).numpy()
    for point in loaded.points:
        logits = np.concatenate([loaded.run(image[None], point.u).logits for image in x])
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        confidence = (likely.max(axis=1) / likely.sum(axis=1)).mean()
        assert point.accuracy == (logits.argmax(axis=1) == held_out.targets.numpy()).mean()
        assert point.confidence == pytest.approx(float(confidence), rel=1e-4)


def test_bundle_names_no_path_of_this_machine(exported: Exported) -> None:
    here = [str(Path(__file__).parents[2]).encode(), b"site-packages", str(exported.run.parent).encode()]
    for path in exported.bundle.rglob("*"):
        if path.is_file():
            assert not [place for place in here if place in path.read_bytes()], path.name


def test_model_card_reproduces_the_run(exported: Exported) -> None:
    card = (exported.bundle / "README.md").read_text()
    recipe = exported.recipe
    assert f"python -m train.classifier --recipe train/recipes/{recipe.name}.toml --data DIR --out RUN" in card
    assert "python -m export RUN --out BUNDLE --data DIR" in card
    assert f"Recipe (seed {recipe.seed})" in card
    shown = json.loads(card.partition("```json\n")[2].partition("```")[0])
    assert shown == recipe.model_dump(mode="json")
    assert "## Licence\n\nApache-2.0" in card
    for point in open_bundle(exported.bundle).manifest.operating_points:
        assert f"| {point.u:.4f} | {len(point.blocks_on)} | {point.utilisation:.3f} |" in card


# --- all or nothing


def interrupt_export(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The export fails when it has written half a file."""

    def interrupted(network: object, size: int, folder: Path) -> Any:
        (folder / "blocks").mkdir()
        (folder / "blocks" / "weights.bin").write_bytes(b"half")
        raise error

    monkeypatch.setattr("export.bundle.export_blocks", interrupted)


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt("stop")], ids=["error", "Ctrl-C"])
def test_interrupted_export_leaves_nothing(
    resnet_d: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    interrupt_export(monkeypatch, error)
    with pytest.raises(type(error), match="stop"):
        export_bundle(resnet_d.run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_export_leaves_the_old_bundle(
    resnet_d: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(resnet_d.bundle, tmp_path / "bundle")
    interrupt_export(monkeypatch, KeyboardInterrupt("stop"))
    with pytest.raises(KeyboardInterrupt, match="stop"):
        export_bundle(resnet_d.run, tmp_path / "bundle", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    open_bundle(tmp_path / "bundle")


def test_interrupted_static_export_leaves_nothing(
    resnet_d: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: object, path: str, **settings: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr("torch.onnx.ONNXProgram.save", half)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        export_static(resnet_d.run, 0.0, tmp_path / "static.onnx")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten_unasked(resnet_d: Exported) -> None:
    before = (resnet_d.bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="bundle exists; choose another --out, or pass --overwrite to replace it"):
        export_bundle(resnet_d.run, resnet_d.bundle)
    assert (resnet_d.bundle / "manifest.json").read_bytes() == before


def test_overwriting_replaces_the_whole_folder(resnet_d: Exported, tmp_path: Path) -> None:
    shutil.copytree(resnet_d.bundle, tmp_path / "bundle")
    with finished_folder(tmp_path / "bundle", overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_overwriting_takes_no_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with (
        pytest.raises(BundleError, match=r"letters is no bundle .*, so it is not replaced; choose another --out"),
        finished_folder(tmp_path / "letters", overwrite=True),
    ):
        pass
    with (
        pytest.raises(BundleError, match=r"a\.txt is no folder, so it is not replaced"),
        finished_folder(tmp_path / "letters" / "a.txt", overwrite=True),
    ):
        pass
    assert (tmp_path / "letters" / "a.txt").read_text() == "dear"


def test_overwriting_loses_nothing_that_somebody_put_into_a_bundle(resnet_d: Exported, tmp_path: Path) -> None:
    shutil.copytree(resnet_d.bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "blocks" / "notes.txt").write_text("mine")
    with (
        pytest.raises(
            BundleError, match=r"bundle holds blocks/notes\.txt, which is no part of its bundle; move it away"
        ),
        finished_folder(tmp_path / "bundle", overwrite=True),
    ):
        pass
    assert (tmp_path / "bundle" / "blocks" / "notes.txt").read_text() == "mine"


def test_new_bundle_that_cannot_take_its_place_leaves_the_old_one(
    resnet_d: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(resnet_d.bundle, tmp_path / "bundle")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt("stop")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stop"), finished_folder(tmp_path / "bundle", overwrite=True) as new:
        (new / "manifest.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    open_bundle(tmp_path / "bundle")


def test_run_without_checkpoint_says_how_to_get_one(resnet_d: Exported, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(resnet_d.run / "run.json", tmp_path / "run")
    with pytest.raises(RunError, match=r"holds no checkpoint yet .*; train\.classifier --resume makes one"):
        export_bundle(tmp_path / "run", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
