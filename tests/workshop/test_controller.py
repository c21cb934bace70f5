"""Learned gates: what a controller answers, how its answers are gathered into a codebook, what a run keeps of it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tnn_edge.errors import RunError, ThrottleRangeError
from tnn_edge.nn import GateSchedule, utilisation
from tnn_edge.nn.codebook import MAX_CODES, Codebook, build_codebook
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import CONTROLLERS, BlindController, ContextualController, Controller, pooled
from tnn_edge.nn.gate_file import GATE_FILE, GateFile, load_gates, read_gate, write_gate
from tnn_edge.nn.learned_gates import GateNetwork, LearnedGates
from train.gate_start import random_opening, start

SIZES = {"a": 3, "b": 1, "c": 2}
FREE = Components(sizes=SIZES, least=dict.fromkeys(SIZES, 0))
BOUND = Components(sizes=SIZES, least={"a": 1, "b": 1, "c": 0})
LOGITS = st.lists(st.floats(-5.0, 5.0), min_size=6, max_size=6)


def randomised(controller: Controller, seed: int = 0) -> Controller:
    generator = torch.Generator().manual_seed(seed)
    for parameter in controller.parameters():
        parameter.data.normal_(0.0, 1.0, generator=generator)
    return controller.eval()


# --- components


def test_components_stand_in_the_order_of_the_schedule() -> None:
    components = Components.of(GateSchedule.widthwise({"b": 2, "a": 1}, at_least={"b": 1}))
    assert components.row({"a": [30.0], "b": [10.0, 20.0]}).tolist() == [10.0, 20.0, 30.0]
    assert components.vector(torch.tensor([1.0, 0.0, 1.0])) == {"b": (1, 0), "a": (1,)}
    assert (components.least, len(components)) == ({"b": 1, "a": 0}, 3)


@given(rows=st.lists(LOGITS, min_size=1, max_size=4))
def test_split_rows_stand_side_by_side_again(rows: list[list[float]]) -> None:
    x = torch.tensor(rows)
    parts = FREE.split(x)
    assert {name: part.shape[1] for name, part in parts.items()} == SIZES
    assert torch.equal(torch.cat(list(parts.values()), dim=1), x)


@given(logits=LOGITS)
def test_thresholded_gates_are_the_most_probable_vector_that_is_allowed(logits: list[float]) -> None:
    x = np.array(logits)
    allowed = [g for g in product([0, 1], repeat=6) if sum(g[:3]) >= 1 and g[3] >= 1]
    best = max(float(np.dot(g, x)) for g in allowed)
    gates = BOUND.thresholded(torch.tensor([logits], dtype=torch.float64))[0]
    assert tuple(gates.int().tolist()) in allowed
    assert float(gates @ torch.tensor(logits, dtype=torch.float64)) == pytest.approx(best, abs=1e-6)


def test_keeping_components_on_leaves_the_others_and_their_gradient_alone() -> None:
    gates = torch.full((1, 6), 0.3, requires_grad=True)
    logits = torch.tensor([[-1.0, 2.0, -1.0, -9.0, 0.0, 0.0]])
    kept = BOUND.keep_on(gates, logits)
    assert kept[0].tolist() == pytest.approx([0.3, 1.0, 0.3, 1.0, 0.3, 0.3])
    kept.sum().backward()
    assert gates.grad is not None
    assert gates.grad[0].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]


# --- controllers


def test_blind_controller_is_two_layers_of_32_hidden_units() -> None:
    controller = randomised(BlindController(6))
    weights = {name: p.detach().double().numpy() for name, p in controller.named_parameters()}
    u = np.array([0.0, 0.3, 1.0])
    hidden = np.maximum(0.0, u[:, None] @ weights["from_u.weight"].T + weights["from_u.bias"])
    expected = hidden @ weights["output.weight"].T + weights["output.bias"]
    assert hidden.shape == (3, 32)
    found = controller(torch.from_numpy(u).float()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_contextual_controller_sees_the_mean_of_each_window_and_nothing_finer() -> None:
    controller = randomised(ContextualController(6))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    coarse = x.reshape(2, 3, 8, 4, 8, 4).mean(dim=(3, 5)).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    u = torch.tensor([0.5, 0.5])
    found = controller(u, x)
    torch.testing.assert_close(found, controller(u, coarse), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found, controller(u + 0.2, x))


@given(width=st.integers(8, 70))
@settings(deadline=None)
def test_windows_cover_an_image_of_any_size(width: int) -> None:
    rows = torch.arange(width).float().expand(1, 1, width, width)
    seen = pooled(rows)
    assert seen.shape == (1, 1, 8, 8)
    columns = seen[0, 0, 0]
    assert float(columns[0] + columns[-1]) == pytest.approx(width - 1)  # they begin and end where the image does
    spread = (columns[1:] - columns[:-1]).tolist()
    assert spread == pytest.approx([width // 8] * 7)


@pytest.mark.parametrize("kind", sorted(CONTROLLERS))
def test_start_opens_one_component_after_the_other_whatever_the_image(kind: str) -> None:
    controller = CONTROLLERS[kind](6)
    opening = torch.tensor([0.1, 0.5, 0.9, 0.2, 0.3, 1.0])
    controller.open_at(opening, 10.0)
    u = torch.linspace(0, 1, 11)
    images = torch.randn(11, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = 10.0 * (u[:, None] - opening)
    torch.testing.assert_close(controller(u, images).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(CONTROLLERS))
def test_start_can_learn_from_every_input(kind: str) -> None:
    controller = CONTROLLERS[kind](6)
    controller.open_at(torch.linspace(0.1, 0.9, 6), 10.0)
    images = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    controller(torch.linspace(0, 1, 32), images).square().sum().backward()
    assert {name: bool(p.grad is not None and p.grad.any()) for name, p in controller.named_parameters()} == {
        name: True for name, _ in controller.named_parameters()
    }


@given(costs=st.lists(st.floats(0.5, 2.0), min_size=20, max_size=20), seed=st.integers(0, 99), u=st.floats(0.0, 1.0))
def test_random_order_follows_the_dial_in_cost_and_in_each_module(costs: list[float], seed: int, u: float) -> None:
    components = Components(sizes={"a": 10, "b": 10}, least={"a": 0, "b": 0})
    opening = random_opening(components, torch.tensor(costs), torch.Generator().manual_seed(seed))
    is_on = (opening < u).float()
    share = utilisation(components.vector(is_on), {"a": costs[:10], "b": costs[10:]})
    assert share == pytest.approx(u, abs=max(costs) / sum(costs) / 2 + 1e-6)  # half a component
    a, b = (float(part.sum()) for part in components.split(is_on[None]).values())
    assert abs(a - b) <= 2


# --- codebook


def answers(n: int, n_components: int, seed: int = 0) -> Tensor:
    """Log-odds that follow u, differ by image, and by component."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.linspace(0, 1, n)[:, None]
    return 8 * (u - torch.rand(n_components, generator=generator)) + torch.randn(n, n_components, generator=generator)


