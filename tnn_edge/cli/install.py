"""``tnn-edge install``."""

from __future__ import annotations

import typer

from tnn_edge.cli.options import (
    BundleArgument,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    PrecisionChoice,
    PrecisionOption,
    device_for,
    print_json,
)

__all__ = ["install"]


def install(
    bundle: BundleArgument,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    as_json: JsonOption = False,
) -> None:
    """Link and optimise a bundle for this machine; nothing to do where that is done already."""
    import time

    from tnn_edge.bundle import open_bundle
    from tnn_edge.runtime.installing.plans import install as install_plans

    start = time.perf_counter()
    plans = install_plans(open_bundle(bundle), device_for(device, precision), precision=precision.value)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(
            {
                "folder": str(plans.folder),
                "plans": len(plans.paths),
                "offered_bytes": plans.offered_bytes,
                "stored_bytes": plans.stored_bytes,
                "seconds": seconds,
            }
        )
        return
    typer.echo(f"{len(plans.paths)} plans in {plans.folder} ({seconds:.2f} s)")
    shared = f"{plans.offered_bytes / 1e6:.2f} MB of weights stored in {plans.stored_bytes / 1e6:.2f} MB"
    typer.echo(f"{shared} (equal bytes once)")
