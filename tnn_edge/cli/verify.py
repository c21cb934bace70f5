"""``tnn-edge verify``."""

from __future__ import annotations

import typer

from tnn_edge.cli.options import (
    BundleArgument,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    PrecisionChoice,
    PrecisionOption,
    in_precision,
    print_json,
    print_table,
)

__all__ = ["verify"]


def verify(
    bundle: BundleArgument,
    timing: bool = typer.Option(False, "--timing", help="Also check that latency falls with u."),
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    as_json: JsonOption = False,
) -> None:
    """Prove on this machine that every operating point computes the network and skips what is off."""
    import tnn_edge
    from tnn_edge.errors import VerificationError
    from tnn_edge.runtime.verify import verify as verify_engine

    with tnn_edge.load(bundle, device.value, precision=precision.value) as engine:
        checked = verify_engine(engine, timing=timing)
    if as_json:
        print_json(checked.as_json())
    else:
        headings = ["u from", "blocks run", "MMAC", "golden error", *(["ms"] if timing else [])]
        rows = [
            [f"{p.u:.4f}", f"{p.blocks_run}/{p.blocks}", f"{p.linked_macs / 1e6:.2f}", f"{p.error:.1e}"]
            + ([f"{p.latency_ms:.3f}"] if p.latency_ms is not None else [])
            for p in checked.points
        ]
        print_table(headings, rows, title=f"{in_precision(engine.manifest.name, precision.value)} on {engine.device}")
    if checked.faults:
        raise VerificationError("; ".join(checked.faults))
    if not as_json:
        gate = " and the gate network" if engine.manifest.gate_network is not None else ""
        typer.echo(f"{len(checked.points)} operating points{gate} verified")
