"""The model card of a bundle."""

from __future__ import annotations

import json

from export.commands import commands, with_int8_command
from tnn_edge.bundle import LightTable, Manifest, QuantisationSpec
from tnn_edge.nn.checkpoint import RunDescription

__all__ = ["LIGHT_PICTURE", "model_card", "with_quantisation"]

LIGHT_PICTURE = "light.png"
"""File of the bundle."""

_MEASURED = (
    "Accuracy and confidence on held-out training images, with PyTorch; MACs of the sliced network (one multiply-add "
    "is one MAC; bias, normalisation and activation not counted)."
)
_MAKING = "## How it was made"
_INT8 = "## In 8-bit integers"
_POINT = 0.01


def model_card(manifest: Manifest, run: RunDescription) -> str:
    """Markdown: what the network is, how it was made, what it does at each operating point."""
    training = dict(run.training)
    training.pop("gate", None)
    rows = [
        f"| {p.u:.4f} | {len(p.blocks_on)} | {p.utilisation:.3f} | {p.macs / 1e6:.2f} | "
        + (f"{p.accuracy:.4f} | {p.confidence:.4f} |" if p.accuracy is not None else "- | - |")
        for p in manifest.operating_points
    ]
    facts = [f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in training.items()]
    return "\n".join(
        [
            f"# {manifest.name}",
            "",
            _summary(manifest, run),
            "",
            "## Operating points",
            "",
            _MEASURED,
            "",
            "| u from | blocks on | utilisation | MMAC | accuracy | confidence |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *([] if manifest.light is None else _light(manifest.light, [p.u for p in manifest.operating_points])),
            _MAKING,
            "",
            "| | |",
            "|---|---|",
            *facts,
            "",
            "The same with another machine or data folder:",
            "",
            "```",
            *commands(manifest, run),
            "```",
            "",
            f"Recipe (seed {run.recipe.get('seed', 0)}):",
            "",
            "```json",
            json.dumps(run.recipe, indent=1),
            "```",
            "",
            "## Licence",
            "",
            manifest.licence,
            "",
        ]
    )


def _summary(manifest: Manifest, run: RunDescription) -> str:
    statistics = "shared by all points" if run.statistics == "shared" else "measured for each point"
    return (
        f"A throttleable image classifier ({run.architecture}, {len(manifest.labels)} classes, {run.image_size} x "
        f"{run.image_size} RGB) as per-block ONNX subgraphs. The throttle u in [0, 1] selects one of "
        f"{len(manifest.operating_points)} operating points; normalisation statistics are {statistics}. "
        f"{_gates(manifest, run)}"
    )


def _gates(manifest: Manifest, run: RunDescription) -> str:
    if manifest.gate_network is not None:
        return "A learned gate chooses the point by throttle and image together."
    if "gate" in run.training:
        return "Which components are on at each point is learned."
    return f"Components open in the order {run.sizes.get('order', 'nested')}."


def _light(table: LightTable, dial: list[float]) -> list[str]:
    rows = [
        f"| {u:.4f} | " + " | ".join(f"{share:.4f}" for share in (*accuracy, error[-1])) + " |"
        for u, accuracy, error in zip(dial, table.accuracy, table.calibration_error, strict=True)
    ]
    return [
        "## Accuracy by light",
        "",
        _seen_through(table),
        "",
        f"![Accuracy and calibration error against light]({LIGHT_PICTURE})",
        "",
        "| u from | " + " | ".join(f"{lux:g} lux" for lux in table.lux) + " | calibration error |",
        "|---" * (len(table.lux) + 2) + "|",
        *rows,
        "",
    ]


def with_quantisation(card: str, manifest: Manifest) -> str:
    """A model card with what int8 costs, in the place of what it said of that before."""
    spec = manifest.quantisation
    assert spec is not None
    before, making, after = card.partition(_MAKING)
    before = before.partition(_INT8)[0].rstrip()
    accuracies = _int8(spec, [p.u for p in manifest.operating_points])
    return f"{before}\n\n" + "\n".join([*accuracies, making]) + with_int8_command(after, spec)


def _int8(spec: QuantisationSpec, dial: list[float]) -> list[str]:
    seven, eight = spec.weights
    columns = (spec.float32_accuracy, eight.accuracy, seven.accuracy, eight.agreement, seven.agreement)
    rows = [
        f"| {u:.4f} | " + " | ".join(f"{share:.4f}" for share in shares) + " |"
        for u, *shares in zip(dial, *columns, strict=True)
    ]
    return [
        _INT8,
        "",
        f"Share of right answers on {spec.n_images} held-out images through ONNX Runtime, and share of answers that "
        "are those of float32. Weights have 8 bits where the CPU has 8-bit dot products (VNNI; Arm), else 7. The "
        f"ranges of the activations were measured at each point on {spec.n_calibration} training images; "
        + (
            "they reach from the least to the largest number."
            if spec.kept == 1
            else f"on {spec.kept:.0%} of these images a range leaves no number below it, nor above."
        ),
        "",
        "| u from | float32 | int8 | int8, 7-bit weights | agreement | agreement, 7-bit weights |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        _losses(spec, dial),
        "",
    ]


def _losses(spec: QuantisationSpec, dial: list[float]) -> str:
    """Where more than a point of accuracy is lost, and whether the width of the weights is why."""
    lost = [
        f"{before - after:.4f} at u = {u:.4f} with {each.bits}-bit weights"
        for each in spec.weights
        for u, before, after in zip(dial, spec.float32_accuracy, each.accuracy, strict=True)
        if before - after > _POINT + 1e-9
    ]
    if not lost:
        return "No point loses more than one percentage point of accuracy."
    return (
        f"More than one percentage point of accuracy is lost: {', '.join(lost)}. Where 8-bit weights lose as much as "
        "7-bit ones, the activations' 256 levels are too few there; where they do not, the weights' 128 are."
    )


def _seen_through(table: LightTable) -> str:
    sensor = table.sensor
    steady_lux = sensor["full_well"] / (sensor["electrons_per_lux_s"] * sensor["max_exposure_s"])
    numbers = ", ".join(f"{name} {value:g}" for name, value in sensor.items())
    return (
        f"Share of right answers on {table.n_images} held-out images as a camera with auto-exposure would see them by "
        f"that light on the scene; the last column is the expected calibration error (15 bins) at {table.lux[-1]:g} "
        f"lux. The sensor is modelled (`tnn_edge.plant.ImageSensor`: {numbers}). From {steady_lux:.0f} lux on, "
        f"auto-exposure keeps the picture the same; below {steady_lux / sensor['max_gain']:.0f} lux its gain is at its "
        "end, and the picture grows dark."
    )


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
