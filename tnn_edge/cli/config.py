"""`tnn-edge config`: check a camera's configuration before it hangs on a pole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnn_edge.errors import BundleError
from tnn_edge.printable import printable

__all__ = ["check_config"]


def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A camera's configuration.", show_default=False)],
) -> None:
    """Check a configuration, its policy and its bundle; each fault is told with file, line, key and a way out.

    Opens neither camera nor sensor.
    """
    from tnn_edge.bundle import open_bundle
    from tnn_edge.camera.config import read_config

    config = read_config(file)
    engine = config.engine
    manifest = open_bundle(engine.bundle).manifest
    if engine.precision == "int8" and manifest.quantisation is None:
        raise BundleError(
            f'{engine.bundle} has no ranges for 8-bit integers; say precision = "float32" in [engine] of {file}, or '
            f"make a bundle that has: python -m export.int8 {engine.bundle} --out OTHER --data DIR"
        )
    reads = ", ".join(sorted(config.policy.signals)) or "no signal"
    left = [f"{name} in {to}" for name, to in config.output.files.items()] or ["JSON lines on stdout"]
    typer.echo(f"{printable(str(file))}: right")
    typer.echo(f"runs {printable(manifest.name)}, {len(manifest.operating_points)} operating points")
    typer.echo(
        f"decides every {config.policy_settings.period_s:g} s on {reads}; where one is lacking that is needed, "
        f"u = {config.policy.settings.unknown_u:g}"
    )
    typer.echo(f"leaves {printable(', '.join(left))}")
