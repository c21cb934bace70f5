"""The ``tnn-edge`` command. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import typer

from tnn_edge.cli.bench import bench
from tnn_edge.cli.bundle import inspect
from tnn_edge.cli.install import install
from tnn_edge.cli.program import run_app
from tnn_edge.cli.run import run
from tnn_edge.cli.sweep import sweep
from tnn_edge.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    help="Run throttleable neural networks: one network, a dial u in [0, 1] that says how much compute to spend.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
bundle = typer.Typer(help="Look into a bundle.", no_args_is_help=True)
bundle.command()(inspect)
app.add_typer(bundle, name="bundle")
for command in (install, verify, bench, run, sweep):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    run_app(app)


if __name__ == "__main__":
    main()
