"""`tnn-edge reserve`: the charge that a device must keep at its site, for the shield of its policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnn_edge.errors import MissingExtraError
from tnn_edge.printable import printable

__all__ = ["reserve"]


def reserve(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="Simulation file, as examples/demo/simulation.toml.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Reserve file to write.")],
    u_floor: Annotated[float, typer.Option(min=0.0, max=1.0, help="Throttle at which the reserve is to last.")] = 0.0,
    years: Annotated[int, typer.Option(min=1, max=100, help="Years of weather to look at.")] = 50,
    ahead: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=365.0,
            help="Days that the reserve is to last.",
            show_default="4 times as long as a full battery lasts without sun",
        ),
    ] = None,
    margin: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of the battery kept on top.")] = 0.02,
) -> None:
    """Work out the charge that a device must keep to live through what its site may bring.

    A policy file names the file in its table "shield", and no policy can use that charge up. The weather is that of all
    days but those that are kept for tests; at a site where all are, of these.
    """
    try:
        from tnn_edge.sim.envelope import declare_reserve, known_years
        from tnn_edge.sim.simulation import read_simulation
    except ImportError as err:
        raise MissingExtraError(f"a reserve needs numba and gymnasium ({err}): pip install 'tnn-edge[sim]'") from err
    from tnn_edge.control import write_reserve
    from tnn_edge.whole_file import check_writable

    check_writable(out, "reserve file")
    read = read_simulation(config)
    weather = known_years(read.site(), years, step_s=read.period_s, surroundings=read.surroundings)
    made = declare_reserve(read.device, weather, u_floor=u_floor, horizon_days=ahead, margin=margin)
    write_reserve(out, made)
    kept = [max(row) for row in made.reserve_wh]
    typer.echo(
        f"{printable(str(out))}: {min(kept):.1f} to {max(kept):.1f} of {made.battery_wh:g} Wh are kept at the worst "
        "hour of a season"
    )
    if not made.is_sufficient:
        typer.echo(
            "warning: in some seasons even u_floor may not last; a larger battery or panel would. Until then power can "
            "be lost there whatever the policy does",
            err=True,
        )
