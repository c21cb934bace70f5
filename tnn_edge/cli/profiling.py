"""``tnn-edge profile``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import (
    MOST_ROUNDS,
    BundleArgument,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    PrecisionChoice,
    PrecisionOption,
    ThreadsOption,
    check_goes_without,
    device_for,
    in_precision,
    is_given,
    print_json,
    print_table,
)
from tnn_edge.cli.profile_settings import show_settings
from tnn_edge.cli.profile_toml import write_toml
from tnn_edge.errors import PlanError
from tnn_edge.printable import printable
from tnn_edge.whole_file import check_writable

if TYPE_CHECKING:
    import tnn_edge
    from tnn_edge.bundle import OperatingPoint
    from tnn_edge.runtime.cost_profile import Profile

__all__ = ["profile"]

_UNKNOWN = "-"


def profile(
    context: typer.Context,
    bundle: BundleArgument,
    rounds: Annotated[
        int,
        typer.Option(min=20, max=MOST_ROUNDS, help="Inferences timed at each operating point; p99 takes 100 of them."),
    ] = 200,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=3600.0, help="How long each point is repeated for energy and CPU time.")
    ] = 2.0,
    kept: Annotated[bool, typer.Option("--kept", help="Measure nothing; show what was measured last.")] = False,
    settings_table: Annotated[
        bool, typer.Option("--settings", help="Instead: what numbers of threads, and spinning, cost at three points.")
    ] = False,
    fps: Annotated[
        float, typer.Option(min=0.1, max=1000.0, help="The camera's pace, for --settings and --toml.")
    ] = 30.0,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw energy and latency against accuracy to a PNG file.")
    ] = None,
    toml: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write power, accuracy and confidence by light, for simulate and policies."),
    ] = None,
    idle_w: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1000.0, help="Power with the camera on, for --toml; by default what the meter sees at rest."
        ),
    ] = None,
    threads: ThreadsOption = 1,
    spinning: Annotated[bool, typer.Option(help="Threads wait busily for the next inference.")] = False,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    as_json: JsonOption = False,
) -> None:
    """Measure what each operating point costs on this machine, and keep it beside the plans.

    Latency is that of an inference right after another point's; energy and CPU time are of inferences back to back.
    Let nothing else run meanwhile. The limits max_ms, max_mj and min_accuracy of Engine.run read what is kept.
    """
    import tnn_edge
    from tnn_edge.picture_file import check_can_draw, write_picture
    from tnn_edge.runtime.measuring.profile_plot import check_accuracies, draw_profile_png

    if settings_table:
        check_goes_without(context, "--settings", ("kept", "png", "toml", "rounds", "seconds", "threads", "spinning"))
        show_settings(bundle, device_for(device, precision), precision.value, fps, as_json=as_json)
        return
    _check_toml(context, toml, idle_w)
    if kept:
        check_goes_without(context, "--kept", ("rounds", "seconds"))
    if png is not None:
        check_can_draw(png)
    settings = tnn_edge.SessionSettings(threads=threads, spinning=spinning)
    with tnn_edge.load(bundle, device.value, settings=settings, precision=precision.value) as engine:
        if png is not None:
            check_accuracies(engine.points)
        refusals: tuple[str, ...] = ()
        if kept:
            found = _kept(engine)
        else:
            found, refusals = _measured(engine, rounds, seconds)
        points, manifest = engine.points, engine.manifest
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found, points, refusals, name=in_precision(found.name, precision.value))
    if png is not None:  # after the numbers, which must not be lost to a picture
        write_picture(png, draw_profile_png(found, points))
        typer.echo(f"drawn: {printable(str(png))}", err=as_json)
    if toml is not None:
        write_toml(toml, found, manifest, fps=fps, idle_w=idle_w)
        typer.echo(f"written: {printable(str(toml))}", err=as_json)


def _check_toml(context: typer.Context, toml: Path | None, idle_w: float | None) -> None:
    if toml is not None:
        check_writable(toml, "profile file")
    elif is_given(context, "fps"):
        raise typer.BadParameter("it is for --settings or --toml; add one", param_hint="--fps")
    elif idle_w is not None:
        raise typer.BadParameter("it is for --toml; add that, or leave it out", param_hint="--idle-w")


def _kept(engine: tnn_edge.Engine) -> Profile:
    from tnn_edge.runtime.cost_profile import find_profile

    found = find_profile(engine.bundle, engine.plans, engine.device, engine.settings)
    if found is None:
        raise PlanError("no profile was measured on this machine with these settings; leave --kept out to measure one")
    return found


def _measured(engine: tnn_edge.Engine, rounds: int, seconds: float) -> tuple[Profile, tuple[str, ...]]:
    """The profile, which is kept, and why there is no better energy meter."""
    from tnn_edge.camera.live_display import LiveDisplay, one_line
    from tnn_edge.device import best_meter
    from tnn_edge.runtime.cost_profile import ProfileKey, check_can_keep, keep_profile
    from tnn_edge.runtime.measuring.profiler import measure_profile

    check_can_keep(engine.plans, ProfileKey.of(engine.bundle, engine.plans, engine.device, engine.settings))
    meter, refusals = best_meter(device=engine.device)
    with LiveDisplay(enabled=sys.stderr.isatty()) as display:
        measured = measure_profile(
            engine,
            meter=meter,
            rounds=rounds,
            seconds=seconds,
            on_progress=lambda text: display.show(lambda: one_line(f"measuring: {text}")),
        )
    keep_profile(measured, engine.plans)
    return measured, refusals


def _print(found: Profile, points: Sequence[OperatingPoint], refusals: Sequence[str], *, name: str) -> None:
    modelled = found.meter is not None and found.meter.is_modelled
    energy = "mJ (modelled)" if modelled else "mJ"
    headings = ["u from", "accuracy", "MMAC", "p50 ms", "p95 ms", "p99 ms", "CPU ms", energy, "mJ above rest"]
    rows = [
        [
            f"{cost.u:.4f}",
            _shown(point.accuracy, 4),
            f"{point.macs / 1e6:.2f}",
            _shown(cost.latency_p50_ms, 3),
            _shown(cost.latency_p95_ms, 3),
            _shown(cost.latency_p99_ms, 3),
            _shown(cost.cpu_ms, 3),
            _shown(cost.energy_mj, 3),
            _shown(cost.energy_above_idle_mj, 3),
        ]
        for cost, point in zip(found.points, points, strict=True)
    ]
    settings = found.key.settings
    processor = found.machine.get("processor", found.key.cpu)
    print_table(
        headings,
        rows,
        title=f"{name} on {processor}, {settings['threads']} thread, "
        f"spinning {'on' if settings['spinning'] else 'off'}, {found.key.device}, {found.rounds} rounds"
        + (", energy modelled" if modelled else ""),
    )
    for line in _about_energy(found, refusals):
        typer.echo(printable(line))


def _about_energy(found: Profile, refusals: Sequence[str]) -> list[str]:
    meter = found.meter
    if meter is None:
        return ["Energy: unknown, no meter."]
    how = "modelled, not measured" if meter.is_modelled else "measured, with what the machine takes at rest"
    lines = [f"Energy: {how}; {meter.name}, {meter.scope}."]
    if not meter.is_modelled:
        lines.append(f"At rest: {'unknown' if found.idle_w is None else f'{found.idle_w:.2f} W'}.")
    lines += [f"Not measured: {note}" for note in meter.notes]
    return lines + [f"No better meter: {reason}" for reason in refusals]


def _shown(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"