def test_codebook_of_few_answers_is_those_answers() -> None:
    rows = torch.tensor([[2.0, -1.0, -1.0, 3.0, -1.0, -2.0], [2.0, 1.0, -1.0, 3.0, -1.0, -2.0]]).repeat(10, 1)
    u = torch.tensor([0.2, 0.8]).repeat(10)
    codebook = build_codebook(rows, u, FREE)
    assert codebook.codes.tolist() == [[1, 0, 0, 1, 0, 0], [1, 1, 0, 1, 0, 0]]
    assert codebook.shares.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("seed", range(3))
def test_codebook_is_a_fixed_point_of_its_clustering(seed: int) -> None:
    components = Components(sizes={"m": 12}, least={"m": 1})
    logits, u = answers(600, 12, seed), torch.linspace(0, 1, 600)
    codebook = build_codebook(logits, u, components)
    assert 2 <= len(codebook.codes) <= MAX_CODES
    assert len(torch.unique(codebook.codes, dim=0)) == len(codebook.codes)
    chosen = codebook.snapped(logits)
    for index, code in enumerate(codebook.codes):
        mine = logits[chosen == index]
        assert len(mine) / len(logits) == pytest.approx(float(codebook.shares[index]))
        # no vector is likelier for those that chose it than the code itself
        assert torch.equal(code, components.thresholded(mine.sum(dim=0, keepdim=True))[0])


