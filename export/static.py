"""The sub-network at one u as a plain ONNX file, straight from sliced PyTorch.

It shares no code with the runtime's linker: the independent reference for its correctness and speed.

    python -m export.static RUN --u U --out FILE.onnx
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from onnxscript import optimizer

from export.sub_network import SubNetwork
from tnn_edge.cli.program import program
from tnn_edge.nn.checkpoint import load_network, operating_points, point_at, read_run, read_statistics_table, use_point
from tnn_edge.throttle import check_throttle
from tnn_edge.whole_file import check_writable, make_folder

__all__ = ["export_static"]

OPSET = 18
_NO_LIMIT = 2**40


def export_static(run: Path, u: float, out: Path) -> None:
    """Export the sub-network that u selects, with that point's normalisation statistics, batch 1.

    Raises:
        ThrottleRangeError: u lies outside [0, 1] or is NaN.
    """
    check_throttle(u)
    make_folder(out.parent)
    check_writable(out, "ONNX file")
    description = read_run(run)
    network = load_network(run)
    points = operating_points(description, network)
    index = point_at(points, u)
    use_point(network, read_statistics_table(run, network), index)
    x = torch.zeros(1, 3, description.image_size, description.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside torch.export on its own code
        traced = torch.onnx.export(
            SubNetwork(network, points[index][1]).eval(), (x,), dynamo=True, opset_version=OPSET,
            input_names=["x"], output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert traced is not None
    optimizer.optimize(traced.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    partial = out.with_name(f".{out.stem}.{os.getpid()}.partial.onnx")
    try:
        traced.save(str(partial), external_data=False)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    u: Annotated[float, typer.Option(help="Throttle in [0, 1].")],
    out: Annotated[Path, typer.Option(help="ONNX file.")],
) -> None:
    """Export the sub-network at one u as a plain ONNX file."""
    export_static(run, u, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    program(main)
