"""Write a bundle from a training run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.blocks import export_blocks
from export.card import LIGHT_PICTURE, model_card
from export.gate_network import export_gate_network, golden_gate
from export.golden import golden_outputs
from export.light import evenly_spread, measure_light
from export.quantise import N_CALIBRATION, add_quantisation
from tnn_edge.bundle import FileSpec, GateSpec, InputSpec, Manifest, OperatingPoint
from tnn_edge.bundle.light_plot import draw_light_png
from tnn_edge.bundle.manifest import SCHEMA_VERSION, parse_manifest
from tnn_edge.bundle.reading import GOLDEN, MANIFEST, STATISTICS, file_sha256
from tnn_edge.errors import BundleError, SchemaError
from tnn_edge.nn.checkpoint import (
    RunDescription,
    load_network,
    operating_points,
    read_run,
    read_statistics_table,
    use_point,
)
from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gating import GateVector, utilisation
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.learned_gates import GateNetwork, LearnedGates
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics
from tnn_edge.nn.schedule import Schedule
from tnn_edge.whole_file import make_folder

__all__ = ["export_bundle"]

N_GOLDEN = 4


@contextmanager
def finished_folder(final: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write in, which takes its final name only when the body ends without an error.

    An old bundle under that name is moved aside whole, and removed when the new one is in its place.

    Raises:
        BundleError: `final` exists and `overwrite` is off, or holds something else than a bundle; nothing can be
            written there.
    """
    if os.path.lexists(final):
        if not overwrite:
            raise BundleError(f"{final} exists; choose another --out, or pass --overwrite to replace it")
        _check_replaceable(final)
    make_folder(final.parent)
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    except OSError as err:
        raise BundleError(f"{final} cannot be written ({err.strerror}); choose another --out") from err
    partial, old = work / "new", work / "old"
    partial.mkdir()
    try:
        yield partial
        if final.exists():
            final.rename(old)
        try:
            partial.rename(final)
        except BaseException:
            if old.exists():
                old.rename(final)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Make sure that nothing but a bundle is lost with a folder."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder, so it is not replaced; choose another --out")
    try:
        manifest = parse_manifest((folder / MANIFEST).read_text(), str(folder / MANIFEST))
    except (OSError, UnicodeDecodeError, SchemaError) as err:
        raise BundleError(f"{folder} is no bundle ({err}), so it is not replaced; choose another --out") from err
    own = {MANIFEST, *manifest.files}
    for path in folder.rglob("*"):
        if not path.is_dir() and (name := path.relative_to(folder).as_posix()) not in own:
            raise BundleError(
                f"{folder} holds {name}, which is no part of its bundle; move it away or choose another --out"
            )