def test_snapped_answer_has_the_largest_likelihood_of_all_codes() -> None:
    codebook = build_codebook(answers(400, 12), torch.linspace(0, 1, 400), Components(sizes={"m": 12}, least={"m": 0}))
    logits = answers(50, 12, seed=9)
    p = logits.sigmoid()
    for row, index in zip(p, codebook.snapped(logits).tolist(), strict=True):
        likelihood = [float(torch.where(code > 0, row, 1 - row).log().sum()) for code in codebook.codes]
        assert likelihood[index] == pytest.approx(max(likelihood), rel=1e-5)


def test_codes_lose_less_likelihood_than_the_commonest_vectors() -> None:
    components = Components(sizes={"m": 12}, least={"m": 0})
    logits = answers(2000, 12)
    codebook = build_codebook(logits, torch.linspace(0, 1, 2000), components)
    vectors, counts = torch.unique(components.thresholded(logits), dim=0, return_counts=True)
    commonest = vectors[counts.argsort(descending=True)[:MAX_CODES]]
    assert len(vectors) > 2 * MAX_CODES  # more than fit

    def lost(codes: Tensor) -> float:
        return float((logits.clamp(min=0).sum(dim=1) - (logits @ codes.T).max(dim=1).values).mean())

    assert lost(codebook.codes) < 0.95 * lost(commonest)


def test_turning_the_dial_gives_each_code_its_share_of_it() -> None:
    logits, u = answers(600, 12), torch.linspace(0, 1, 600)
    codebook = build_codebook(logits, u, Components(sizes={"m": 12}, least={"m": 0}))
    dial = codebook.dial
    assert dial[0] == 0.0
    assert all(low < high for low, high in pairwise([*dial, 1.0]))
    assert [high - low for low, high in pairwise([*dial, 1.0])] == pytest.approx(codebook.shares.tolist(), abs=1e-6)
    chosen = codebook.snapped(logits)
    means = [float(u[chosen == index].mean()) for index in range(len(dial))]
    assert means == sorted(means)


# --- learned gates as a schedule


def blind(components: Components = FREE, seed: int = 0) -> LearnedGates:
    controller = BlindController(len(components))
    start(controller, components, torch.ones(len(components)), seed)
    return LearnedGates(components=components, controller=controller)


def contextual(components: Components = FREE) -> LearnedGates:
    controller = randomised(ContextualController(len(components)))
    x = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    u = torch.linspace(0, 1, 40)
    with torch.no_grad():
        codebook = build_codebook(controller(u, x), u, components)
    return LearnedGates(components=components, controller=controller, codebook=codebook)


