"""``tnn-edge bundle costs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tnn_edge.cli.options import MOST_ROUNDS, BundleArgument, DeviceChoice, DeviceOption, ThreadsOption, print_table
from tnn_edge.printable import printable

__all__ = ["costs"]


def costs(
    bundle: BundleArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write them to a JSON file, gate -> milliseconds of each component."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Passes over all blocks.")] = 50,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
) -> None:
    """Measure what each component costs on this machine: weights for train.gate --costs."""
    import tnn_edge
    from tnn_edge.bundle import open_bundle
    from tnn_edge.runtime.device_choice import choose_device
    from tnn_edge.runtime.machine import describe_machine
    from tnn_edge.runtime.measuring.component_costs import component_costs
    from tnn_edge.whole_file import check_writable, write_whole

    if out is not None:
        check_writable(out, "JSON file")
    opened, chosen = open_bundle(bundle), choose_device(device.value)
    settings = tnn_edge.SessionSettings(threads=threads)
    measured = component_costs(opened, chosen, settings=settings, rounds=rounds)
    weights = {gate.name: sum(gate.weights) for gate in opened.manifest.gates}
    total_ms, total_macs = sum(map(sum, measured.values())), sum(weights.values())
    rows = [
        [
            printable(name),
            str(len(each)),
            f"{sum(each):.3f}",
            f"{sum(each) / total_ms:.3f}",
            f"{weights[name] / total_macs:.3f}",
        ]
        for name, each in measured.items()
    ]
    machine = describe_machine()
    print_table(
        ["gate", "components", "ms", "share of ms", "share of MACs"],
        rows,
        title=f"{opened.manifest.name} on {machine['cpu']}, {threads} thread, {chosen}",
    )
    if out is not None:
        write_whole(out, (json.dumps(measured, indent=1) + "\n").encode(), "JSON file")
        typer.echo(f"written: {printable(str(out))}")
