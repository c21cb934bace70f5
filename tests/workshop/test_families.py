"""From every network and every kind of gate to a bundle that proves itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tnn_edge
from export.bundle import export_bundle
from export.static import export_static
from tests.workshop.conftest import colours, small_recipe
from tests.workshop.test_networks import SIZES
from tnn_edge.errors import RunError
from tnn_edge.nn import ThrottleableNetwork
from tnn_edge.nn.checkpoint import load_network, operating_points, read_run
from tnn_edge.nn.codebook import build_codebook
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import CONTROLLERS
from tnn_edge.nn.dataset import normalised
from tnn_edge.nn.gate_file import GateFile, write_gate
from tnn_edge.nn.gating import utilisation
from tnn_edge.nn.learned_gates import LearnedGates
from tnn_edge.runtime.measuring.benchmark import benchmark
from tnn_edge.runtime.verify import verify
from train.curve import throttle_curve
from train.recipe import Recipe
from train.untrained import write_untrained

IMAGE_SIZE = 8
NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    **SIZES,
    "small densenet": ("densenet", {"layers": [1, 2], "growth": 4}),
}
GATES = ("nested", "independent", "blind", "contextual", "paper_dn")


def recipe_of(name: str, order: str) -> Recipe:
    architecture, sizes = NETWORKS[name]
    if name == "resnet_d":
        sizes = {"channels": [8, 12], "blocks": [1, 1]}  # every block takes a second to export
    fields = small_recipe("resnet_d", draw="per_example", statistics="shared").model_dump()
    fields["name"] = f"{name}_{order}"
    fields["network"] = {"architecture": architecture, "sizes": {**sizes, "n_classes": 4, "order": order}}
    fields["data"] |= {"image_size": IMAGE_SIZE}
    return Recipe.model_validate(fields)


def learn_gate(run: Path, network: ThrottleableNetwork, kind: str) -> None:
    """Give a run a controller of random weights, which asks for other vectors at other u and of other images."""
    torch.manual_seed(1)
    components = Components.of(network.schedule)
    controller = CONTROLLERS[kind](len(components)).eval()
    controller.open_at(torch.rand(len(components)), steepness=6.0)
    codebook = None
    if controller.reads_images:
        images = normalised(colours(64, size=IMAGE_SIZE).images, (0.4,) * 3, (0.25,) * 3)
        controller.get_parameter("from_image.weight").data.normal_(std=0.05)
        with torch.no_grad():
            u = torch.rand(len(images))
            logits = controller(u, images)
        codebook = build_codebook(logits, u, components)
    gate = GateFile(
        components=components, controller=controller, codebook=codebook, settings={}, progress={}, training={}
    )
    write_gate(run, gate)


def bundle_of(name: str, gate: str, folder: Path) -> tuple[Path, Path]:
    """A run of random weights, and its bundle."""
    run, bundle = folder / "run", folder / "bundle"
    write_untrained(recipe_of(name, "nested" if gate in CONTROLLERS else gate), run, colours(64, size=IMAGE_SIZE))
    if gate in CONTROLLERS:
        learn_gate(run, load_network(run), gate)
    export_bundle(run, bundle)
    return run, bundle


CASES = [
    pytest.param("small densenet", "nested", id="small densenet-nested"),
    *(
        pytest.param(name, gate, marks=pytest.mark.slow, id=f"{name}-{gate}")
        for name in SIZES
        for gate in GATES
        if gate != "paper_dn" or name.startswith("resnet_d")
    ),
]


@pytest.mark.parametrize(("name", "gate"), CASES)
def test_the_bundle_of_every_network_and_gate_proves_itself(name: str, gate: str, tmp_path: Path) -> None:
    run, bundle = bundle_of(name, gate, tmp_path)
    with tnn_edge.load(bundle, device="cpu", cache=tmp_path / "cache") as engine:
        checked = verify(engine)
        assert checked.faults == ()
        assert len(engine.points) > 1
        assert (engine.gate_network is not None) == (gate == "contextual")
        if gate == "nested":
            half = engine.points[len(engine.points) // 2].u
            export_static(run, half, tmp_path / "half.onnx")
            timed = benchmark(
                engine, static={half: tmp_path / "half.onnx"}, chained=True, rounds=2
            )  # checks its answer
            assert timed.points[0].against_static is not None


@pytest.mark.slow
@pytest.mark.parametrize("order", ["nested", "independent"])
@pytest.mark.parametrize("name", SIZES)
def test_points_with_statistics_of_their_own_prove_themselves(name: str, order: str, tmp_path: Path) -> None:
    fields = recipe_of(name, order).model_dump()
    fields["throttle"] |= {"statistics": "per_point", "statistics_images": 64}
    write_untrained(Recipe.model_validate(fields), tmp_path / "run", colours(64, size=IMAGE_SIZE))
    export_bundle(tmp_path / "run", tmp_path / "bundle")
    with tnn_edge.load(tmp_path / "bundle", device="cpu", cache=tmp_path / "cache") as engine:
        assert verify(engine).faults == ()
        own = [point.statistics for point in engine.points]
        assert (own == [*range(len(own) - 1), None]) == (name != "vgg without norm")


def test_a_learned_gate_has_the_vectors_that_its_controller_asks_for(tmp_path: Path) -> None:
    run, bundle = bundle_of("resnet_d", "blind", tmp_path)
    network = load_network(run)
    assert isinstance(network.schedule, LearnedGates)
    manifest = tnn_edge.bundle.open_bundle(bundle).manifest
    asked = [{name: "".join(map(str, bits)) for name, bits in gates.items()} for _, gates in _points(run, network)]
    assert [dict(point.gates) for point in manifest.operating_points] == asked
    for point in manifest.operating_points:
        assert network.schedule.vector(point.u) == {n: tuple(map(int, bits)) for n, bits in point.gates.items()}


def _points(run: Path, network: ThrottleableNetwork) -> list[tuple[float, Any]]:
    return operating_points(read_run(run), network)


@pytest.mark.usefixtures("builds_in_this_process")
def test_the_engine_runs_the_point_that_the_pytorch_gate_chooses(tmp_path: Path) -> None:
    run, bundle = bundle_of("resnet_d", "contextual", tmp_path)
    schedule = load_network(run).schedule
    assert isinstance(schedule, LearnedGates)
    images = normalised(colours(40, seed=5, size=IMAGE_SIZE).images, (0.4,) * 3, (0.25,) * 3)
    chosen: set[int] = set()
    with tnn_edge.load(bundle, device="cpu", cache=tmp_path / "cache") as engine:
        for u in (0.1, 0.5, 0.9):
            expected = schedule.choose(torch.full((len(images),), u), images).tolist()
            results = [engine.run(x[None], u) for x in images.numpy()]
            assert [engine.points.index(result.point) for result in results] == expected
            assert all(result.macs == result.point.macs + result.gate_macs > result.point.macs for result in results)
            by_point = [engine.run_point(x[None], r.point) for x, r in zip(images.numpy(), results, strict=True)]
            np.testing.assert_array_equal([r.logits for r in results], [r.logits for r in by_point])
            chosen |= set(expected)
    assert len(chosen) > 2  # images and u have a say


def test_the_curve_of_a_contextual_gate_is_that_of_the_network_masked_by_it(tmp_path: Path) -> None:
    run, data = tmp_path / "run", colours(48, seed=7, size=IMAGE_SIZE)
    write_untrained(recipe_of("resnet_d", "nested"), run, data)
    learn_gate(run, load_network(run), "contextual")
    network = load_network(run)
    assert isinstance(network.schedule, LearnedGates)
    images = normalised(data.images, (0.4,) * 3, (0.25,) * 3)
    costs = network.component_costs(IMAGE_SIZE)
    curve = throttle_curve(run, data)["points"]
    for point in curve:
        masks = network.schedule.masks(torch.full((len(data),), point["u"]), images=images)
        with torch.no_grad():
            answers = network(images, masks).argmax(dim=1)
        assert point["accuracy"] == float((answers == data.targets).double().mean())
        vectors = [{name: tuple(mask[i].int().tolist()) for name, mask in masks.items()} for i in range(len(data))]
        assert point["utilisation"] == pytest.approx(np.mean([utilisation(gates, costs) for gates in vectors]))
        assert point["macs"] == pytest.approx(np.mean([network.macs(gates, IMAGE_SIZE) for gates in vectors]))
    assert len({point["utilisation"] for point in curve}) > 3


def test_a_gate_of_another_network_is_refused(tmp_path: Path) -> None:
    write_untrained(recipe_of("resnet_d", "nested"), tmp_path / "a", colours(64))
    write_untrained(recipe_of("vgg", "nested"), tmp_path / "b", colours(64))
    learn_gate(tmp_path / "b", load_network(tmp_path / "b"), "blind")
    (tmp_path / "b" / "gate.safetensors").rename(tmp_path / "a" / "gate.safetensors")
    with pytest.raises(
        RunError, match=r"gate\.safetensors decides on 16 components of 4 modules, the network has 2 of 2"
    ):
        load_network(tmp_path / "a")


def with_docs_example(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Mapping[str, Any]:
    """Put the network of the documentation where networks lie."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    (_, code) = text.split("```python\n")
    (folder / "pointwise.py").write_text(code.partition("```")[0])
    from tnn_edge.nn import networks, registry

    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(folder)])
    monkeypatch.setattr(registry, "ARCHITECTURES", (*registry.ARCHITECTURES, "pointwise"))
    return {"channels": 8, "blocks": 2, "n_components": 4}


@pytest.mark.usefixtures("builds_in_this_process")
def test_the_network_of_the_documentation_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = with_docs_example(monkeypatch, tmp_path)
    monkeypatch.setitem(NETWORKS, "pointwise", ("pointwise", sizes))
    _, bundle = bundle_of("pointwise", "nested", tmp_path)
    with tnn_edge.load(bundle, device="cpu", cache=tmp_path / "cache") as engine:
        assert verify(engine).faults == ()
        assert len(engine.points) == 5
