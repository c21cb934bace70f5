"""``tnn-edge bundle inspect``."""

from __future__ import annotations

import typer

from tnn_edge.cli.options import BundleArgument, JsonOption, print_json, print_table
from tnn_edge.printable import printable

__all__ = ["inspect"]


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Check every file of a bundle and say what it holds."""
    from tnn_edge.bundle import open_bundle
    from tnn_edge.bundle.reading import STATISTICS
    from tnn_edge.bundle.structure import check_structure

    opened = open_bundle(bundle)
    check_structure(opened)
    manifest = opened.manifest
    if as_json:
        print_json({"digest": opened.digest, **manifest.model_dump(mode="json")})
        return
    size = sum(file.bytes for file in manifest.files.values())
    made_for = f"{manifest.task}, {len(manifest.labels)} classes, input {list(manifest.input.shape)}"
    typer.echo(f"{printable(manifest.name)}: {made_for}")
    typer.echo(f"digest   {opened.digest}")
    typer.echo(f"files    {len(manifest.files)}, {size / 1e6:.2f} MB, all hashes right, all blocks sound")
    own = manifest.files.get(STATISTICS)
    kept = f"of each point, {own.bytes / 1e3:.0f} kB" if own else "shared by all points"
    typer.echo(f"normalisation statistics {kept}")
    if manifest.gate_network is not None:
        typer.echo(f"gate     chosen by throttle and image together, {manifest.gate_network.macs / 1e3:.1f} kMAC")
    typer.echo(f"licence  {printable(manifest.licence)}")
    rows = [
        [
            f"{p.u:.4f}",
            f"{len(p.blocks_on)}/{len(p.gates)}",
            f"{p.utilisation:.3f}",
            f"{p.macs / 1e6:.2f}",
            "-" if p.accuracy is None else f"{p.accuracy:.4f}",
            "-" if p.confidence is None else f"{p.confidence:.4f}",
        ]
        for p in manifest.operating_points
    ]
    print_table(["u from", "blocks on", "utilisation", "MMAC", "accuracy", "confidence"], rows)
