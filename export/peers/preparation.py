"""From a training run to everything that the ways read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from export.bundle import export_bundle
from export.peers.ways import find_way
from export.peers.work import Work, write_work
from export.static import export_static
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import BundleError
from tnn_edge.runtime.linking.linker import link_block
from tnn_edge.runtime.linking.shapes import give_input_shape

__all__ = ["prepare"]


def prepare(
    run: Path, dial: Sequence[float], names: Sequence[str], folder: Path, on_step: Callable[[str], None]
) -> Work:
    """Export a run in every form that the ways need.

    Args:
        run: folder of the training run.
        dial: throttle settings, in any order.
        names: of the ways.
        folder: an empty one; its bundle's golden images are the images of the comparison.
        on_step: called with what is being done.

    Raises:
        RunError: the run cannot be used.
        ThrottleRangeError: a setting lies outside [0, 1] or is NaN.
        BundleError: the run's gates look at the image, so u alone selects no operating point.
    """
    folder = folder.resolve()
    on_step("bundle")
    manifest = export_bundle(run, folder / "bundle")
    if manifest.gate_network is not None:
        raise BundleError(f"{run}: its gates look at the image; the other ways can only be asked for a u")
    settings = tuple(sorted(set(dial), reverse=True))
    points = tuple(manifest.operating_points.index(manifest.point_at(u)) for u in settings)
    work = Work(folder=folder, run=run.resolve(), dial=settings, points=points)
    for u, point in zip(settings, points, strict=True):
        if not work.static(point).exists():
            on_step(f"static export at u={u:g}")
            export_static(run, u, work.static(point))
    bundle = open_bundle(work.bundle)
    np.save(work.images, bundle.golden[0])
    on_step("blocks")
    work.blocks.mkdir()
    work.write_block_files([_write_blocks(work, bundle, point) for point in work.distinct_points])
    for name in names:
        on_step(name)
        find_way(name).prepare(work)
    write_work(work)
    return work


def _write_blocks(work: Work, bundle: Bundle, point: int) -> dict[str, str | None]:
    """The blocks of an operating point, a file for each; equal ones have the same name."""
    gates = bundle.manifest.operating_points[point].gates
    names: dict[str, str | None] = {}
    shape: Sequence[int] = bundle.manifest.input.shape
    for block in bundle.manifest.blocks:
        linked = link_block(bundle, block, gates)
        names[block.name] = None
        if linked is None:
            continue
        model = ir.to_proto(linked)
        shape = give_input_shape(model, shape)
        (given,) = model.graph.output
        given.CopyFrom(onnx.helper.make_tensor_value_info(given.name, given.type.tensor_type.elem_type, shape))
        data = model.SerializeToString(deterministic=True)
        names[block.name] = f"{block.name}.{hashlib.sha256(data).hexdigest()[:12]}.onnx"
        (work.blocks / str(names[block.name])).write_bytes(data)
    return names
