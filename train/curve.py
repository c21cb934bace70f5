"""The throttle curve of a run: accuracy against actual utilisation and against MACs.

    python -m train.curve RUN --data DIR [--naive RUN]

Evaluates u = 0, 1/16, ..., 1 on the test split and writes ``curve.json`` and ``curve.png`` into RUN.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from tnn_edge.cli.program import program
from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import load_network, operating_points, point_at, read_run, read_statistics_table, use_point
from tnn_edge.nn.data_folder import read_split
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.evaluation import Evaluation, evaluate
from tnn_edge.nn.gating import utilisation
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.learned_gates import LearnedGates
from tnn_edge.whole_file import write_whole
from train.gate_table import Measured, by_the_image

__all__ = ["DIAL", "draw_curves", "throttle_curve"]

DIAL = tuple(i / 16 for i in range(17))


def throttle_curve(run: Path, data: ImageSet | ImageTree) -> dict[str, Any]:
    """Evaluate a run at the 17 settings of `DIAL`.

    Returns:
        Name, number of images, and for each setting u utilisation, MACs and accuracy, means over the images; where u
        alone selects an operating point, also its lowest u and the confidence there.
    """
    description = read_run(run)
    data.check_labels(description.labels)
    network = load_network(run)
    table = read_statistics_table(run, network)
    points = operating_points(description, network)
    costs = network.component_costs(description.image_size)
    if isinstance(network.schedule, LearnedGates) and network.schedule.codebook is not None:
        by_image = by_the_image(Measured(network, network.schedule, points, table, costs, description), data)
        return {"name": description.name, "images": len(data), "points": [asdict(row) for row in by_image]}
    measured: dict[int, Evaluation] = {}
    rows = []
    for u in track(DIAL, description.name, console=Console(stderr=True)):
        index = point_at(points, u)
        lowest, gates = points[index]
        if index not in measured:
            use_point(network, table, index)
            measured[index] = evaluate(network, gates, data, mean=description.mean, std=description.std)
        rows.append(
            {
                "u": u,
                "point_u": lowest,
                "utilisation": utilisation(gates, costs),
                "macs": network.macs(gates, description.image_size),
                "accuracy": measured[index].accuracy,
                "confidence": measured[index].confidence,
            }
        )
    return {"name": description.name, "images": len(data), "points": rows}


def draw_curves(curves: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy against utilisation and against MACs, a line for each curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    by_utilisation, by_macs = figure.subplots(1, 2, sharey=True)
    for curve in curves:
        accuracy = [100 * point["accuracy"] for point in curve["points"]]
        by_utilisation.plot([p["utilisation"] for p in curve["points"]], accuracy, marker="o", label=curve["name"])
        by_macs.plot([p["macs"] / 1e6 for p in curve["points"]], accuracy, marker="o", label=curve["name"])
    by_utilisation.set(xlabel="utilisation (share of MACs that can be gated)", ylabel="top-1 accuracy (%)")
    by_macs.set(xlabel="MACs per image (millions)")
    for axes in (by_utilisation, by_macs):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"Throttle curve, {curves[0]['images']} test images")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue(), "run folder")


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    data: Annotated[Path, typer.Option(help="Data folder, as for train.classifier; its test split is used.")],
    naive: Annotated[Path | None, typer.Option(help="Run trained without gating, drawn as a second line.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read the images of a folder ahead.")] = 4,
) -> None:
    """Measure and draw the throttle curve of a run."""
    runs = [run] if naive is None else [run, naive]
    (image_size, short_side), *others = ((of.image_size, of.short_side) for of in map(read_run, runs))
    if others and others[0] != (image_size, short_side):
        raise RunError(
            f"{run} sees images of {image_size} pixels (short_side {short_side}), {naive} of {others[0][0]} "
            f"({others[0][1]}); compare runs that see the same"
        )
    images = read_split(data, "test", image_size=image_size, short_side=short_side, workers=workers)
    curves = [throttle_curve(each, images) for each in runs]
    write_whole(run / "curve.json", (json.dumps({"curves": curves}, indent=1) + "\n").encode(), "run folder")
    draw_curves(curves, run / "curve.png")
    for point in curves[0]["points"]:
        typer.echo(
            f"u {point['u']:.4f}  utilisation {point['utilisation']:.3f}  {point['macs'] / 1e6:7.2f} MMAC  "
            f"accuracy {point['accuracy']:.4f}"
        )
    typer.echo(f"{run / 'curve.json'}, {run / 'curve.png'}")


if __name__ == "__main__":
    program(main)
