"""``tnn-edge profile --settings``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tnn_edge.cli.options import in_precision, print_json, print_table

if TYPE_CHECKING:
    from tnn_edge.runtime.installing.plan_key import Precision
    from tnn_edge.runtime.measuring.settings_table import SettingCost
    from tnn_edge.runtime.providers import Device

__all__ = ["show_settings"]

_DIAL = (0.0, 0.5, 1.0)


def show_settings(bundle: Path, device: Device, precision: Precision, fps: float, *, as_json: bool) -> None:
    """Time operating points with every number of threads, spinning or not, and print the table."""
    from tnn_edge.bundle import open_bundle
    from tnn_edge.camera.live_display import LiveDisplay, one_line
    from tnn_edge.runtime.installing.plans import install
    from tnn_edge.runtime.machine import describe_machine
    from tnn_edge.runtime.measuring.settings_table import settings_table, thread_counts

    opened, machine = open_bundle(bundle), describe_machine()
    install(opened, device, precision=precision)
    dial = sorted({opened.manifest.point_at(u).u for u in _DIAL})
    with LiveDisplay(enabled=sys.stderr.isatty()) as display:
        table = settings_table(
            bundle,
            device,
            precision=precision,
            dial=dial,
            threads=thread_counts(int(str(machine["cores"]))),
            period_s=1.0 / fps,
            meter="tnn_edge.device:best_meter",
            on_progress=lambda text: display.show(lambda: one_line(f"measuring: {text}")),
        )
    if as_json:
        machine |= {"device": device, "precision": precision}
        print_json({"machine": machine, "fps": fps, "settings": [asdict(row) for row in table]})
        return
    headings = ["u from", "threads", "spinning", "ms", "CPU ms", "ms paced", "CPU ms a frame", "mJ a frame"]
    print_table(
        headings,
        [_cells(row) for row in table],
        title=f"{in_precision(opened.manifest.name, precision)} on {machine['cpu']}, {device}: back to back, and paced "
        f"at {fps:g} a second",
    )
    for line in _race_to_idle(table):
        typer.echo(line)


def _cells(row: SettingCost) -> list[str]:
    return [
        f"{row.u:.4f}",
        str(row.threads),
        "on" if row.spinning else "off",
        *(f"{ms:.3f}" for ms in (row.latency_ms, row.cpu_ms, row.paced_latency_ms, row.paced_cpu_ms)),
        "-" if row.paced_energy_mj is None else f"{row.paced_energy_mj:.3f}",
    ]


def _race_to_idle(table: Sequence[SettingCost]) -> list[str]:
    """Whether finishing sooner and resting costs less than a lower throttle: the cheapest setting of each point."""
    has_energy = all(row.paced_energy_mj is not None for row in table)
    unit = "mJ" if has_energy else "ms of CPU time"
    lines = ["A frame and the waiting for the next, at the cheapest setting of each point:"]
    if not has_energy:
        lines = ["Energy: not measured here; CPU time stands for it.", *lines]
    for u in dict.fromkeys(row.u for row in table):
        rows = [row for row in table if row.u == u]
        cost, best = min((_paced_cost(row, has_energy=has_energy), i) for i, row in enumerate(rows))
        spinning = "on" if rows[best].spinning else "off"
        lines.append(f"  u from {u:.4f}: {cost:.3f} {unit}, threads {rows[best].threads}, spinning {spinning}")
    return lines


def _paced_cost(row: SettingCost, *, has_energy: bool) -> float:
    return row.paced_energy_mj if has_energy and row.paced_energy_mj is not None else row.paced_cpu_ms
