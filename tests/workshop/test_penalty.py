"""What a gate vector costs, and where the weights of the components come from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.errors import RunError
from tnn_edge.nn import build_network, utilisation
from tnn_edge.nn.components import Components
from train.cost_weights import cost_weights
from train.penalty import Penalty, soft_utilisation

SHARE = st.floats(0.0, 1.0)
SIZES = {"channels": [8, 16], "blocks": [1, 1], "component_channels": [2, 3], "n_components": 4}


@given(c=SHARE, u=SHARE, lambda_=st.floats(0.0, 100.0), power=st.sampled_from([1, 2]))
def test_penalties_are_equations_5_and_6(c: float, u: float, lambda_: float, power: Any) -> None:
    at = torch.tensor([c], dtype=torch.float64), torch.tensor([u], dtype=torch.float64)
    dist = Penalty(kind="dist", power=power, lambda_=lambda_)(*at)
    hinge = Penalty(kind="hinge", power=power, lambda_=lambda_)(*at)
    assert float(dist) == pytest.approx(lambda_ * abs(c - u) ** power)
    assert float(hinge) == pytest.approx(lambda_ * max(0.0, c - u) ** power)


@pytest.mark.parametrize(
    ("kind", "power", "c", "slope"),
    [
        ("dist", 1, 0.7, 10.0), ("dist", 1, 0.1, -10.0),
        ("dist", 2, 0.7, 2 * 10 * 0.3), ("dist", 2, 0.1, -2 * 10 * 0.3),
        ("hinge", 1, 0.7, 10.0), ("hinge", 1, 0.1, 0.0), ("hinge", 2, 0.7, 2 * 10 * 0.3), ("hinge", 2, 0.1, 0.0),
    ],
)  # fmt: skip
def test_slope_of_a_penalty_in_the_utilisation(kind: Any, power: Any, c: float, slope: float) -> None:
    at = torch.tensor([c], requires_grad=True)
    Penalty(kind=kind, power=power)(at, torch.tensor([0.4])).sum().backward()
    assert at.grad is not None
    assert float(at.grad) == pytest.approx(slope, rel=1e-5)


@given(
    gates=st.lists(st.integers(0, 1), min_size=5, max_size=5),
    weights=st.lists(st.floats(0.1, 1e6), min_size=5, max_size=5),
)
def test_utilisation_of_hard_gates_is_that_of_the_network(gates: list[int], weights: list[float]) -> None:
    components = Components(sizes={"a": 2, "b": 3}, least={"a": 0, "b": 0})
    expected = utilisation(components.vector(torch.tensor(gates)), {"a": weights[:2], "b": weights[2:]})
    row = components.row({"a": weights[:2], "b": weights[2:]})
    assert float(soft_utilisation(torch.tensor([gates]).float(), row)) == pytest.approx(expected, rel=1e-5)


def test_slope_of_the_utilisation_is_the_share_of_the_cost() -> None:
    gates = torch.tensor([[0.2, 0.9, 0.0]], requires_grad=True)
    weights = torch.tensor([1.0, 4.0, 5.0])
    soft_utilisation(gates, weights).sum().backward()
    assert gates.grad is not None
    assert gates.grad[0].tolist() == pytest.approx([0.1, 0.4, 0.5])


@pytest.mark.parametrize("lambda_", [-1.0, math.nan, math.inf])
def test_weight_of_the_penalty_is_finite_and_not_negative(lambda_: float) -> None:
    with pytest.raises(RunError, match=rf"lambda must be a finite weight of at least 0, got {lambda_:g}$"):
        Penalty(lambda_=lambda_)


def test_other_penalties_are_refused() -> None:
    with pytest.raises(RunError, match="penalty must be 'dist' or 'hinge', got 'square'"):
        Penalty(kind="square")  # type: ignore[arg-type]  # what a caller could pass
    with pytest.raises(RunError, match="power of the penalty must be 1 or 2, got 3"):
        Penalty(power=3)  # type: ignore[arg-type]  # likewise


# --- where the weights come from


def test_weights_are_uniform_or_multiply_adds() -> None:
    network = build_network("resnext_w", SIZES)
    assert cost_weights("uniform", network, 16) == {"stage1_block1": (1.0,) * 4, "stage2_block1": (1.0,) * 4}
    assert cost_weights("macs", network, 16) == network.component_costs(16)


def test_weights_are_read_in_the_order_of_the_network(tmp_path: Path) -> None:
    network = build_network("resnext_w", SIZES)
    path = tmp_path / "costs.json"
    path.write_text('{"stage2_block1": [5, 6, 7, 8.5], "stage1_block1": [1, 2, 3, 0]}')
    costs = cost_weights(str(path), network, 16)
    assert Components.of(network.schedule).row(costs).tolist() == [1.0, 2.0, 3.0, 0.0, 5.0, 6.0, 7.0, 8.5]


GOOD = [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"costs.json: not valid JSON \(.*\); measure it on the device with tnn-edge bundle costs"),
        ("[1, 2]", "costs.json: must be an object with a list of costs for each gate"),
        ({"stage1_block1": 1.0}, "costs.json: must be an object with a list of costs for each gate"),
        ({"stage1_block1": GOOD}, "0 costs for gate stage2_block1, the network has 4 components there"),
        ({"stage1_block1": GOOD, "stage2_block1": GOOD[:3]}, "3 costs for gate stage2_block1, the network has 4"),
        (
            {"stage1_block1": GOOD, "stage2_block1": GOOD, "fc": [1]},
            "1 costs for gate fc, the network has no such gate",
        ),
        ({"stage1_block1": GOOD, "stage2_block1": [1, 1, 1, -2]}, "gate stage2_block1 has cost -2, a cost is a finite"),
        ({"stage1_block1": GOOD, "stage2_block1": [1, 1, 1, "2"]}, "gate stage2_block1 has cost '2', a cost is"),
        ({"stage1_block1": GOOD, "stage2_block1": [1, 1, 1, math.nan]}, "gate stage2_block1 has cost nan, a cost is"),
        ({"stage1_block1": [0] * 4, "stage2_block1": [0] * 4}, "costs.json: every cost is 0"),
    ],
)
def test_file_of_costs_that_does_not_fit_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(RunError, match=message):
        cost_weights(str(path), build_network("resnext_w", SIZES), 16)


def test_file_of_costs_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = r"--costs takes uniform, macs or a JSON file; cannot read .*latency \(No such file or directory\)"
    with pytest.raises(RunError, match=message):
        cost_weights(str(tmp_path / "latency"), build_network("resnext_w", SIZES), 16)
