"""What components cost on this machine: the formula, and a file that names every component."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tnn_edge.bundle import GateSpec, open_bundle
from tnn_edge.cli.main import app
from tnn_edge.runtime.measuring.component_costs import component_costs, share_out

GATE = GateSpec(name="g", weights=(1.0, 2.0, 5.0))


def test_a_blocks_time_is_shared_out_as_the_macs_of_its_components_are() -> None:
    assert share_out(GATE, 10.0, 2.0, "000") == pytest.approx([1.0, 2.0, 5.0])


def test_where_the_first_component_cannot_be_left_out_the_others_say_what_it_costs() -> None:
    assert share_out(GATE, 10.0, 3.0, "100") == pytest.approx([1.0, 2.0, 5.0])


def test_noise_makes_no_component_cost_nothing() -> None:
    assert sum(share_out(GATE, 10.0, 10.5, "000")) == pytest.approx(0.01 * 10.0)


def test_every_component_of_every_gate_costs_time(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    costs = component_costs(bundle, rounds=3)
    assert {name: len(each) for name, each in costs.items()} == {g.name: len(g.weights) for g in bundle.manifest.gates}
    assert all(ms > 0 for each in costs.values() for ms in each)


def test_the_command_writes_what_train_gate_reads(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    command = ["bundle", "costs", str(tiny_bundle), "--device", "cpu", "--rounds", "2", "--out", str(out)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    costs = json.loads(out.read_text())
    gates = open_bundle(tiny_bundle).manifest.gates
    assert {name: len(each) for name, each in costs.items()} == {gate.name: len(gate.weights) for gate in gates}
    assert all(gate.name in done.stdout for gate in gates)


def test_a_folder_that_is_not_there_is_named_before_anything_is_timed(tiny_bundle: Path, tmp_path: Path) -> None:
    command = ["bundle", "costs", str(tiny_bundle), "--rounds", "1000000", "--out", str(tmp_path / "no" / "c.json")]
    with pytest.raises(Exception, match=r"folder .*/no does not exist; make it first"):
        CliRunner().invoke(app, command, catch_exceptions=False)