@given(u=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_blind_gates_are_on_where_the_controller_says_more_than_half(u: list[float]) -> None:
    gates = blind()
    setting = torch.tensor(u, dtype=torch.float64)
    p = gates.controller(setting.float()).sigmoid()
    masks = gates.masks(setting)
    assert torch.equal(torch.cat(list(masks.values()), dim=1), (p > 0.5).float())
    assert gates.vector(u[0]) == {name: tuple(map(int, mask[0])) for name, mask in masks.items()}


@pytest.mark.parametrize("n_points", [None, 2, 5])
def test_points_of_blind_gates_are_settings_of_the_dial_and_neighbours_differ(n_points: int | None) -> None:
    gates = blind()
    points = gates.operating_points(n_points=n_points)
    settings_of_dial = [i / ((n_points or 17) - 1) for i in range(n_points or 17)]
    assert points[0][0] == 0.0
    assert [u for u, _ in points] == sorted({u for u, _ in points} & set(settings_of_dial))
    for u in settings_of_dial:
        assert gates.vector(u) == next(vector for lowest, vector in reversed(points) if lowest <= u)
    assert all(before != after for (_, before), (_, after) in pairwise(points))


def test_points_of_contextual_gates_are_the_codes() -> None:
    gates = contextual()
    assert gates.codebook is not None
    points = gates.operating_points(n_points=2)
    assert [u for u, _ in points] == gates.codebook.dial
    rows = [[bit for bits in vector.values() for bit in bits] for _, vector in points]
    assert rows == gates.codebook.codes.int().tolist()
    for index, (u, vector) in enumerate(points):
        assert gates.vector(u) == vector
        below = gates.vector(math.nextafter(u, 0.0))
        assert below == points[max(0, index - 1)][1]


def test_contextual_gates_of_an_image_are_the_code_that_it_chose() -> None:
    gates = contextual()
    assert gates.codebook is not None
    x = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    u = torch.full((20,), 0.5)
    rows = torch.cat(list(gates.masks(u, images=x).values()), dim=1)
    assert torch.equal(rows, gates.codebook.codes[gates.choose(u, x)])
    assert len(torch.unique(rows, dim=0)) > 1  # images differ
    with torch.no_grad():
        logits = gates.controller(u, x)
    assert torch.equal(gates.choose(u, x), (logits @ gates.codebook.codes.T).argmax(dim=1))


@pytest.mark.parametrize("make", [blind, contextual])
@pytest.mark.parametrize("u", [-0.1, math.nan])
def test_setting_outside_the_dial_is_refused(make: Callable[..., LearnedGates], u: float) -> None:
    with pytest.raises(ThrottleRangeError, match=rf"throttle u must lie in \[0, 1\], got {u:g}"):
        make().vector(u)


@pytest.mark.parametrize("make", [blind, contextual])
def test_what_must_be_on_is_on_at_every_point(make: Callable[..., LearnedGates]) -> None:
    gates = make(BOUND)
    assert [gates.always_on(name) for name in SIZES] == [1, 1, 0]
    for _, vector in gates.operating_points():
        assert sum(vector["a"]) >= 1
        assert vector["b"] == (1,)


def test_controller_and_codebook_must_fit() -> None:
    codebook = Codebook(codes=torch.ones(1, 6), shares=torch.ones(1))
    with pytest.raises(ValueError, match="5 outputs do not decide on 6 components"):
        LearnedGates(components=FREE, controller=BlindController(5))
    with pytest.raises(ValueError, match="a controller that reads images needs a codebook, and no other has one"):
        LearnedGates(components=FREE, controller=ContextualController(6))
    with pytest.raises(ValueError, match="a controller that reads images needs a codebook, and no other has one"):
        LearnedGates(components=FREE, controller=BlindController(6), codebook=codebook)


def test_gate_network_runs_in_onnx_and_chooses_the_same_codes(tmp_path: Path) -> None:
    gates = contextual()
    assert gates.codebook is not None
    network = GateNetwork(gates.controller, gates.codebook).eval()
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    u = torch.linspace(0, 1, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside torch.export on its own code
        program = torch.onnx.export(
            network, (x[:1], u[:1]), dynamo=True, opset_version=18, input_names=["x", "u"], output_names=["scores"],
            verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(tmp_path / "gate.onnx"))
    assert {node.op_type for node in program.model.graph} <= {"AveragePool", "Reshape", "Gemm", "MatMul", "Add", "Relu"}
    session = onnxruntime.InferenceSession(str(tmp_path / "gate.onnx"), providers=["CPUExecutionProvider"])
    scores = [session.run(None, {"x": x[i : i + 1].numpy(), "u": u[i : i + 1].numpy()})[0] for i in range(8)]
    np.testing.assert_allclose(np.concatenate(scores), network(x, u).detach().numpy(), rtol=1e-4, atol=1e-3)
    assert np.concatenate(scores).argmax(axis=1).tolist() == gates.choose(u, x).tolist()


# --- the file


def gate_file(gates: LearnedGates, *, codebook: bool = True) -> GateFile:
    return GateFile(
        components=gates.components,
        controller=gates.controller,
        codebook=gates.codebook if codebook else None,
        settings={"epochs": 3},
        progress={"epochs": 1},
        training={"generator": torch.Generator().get_state()},
    )


@pytest.mark.parametrize("make", [blind, contextual])
def test_stored_gates_are_the_same_gates(tmp_path: Path, make: Callable[..., LearnedGates]) -> None:
    gates = make(BOUND)
    write_gate(tmp_path, gate_file(gates))
    loaded = load_gates(tmp_path, BOUND)
    assert loaded is not None
    assert loaded.operating_points() == gates.operating_points()
    assert list(loaded.sizes) == list(gates.sizes)
    read = read_gate(tmp_path)
    assert read is not None
    assert (read.kind, read.settings, read.progress) == (make.__name__, {"epochs": 3}, {"epochs": 1})
    assert torch.equal(read.training["generator"], torch.Generator().get_state())
    assert [path.name for path in tmp_path.iterdir()] == [GATE_FILE]


def test_run_without_learned_gates_has_none(tmp_path: Path) -> None:
    assert read_gate(tmp_path) is None
    assert load_gates(tmp_path, FREE) is None


def test_gates_of_another_network_are_refused(tmp_path: Path) -> None:
    write_gate(tmp_path, gate_file(blind()))
    other = Components(sizes={"a": 3, "b": 2}, least={"a": 0, "b": 0})
    with pytest.raises(RunError, match=r"decides on 6 components of 3 modules, the network has 5 of 2; train a gate"):
        load_gates(tmp_path, other)


def test_contextual_gates_whose_training_is_not_over_are_refused(tmp_path: Path) -> None:
    write_gate(tmp_path, gate_file(contextual(), codebook=False))
    with pytest.raises(RunError, match=r"the gate has no codebook yet; finish its training \(train.gate --resume\)"):
        load_gates(tmp_path, FREE)


def test_damaged_gate_is_refused(tmp_path: Path) -> None:
    write_gate(tmp_path, gate_file(blind()))
    path = tmp_path / GATE_FILE
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # which the file backs no longer
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"gate.safetensors: damaged \(.*\); train the gate again with train.gate"):
        read_gate(tmp_path)
    record = {
        "format": 1,
        "controller": "blind",
        "hidden": 8,
        "components": [["a", 6, 0]],
        "settings": {},
        "progress": {},
    }
    save_file(tensors, path, metadata={"gate": json.dumps(record)})  # 8 hidden units, tensors of 32
    with pytest.raises(RunError, match=r"gate.safetensors: damaged \((?s:.*)size mismatch"):
        read_gate(tmp_path)
    codes = {"codebook.codes": torch.zeros(0, 6), "codebook.shares": torch.zeros(0)}
    save_file({**tensors, **codes}, path, metadata={"gate": json.dumps({**record, "hidden": 32})})
    with pytest.raises(RunError, match=r"codes of shape \[0, 6\] for 6 components"):
        read_gate(tmp_path)
    codes = {"codebook.codes": torch.full((1, 6), 0.5), "codebook.shares": torch.ones(1)}
    save_file({**tensors, **codes}, path, metadata={"gate": json.dumps({**record, "hidden": 32})})
    with pytest.raises(RunError, match="codes are 0 or 1, their shares above 0"):
        read_gate(tmp_path)
    save_file(tensors, path, metadata={"gate": json.dumps({**record, "format": 9})})
    with pytest.raises(RunError, match="format 9, this version reads format 1"):
        read_gate(tmp_path)