def export_bundle(
    run: Path,
    out: Path,
    *,
    data: ImageSet | None = None,
    light_images: int | None = None,
    training: ImageSet | ImageTree | None = None,
    n_calibration: int = N_CALIBRATION,
    licence: str = "unknown",
    overwrite: bool = False,
) -> Manifest:
    """Export the network of a run.

    Args:
        run: folder of a training run.
        out: folder of the bundle; it appears whole or not at all.
        data: images that the training did not see, for golden inputs, accuracy and confidence; without them the
            golden inputs are noise and the bundle has no accuracy.
        light_images: how many of them to measure accuracy by light on, spread evenly; None for all, 0 for no table.
        training: images that the training saw; with them, and `data`, the bundle can run in int8 too.
        n_calibration: how many of them to measure the ranges of activations on.
        licence: under which the weights may be used.
        overwrite: replace `out`.

    Returns:
        The manifest.
    """
    description = read_run(run)
    network = load_network(run)
    table = read_statistics_table(run, network)
    points = operating_points(description, network)
    with finished_folder(out, overwrite=overwrite) as folder:
        use_point(network, table, len(points) - 1)
        blocks = export_blocks(network, description.image_size, folder)
        if table is not None and len(table) > 1:  # the last row is the blocks' own
            np.savez(folder / STATISTICS, **_statistics_arrays(table[:-1]))
        vectors = [gates for _, gates in points]
        gate = _gate_network(network.schedule)
        gate_spec = None if gate is None else export_gate_network(gate, description.image_size, folder)
        _write_golden(folder / GOLDEN, network, description, vectors, table, data, gate)
        light = None
        if data is not None and light_images != 0:
            chosen = data if light_images is None else evenly_spread(data, light_images)
            light = measure_light(network, description, vectors, table, chosen)
            (folder / LIGHT_PICTURE).write_bytes(draw_light_png(light, [u for u, _ in points], name=description.name))
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=description.name,
            task="classification",
            labels=tuple(description.labels),
            input=InputSpec(
                name=blocks[0].input,
                shape=(1, 3, description.image_size, description.image_size),
                short_side=description.short_side,
                mean=_triple(description.mean),
                std=_triple(description.std),
            ),
            output="logits",
            blocks=tuple(blocks),
            gates=tuple(
                GateSpec(name=name, weights=costs)
                for name, costs in network.component_costs(description.image_size).items()
            ),
            operating_points=_operating_points(network, description, points, table, data),
            gate_network=gate_spec,
            light=light,
            files={
                file.relative_to(folder).as_posix(): FileSpec(bytes=file.stat().st_size, sha256=file_sha256(file))
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            },
            licence=licence,
            provenance={"recipe": description.recipe, "training": description.training},
        )
        card = folder / "README.md"
        card.write_text(model_card(manifest, description))
        files = {**manifest.files, card.name: FileSpec(bytes=card.stat().st_size, sha256=file_sha256(card))}
        manifest = manifest.model_copy(update={"files": files})
        (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
        if training is not None and data is not None:
            manifest = add_quantisation(folder, training, data, n_calibration)
    return manifest


def _gate_network(schedule: Schedule) -> GateNetwork | None:
    if not isinstance(schedule, LearnedGates) or schedule.codebook is None:
        return None
    return GateNetwork(schedule.controller, schedule.codebook).eval()


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _statistics_arrays(table: Sequence[Statistics]) -> dict[str, Any]:
    """``<block>/<tensor>`` -> [rows, C], the name that the block's ONNX graph gives the tensor."""
    arrays: dict[str, Any] = {}
    for norm in table[0]:
        owner, _, rest = norm.removeprefix("blocks.").partition(".")
        for i, kind in enumerate(("running_mean", "running_var")):
            arrays[f"{owner}/{rest}.{kind}"] = torch.stack([row[norm][i] for row in table]).numpy()
    return arrays


def _write_golden(
    path: Path,
    network: ThrottleableNetwork,
    description: RunDescription,
    points: Sequence[GateVector],
    table: Sequence[Statistics] | None,
    data: ImageSet | None,
    gate: GateNetwork | None,
) -> None:
    if data is None:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(N_GOLDEN, 3, description.image_size, description.image_size, generator=generator)
    else:
        chosen = data.images[:: max(1, len(data) // N_GOLDEN)][:N_GOLDEN]
        inputs = normalised(chosen, description.mean, description.std)
    outputs = golden_outputs(network, points, table, inputs)
    scores = {} if gate is None else golden_gate(gate, inputs)
    arrays: dict[str, Any] = {"inputs": inputs.numpy(), "outputs": outputs.numpy(), **scores}
    np.savez_compressed(path, **arrays)


def _operating_points(
    network: ThrottleableNetwork,
    description: RunDescription,
    points: Sequence[tuple[float, GateVector]],
    table: Sequence[Statistics] | None,
    data: ImageSet | None,
) -> tuple[OperatingPoint, ...]:
    costs = network.component_costs(description.image_size)
    found: list[OperatingPoint] = []
    for index, (u, gates) in enumerate(points):
        use_point(network, table, index)
        judged = None
        if data is not None:
            judged = evaluate(network, gates, data, mean=description.mean, std=description.std)
        found.append(
            OperatingPoint(
                u=u,
                gates={name: "".join(map(str, bits)) for name, bits in gates.items()},
                utilisation=utilisation(gates, costs),
                macs=network.macs(gates, description.image_size),
                statistics=None if table is None or index == len(points) - 1 else index,
                accuracy=None if judged is None else judged.accuracy,
                confidence=None if judged is None else judged.confidence,
            )
        )
    return tuple(found)
