"""``tnn-edge bench``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import (
    MOST_ROUNDS,
    BundleArgument,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    MaxResidentOption,
    PrecisionChoice,
    PrecisionOption,
    ThreadsOption,
    check_goes_without,
    in_precision,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from tnn_edge.runtime.measuring.benchmark import Benchmark
    from tnn_edge.runtime.measuring.switching import Switching

__all__ = ["bench"]


def bench(
    context: typer.Context,
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
    float32: Annotated[
        bool, typer.Option("--float32", help="Also time float32, to compare --precision int8 with.")
    ] = False,
    chained: Annotated[bool, typer.Option("--chained", help="Also time one session per block, for contrast.")] = False,
    stepwise: Annotated[
        bool, typer.Option("--stepwise", help="Also time random gate vectors of the same size, which have no plan.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Passes over all settings.")] = 200,
    switches: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=MOST_ROUNDS, help="Instead: N random switches, and what the first frame costs."
        ),
    ] = None,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    max_resident_mb: MaxResidentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time operating points, interleaved; ratios are medians over rounds.

    With --switches, times of the first frame after a switch, and of the next, as multiples of the steady median of the
    point that ran.
    """
    import tnn_edge
    from tnn_edge.runtime.measuring.benchmark import benchmark
    from tnn_edge.runtime.measuring.switching import time_switching

    static = dict(_static(text) for text in against or [])
    if switches is not None:
        check_goes_without(context, "--switches", ("against", "u", "float32", "chained", "stepwise", "rounds"))
    if float32 and precision is PrecisionChoice.float32:
        raise typer.BadParameter("it compares with int8; add --precision int8", param_hint="--float32")
    load = partial(
        tnn_edge.load,
        bundle,
        device.value,
        settings=tnn_edge.SessionSettings(threads=threads),
        max_resident_mb=max_resident_mb,
    )
    with load(precision=precision.value) as engine, load() if float32 else nullcontext() as other:
        if switches is None:
            timed = benchmark(
                engine, dial=u, static=static, float32=other, chained=chained, stepwise=stepwise, rounds=rounds
            )
            _print_points(timed, engine.manifest.name, as_json=as_json)
        else:
            _print_switching(time_switching(engine, switches), engine.manifest.name, as_json=as_json)


def _print_points(timed: Benchmark, name: str, *, as_json: bool) -> None:
    if as_json:
        print_json(timed.as_json())
        return
    ratios = {
        "/ static": [p.against_static for p in timed.points],
        "/ float32": [p.against_float32 for p in timed.points],
        "/ chained": [p.against_chained for p in timed.points],
        "/ stepwise": [p.against_stepwise for p in timed.points],
        "switch / steady": [p.after_switch for p in timed.points],
    }
    measured = {heading: column for heading, column in ratios.items() if any(column)}
    rows = [
        [
            f"{p.u:.4f}",
            f"{p.macs / 1e6:.2f}",
            f"{p.utilisation:.3f}",
            f"{p.latency_p50_ms:.3f}",
            f"{p.latency_p95_ms:.3f}",
            *(_shown(column[i]) for column in measured.values()),
        ]
        for i, p in enumerate(timed.points)
    ]
    headings = ["u", "MMAC", "utilisation", "p50 ms", "p95 ms", *measured]
    print_table(headings, rows, title=_where(name, timed.machine))


def _print_switching(timed: Switching, name: str, *, as_json: bool) -> None:
    if as_json:
        print_json(timed.as_json())
        return
    rows = [
        [frame, *(_shown(ratio) for ratio in (spread.p50, spread.p99, spread.max))]
        for frame, spread in (("first after a switch", timed.first), ("steady", timed.steady))
    ]
    print_table(
        ["frame / steady median", "p50", "p99", "max"],
        rows,
        title=f"{_where(name, timed.machine)}: {timed.n_switches} random switches among {timed.n_points} points",
    )
    typer.echo(f"Afterwards: {timed.rss_change_mb:+.2f} MB of memory, {timed.files_change:+d} open files.")


def _where(name: str, machine: Mapping[str, object]) -> str:
    network = in_precision(name, machine["precision"])
    return f"{network} on {machine['processor']}, {machine['threads']} thread, {machine['device']}"


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
        raise typer.BadParameter(f"{file} is no file; python -m export.static writes one", param_hint="--against")
    return u, Path(file)


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
