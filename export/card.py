"""The model card of a bundle."""

from __future__ import annotations

import json
import shlex

from tnn_edge.bundle import Manifest
from tnn_edge.nn.checkpoint import RunDescription

__all__ = ["model_card"]


_MEASURED = (
    "Accuracy and confidence on held-out training images, with PyTorch; MACs of the sliced network (one multiply-add "
    "is one MAC; bias, normalisation and activation not counted)."
)


def model_card(manifest: Manifest, run: RunDescription) -> str:
    """Markdown: what the network is, how it was made, what it does at each operating point."""
    training = dict(run.training)
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
            "## How it was made",
            "",
            "| | |",
            "|---|---|",
            *facts,
            "",
            "The same with another machine or data folder:",
            "",
            "```",
            f"python -m train.classifier --recipe train/recipes/{run.name}.toml --data DIR --out RUN",
            f"python -m export RUN --out BUNDLE --data DIR --licence {shlex.quote(manifest.licence)}",
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
        f"{len(manifest.operating_points)} operating points; normalisation statistics are {statistics}."
    )


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
