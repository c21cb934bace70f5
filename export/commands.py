"""The commands that make a bundle again, with every setting that its result depends on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from tnn_edge.bundle import Manifest, QuantisationSpec
from tnn_edge.nn.checkpoint import RunDescription

__all__ = ["commands", "with_int8_command"]


def commands(manifest: Manifest, run: RunDescription) -> list[str]:
    """How a bundle without int8 was made, from its images on; a line for each program."""
    gate = run.training.get("gate")
    if gate is None:
        return [_classifier(run), _export(manifest, "RUN", "DIR")]
    data = "DIR" if gate["data"] == run.training.get("data") else "NEW"
    return [_classifier(run), _gate(gate, manifest, data), _export(manifest, "RUN2", data)]


def with_int8_command(text: str, spec: QuantisationSpec) -> str:
    """A text that holds the commands, with that of int8 after the export's."""

    def with_int8(export: re.Match[str]) -> str:
        int8 = _command(
            "export.int8", "BUNDLE", "--out", "BUNDLE8", "--data", "NEW" if "--data NEW" in export[0] else "DIR",
            "--calibration-images", spec.n_calibration, "--accuracy-images", spec.n_images,
        )  # fmt: skip
        return f"{export[0]}\n{int8}"

    text = re.sub(r"(?m)^python -m export\.int8 .*\n", "", text)
    return re.sub(r"(?m)^python -m export RUN.*$", with_int8, text, count=1)


def _command(program: str, *words: object) -> str:
    return f"python -m {program} {shlex.join(map(str, words))}"


def _classifier(run: RunDescription) -> str:
    training = run.training
    data = () if training.get("untrained") == "without images" else ("--data", "DIR")
    weights = ("--weights", training["weights"]) if "weights" in training else ()
    untrained = ("--untrained",) if "untrained" in training else ()
    recipe = f"train/recipes/{run.name}.toml"
    return _command("train.classifier", "--recipe", recipe, *data, "--out", "RUN", *weights, *untrained)


def _gate(gate: Mapping[str, Any], manifest: Manifest, data: str) -> str:
    penalty = gate["penalty"]
    costs = _costs(gate["costs"], manifest)
    command = _command(
        "train.gate", "RUN", "--data", data, "--out", "RUN2", "--method", gate["method"],
        "--controller", gate["controller"], "--penalty", penalty["kind"], "--power", penalty["power"],
        "--lambda", penalty["lambda_"], "--costs", costs, "--epochs", gate["epochs"],
        "--batch-size", gate["batch_size"], "--learning-rate", gate["learning_rate"], "--images", gate["images"],
        "--held-out", gate["held_out"], "--seed", gate["seed"],
    )  # fmt: skip
    notes = [] if gate["starts_anew"] else ["RUN had a learned gate, from which this one went on"]
    if costs == "COSTS.json":
        notes.append(f"{costs} is provenance.training.gate.costs of manifest.json")
    return "  # ".join([command, *(["; ".join(notes)] if notes else [])])


def _costs(costs: Mapping[str, Any], manifest: Manifest) -> str:
    """What ``--costs`` was: a choice where that gives the same, else a file."""
    if all(cost == 1.0 for row in costs.values() for cost in row):
        return "uniform"
    return "macs" if costs == {gate.name: list(gate.weights) for gate in manifest.gates} else "COSTS.json"


def _export(manifest: Manifest, run: str, data: str) -> str:
    measured: tuple[object, ...] = ()
    if manifest.operating_points[0].accuracy is not None:
        n_light = 0 if manifest.light is None else manifest.light.n_images
        measured = ("--data", data, "--light-images", n_light)
    return _command("export", run, "--out", "BUNDLE", *measured, "--licence", manifest.licence)
