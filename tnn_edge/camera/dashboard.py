"""The live view of a camera under a policy: dial, battery, light and the last answer, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from tnn_edge.camera.accounting import Accounting
from tnn_edge.camera.live_display import one_line, share_bar
from tnn_edge.camera.pipeline import Record

__all__ = ["answer_text", "dashboard", "frame_text", "lowered_text", "lux_text"]


def dashboard(record: Record, accounting: Accounting, n_frames: int | None) -> Table:
    """What is known at one frame.

    Args:
        record: of the frame.
        accounting: of the run so far, in which this frame is not yet counted.
        n_frames: frames to come in all; None when there is no end.
    """
    observed = record.get("observed", {})
    view = Table.grid(padding=(0, 1))
    throttle = [f"{record['u']:.2f}", record.get("reason") or "", lowered_text(record)]
    view.add_row("u", share_bar(record["u"]), one_line("  ".join(filter(None, throttle))))
    view.add_row("battery", share_bar(observed.get("soc"), "green"), one_line(_power_text(observed)))
    view.add_row("light", "", one_line(lux_text(observed.get("lux"))))
    view.add_row("answer", share_bar(record.get("confidence"), "blue"), one_line(answer_text(record)))
    counts = f"{accounting.processed} processed, {accounting.dropped} dropped, {accounting.failed} failed"
    if accounting.lowered:
        counts += f", {accounting.lowered} by a lower point than asked for"
    view.add_row("frames", "", one_line(f"{frame_text(record, n_frames)}; {counts}"))
    if accounting.fallback is not None:
        view.add_row("on the CPU", "", one_line(accounting.fallback))
    return view


def frame_text(record: Record, n_frames: int | None) -> str:
    """Which frame this is."""
    return f"frame {record['frame'] + 1}" + (f"/{n_frames}" if n_frames else "")


def lowered_text(record: Record) -> str:
    """Which operating point was asked for and which ran, where they differ; nothing else."""
    if "point_u" not in record or record["point_u"] == record["asked_u"]:
        return ""
    return f"asked {record['asked_u']:.3f}, ran {record['point_u']:.3f}"


def answer_text(record: Record) -> str:
    """What the network said, and what it cost."""
    if "error" in record:
        return f"{record['name']}: {record['error']}"
    return (
        f"{record['top1']} {record['confidence']:.2f}  {record['ms']:.2f} ms  {record['macs'] / 1e6:.1f} MMACs  "
        f"{record['blocks_run']} blocks"
    )


def _power_text(observed: Mapping[str, float | None]) -> str:
    soc, mains = observed.get("soc"), observed.get("on_mains")
    power_in_w, temperature_c = observed.get("power_in_w"), observed.get("temperature_c")
    parts = [
        "unknown" if soc is None else f"{100 * soc:.0f} %",
        *([] if mains is None else ["on mains" if mains else "on battery"]),
        *([] if power_in_w is None else [f"{power_in_w:.1f} W in"]),
        *([] if temperature_c is None else [f"{temperature_c:.0f} degrees C"]),
    ]
    return "  ".join(parts)


def lux_text(lux: float | None) -> str:
    """Light to three digits."""
    return "unknown" if lux is None else f"{float(f'{lux:.3g}'):,g} lux"  # daylight is 50,000 and not 5e+04
