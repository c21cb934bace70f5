"""The ``tnn-edge`` command. Heavy packages are imported inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

try:
    import typer

    from tnn_edge.cli.bench import bench
    from tnn_edge.cli.bundle import inspect
    from tnn_edge.cli.config import check_config
    from tnn_edge.cli.costs import costs
    from tnn_edge.cli.day import day
    from tnn_edge.cli.doctor import doctor
    from tnn_edge.cli.install import install
    from tnn_edge.cli.light import light
    from tnn_edge.cli.page import page
    from tnn_edge.cli.policy import check, explain
    from tnn_edge.cli.profiling import profile
    from tnn_edge.cli.program import run_app
    from tnn_edge.cli.reserve import reserve
    from tnn_edge.cli.run import run
    from tnn_edge.cli.simulate import simulate
    from tnn_edge.cli.sweep import sweep
    from tnn_edge.cli.verify import verify
except KeyboardInterrupt:  # the imports take a while, and there is nothing yet to say about Ctrl-C
    raise SystemExit(130) from None

__all__ = ["app", "main"]

app = typer.Typer(
    help="Run throttleable neural networks: one network, a dial u in [0, 1] that says how much compute to spend.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
bundle = typer.Typer(help="Look into a bundle.", no_args_is_help=True)
bundle.command()(inspect)
bundle.command()(light)
bundle.command()(costs)
app.add_typer(bundle, name="bundle")
policy = typer.Typer(help="Check and explain a policy file, which says how to turn the dial.", no_args_is_help=True)
policy.command()(check)
policy.command()(explain)
app.add_typer(policy, name="policy")
config = typer.Typer(help="Check a camera's configuration, which `run` takes.", no_args_is_help=True)
config.command("check")(check_config)
app.add_typer(config, name="config")
for command in (install, verify, profile, bench, run, page, sweep, day, simulate, reserve, doctor):
    app.command()(command)


@app.callback(invoke_without_command=True)
def common(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """What may stand before a command."""
    if version:
        typer.echo(f"tnn-edge {metadata.version('tnn-edge')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    run_app(app)


if __name__ == "__main__":
    main()
