"""``tnn-edge bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnn_edge.cli.options import (
    BundleArgument,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    ThreadsOption,
    print_json,
    print_table,
)

__all__ = ["bench"]


def bench(
    bundle: BundleArgument,
    against: Annotated[
        list[str] | None, typer.Option(metavar="U=FILE.onnx", help="Static export of the sub-network at U; repeatable.")
    ] = None,
    u: Annotated[
        list[float] | None,
        typer.Option(
            help="Throttle setting; repeatable. By default all points, with --against only those of its files."
        ),
    ] = None,
    chained: Annotated[bool, typer.Option("--chained", help="Also time one session per block, for contrast.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Passes over all settings.")] = 200,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Time operating points, interleaved; ratios are medians over rounds."""
    import tnn_edge
    from tnn_edge.runtime.benchmark import benchmark

    static = dict(_static(text) for text in against or [])
    settings = tnn_edge.SessionSettings(threads=threads)
    with tnn_edge.load(bundle, device.value, settings=settings) as engine:
        timed = benchmark(engine, dial=u, static=static, chained=chained, rounds=rounds)
    if as_json:
        print_json(timed.as_json())
        return
    rows = [
        [
            f"{p.u:.4f}",
            f"{p.macs / 1e6:.2f}",
            f"{p.utilisation:.3f}",
            f"{p.latency_p50_ms:.3f}",
            f"{p.latency_p95_ms:.3f}",
        ]
        + [_shown(r) for r in (p.against_static, p.against_chained, p.after_switch)]
        for p in timed.points
    ]
    machine = timed.machine
    print_table(
        ["u", "MMAC", "utilisation", "p50 ms", "p95 ms", "/ static", "/ chained", "switch / steady"],
        rows,
        title=f"{engine.manifest.name} on {machine['cpu']}, {machine['threads']} thread, {machine['device']}",
    )


def _static(text: str) -> tuple[float, Path]:
    setting, equals, file = text.partition("=")
    try:
        u = float(setting)
    except ValueError:
        equals = ""
        u = 0.0
    if not equals or not 0.0 <= u <= 1.0:
        raise typer.BadParameter(f"expected U=FILE.onnx with U in [0, 1], got {text!r}", param_hint="--against")
    if not Path(file).is_file():
        raise typer.BadParameter(f"{file} does not exist; python -m export.static writes it", param_hint="--against")
    return u, Path(file)


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
