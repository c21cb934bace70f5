"""`tnn-edge simulate`: policies through simulated seasons, beside the optimum in hindsight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnn_edge.cli.options import JsonOption, print_json, print_table
from tnn_edge.errors import InputError, MissingExtraError
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tnn_edge.control import Governed
    from tnn_edge.sim.comparison import Comparison
    from tnn_edge.sim.simulation import Simulation

__all__ = ["simulate"]


def simulate(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="Simulation file, as examples/demo/simulation.toml.", show_default=False),
    ],
    policy: Annotated[list[Path], typer.Option(metavar="FILE", help="Policy file; can be given several times.")],
    days: Annotated[
        int | None,
        typer.Option(min=1, max=3650, help="Length; by default a year, or all of your own file.", show_default=False),
    ] = None,
    fleet: Annotated[
        int, typer.Option(min=1, max=10_000, help="Devices, which differ as the file's table fleet says.")
    ] = 1,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that needs nothing else.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Will this battery and panel last the winter here, and how well does the camera answer?

    Every policy meets the same weather, drawn from days measured at the site, the same work and the same devices. The
    last row is the optimum that knows the future: an upper and a lower bound of what any policy could have got.
    """
    try:
        from tnn_edge.sim.simulation import read_simulation
    except ImportError as err:
        raise MissingExtraError(f"a simulation needs numba and gymnasium ({err}): pip install 'tnn-edge[sim]'") from err
    from tnn_edge.control import read_policy

    if html is not None:
        from tnn_edge.html_page import check_can_write_page

        check_can_write_page(html)
    simulation = read_simulation(config)
    policies = {name: read_policy(path) for name, path in _named(policy).items()}
    comparison = _run(simulation, policies, n_days=days, n_devices=fleet)
    if as_json:
        from tnn_edge.sim.comparison_table import as_json as comparison_as_json

        print_json({"simulation": str(config), **comparison_as_json(comparison)})
    else:
        _print(comparison, config)
    if html is not None:
        from tnn_edge.html_page import write_page
        from tnn_edge.sim.comparison_page import comparison_page

        texts = {name: path.read_text() for name, path in _named(policy).items()}
        write_page(html, comparison_page(comparison, simulation, texts))
        typer.echo(f"drawn: {printable(str(html))}", err=as_json)


def _named(paths: list[Path]) -> dict[str, Path]:
    """Policies by the names of their files.

    Raises:
        InputError: two files have one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise InputError(f"--policy {path}: another policy is called {path.stem!r} too; rename one of the files")
        named[path.stem] = path
    return named


def _run(
    simulation: Simulation, policies: Mapping[str, Governed[Any]], *, n_days: int | None, n_devices: int
) -> Comparison:
    """Compare them, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from tnn_edge.sim.comparison import compare

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("simulating", total=1.0)
        return compare(
            simulation,
            policies,
            n_days=n_days,
            n_devices=n_devices,
            on_progress=lambda share: progress.advance(task, share),
        )


def _print(comparison: Comparison, config: Path) -> None:
    from tnn_edge.sim.comparison_table import FLEET_HEADINGS, HEADINGS, fleet_rows, notes, rows

    title = f"{config}: {comparison.n_days} days at {comparison.traces.site}"
    print_table(HEADINGS, rows(comparison), title=title)
    if comparison.n_devices > 1:
        print_table(FLEET_HEADINGS, fleet_rows(comparison), title=f"a fleet of {comparison.n_devices} devices")
    typer.echo(notes(comparison))
