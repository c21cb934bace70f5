"""The simulator's weather: the years that ship with the package, and traces drawn from them.

    python -m train.traces sites --out tnn_edge/sim/sites
    python -m train.traces bake --site miami --split test --n 20 --out traces

`sites` packs the typical years that pvlib carries; `bake` draws traces and writes them as one hashed file.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tnn_edge.cli.program import run_app
from tnn_edge.sim.climate import Climate, read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.whole_file import check_writable, make_folder, write_whole

__all__ = ["app"]

app = typer.Typer(help="The simulator's weather.", no_args_is_help=True, add_completion=False)

_FILES = {"greensboro": "723170TYA.CSV", "miami": "12839.tm2", "sand_point": "703165TY.csv"}
"""Greensboro NC and Sand Point AK are TMY3, Miami FL is TMY2: all NREL, public, in pvlib's package."""


@app.command()
def sites(out: Annotated[Path, typer.Option(help="Folder of the files.")]) -> None:
    """Pack the typical years that pvlib carries."""
    make_folder(out)
    for site in _FILES:
        data = pack_site(site).to_bytes()
        write_whole(out / f"{site}.npz", data, "site file")
        typer.echo(f"{out / site}.npz: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


@app.command()
def bake(
    site: Annotated[str, typer.Option(help="greensboro, miami or sand_point.")],
    out: Annotated[Path, typer.Option(help="Folder of the file; made if it is missing.")],
    split: Annotated[str, typer.Option(help="train, validation or test: the pool of days.")] = "train",
    n: Annotated[int, typer.Option(min=1, max=1000, help="Traces.")] = 20,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Length of each.")] = 365,
    step_s: Annotated[float, typer.Option(help="Seconds of a step, a divisor of an hour.")] = 900.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first trace; the others follow it.")] = 0,
) -> None:
    """Draw traces, and write them as one hashed file."""
    make_folder(out)
    path = out / f"{site}-{split}-{n}x{days}d-{step_s:g}s-{seed}.npz"
    check_writable(path, "trace file")
    traces = draw_traces(read_climate(site), split, range(seed, seed + n), n_days=days, step_s=step_s)
    digest = traces.save(path)
    daily_kwh = traces.irradiance_w_m2.reshape(n, days, -1).sum(axis=-1) * step_s / 3.6e6
    typer.echo(f"{path}: SHA-256 {digest}")
    typer.echo(
        f"{n} traces of {days} days: {daily_kwh.mean():.2f} kWh/m2 a day, worst day {daily_kwh.min():.2f}; "
        f"air {traces.air_c.min():.1f} to {traces.air_c.max():.1f} degrees C; "
        f"{traces.events_per_h.mean():.0f} events an hour"
    )


def pack_site(site: str) -> Climate:
    """A year as pvlib carries it."""
    import pvlib

    path = Path(pvlib.__file__).parent / "data" / _FILES[site]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about pvlib's way to read dates
        if path.suffix == ".tm2":
            frame, about = pvlib.iotools.read_tmy2(path)
            ghi, air_c = frame["GHI"], frame["DryBulb"] / 10.0
        else:
            frame, about = pvlib.iotools.read_tmy3(path, map_variables=True)
            ghi, air_c = frame["ghi"], frame["temp_air"]
    # Both count 24 hours from the first midnight, whichever end of the hour pvlib labels.
    return Climate(
        site=site,
        latitude_deg=float(about["latitude"]),
        longitude_deg=float(about["longitude"]),
        utc_offset_h=float(about["TZ"]),
        ghi_w_m2=np.asarray(ghi, np.float64).reshape(365, 24),
        air_c=np.asarray(air_c, np.float64).reshape(365, 24),
        is_trainable=site != "sand_point",
    )


if __name__ == "__main__":
    run_app(app)
