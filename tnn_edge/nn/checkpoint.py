"""The folder of a training run, readable without unpickling anything.

``run.json`` describes the network and how it was trained; ``checkpoint.safetensors`` holds its weights and what
resuming needs; ``statistics.safetensors`` holds the normalisation statistics of each operating point where the
recipe asks for them.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tnn_edge.errors import RunError
from tnn_edge.nn.components import Components
from tnn_edge.nn.gate_file import load_gates
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics, load_statistics, read_statistics
from tnn_edge.nn.registry import build_network
from tnn_edge.whole_file import make_folder

__all__ = [
    "RunDescription",
    "has_checkpoint",
    "holds_run",
    "load_network",
    "load_weights",
    "operating_points",
    "point_at",
    "read_checkpoint",
    "read_run",
    "read_statistics_table",
    "use_point",
    "write_checkpoint",
    "write_run",
    "write_statistics_table",
]

FORMAT = 1
_RUN, _CHECKPOINT, _STATISTICS = "run.json", "checkpoint.safetensors", "statistics.safetensors"
_NETWORK = "network."


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What one needs to rebuild, feed and judge the network of a run.

    Attributes:
        name: the recipe's name.
        architecture: a name in `tnn_edge.nn.registry.ARCHITECTURES`.
        sizes: keyword arguments of the architecture.
        labels: class names in the order of the logits.
        image_size: height and width of the input.
        short_side: images are resized to it and their centre is cut out; None: they are stretched to image_size.
        mean: per RGB channel, of pixels scaled to [0, 1].
        std: likewise.
        statistics: ``shared`` by all operating points, or measured ``per_point``.
        recipe: the recipe as read, for the record.
        training: what happened: epochs, minutes, machine, data.
    """

    name: str
    architecture: str
    sizes: Mapping[str, Any]
    labels: Sequence[str]
    image_size: Annotated[int, Field(gt=0)]
    mean: Annotated[Sequence[float], Field(min_length=3, max_length=3)]
    std: Annotated[Sequence[float], Field(min_length=3, max_length=3)]
    statistics: Literal["shared", "per_point"]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    short_side: int | None = None


_DESCRIPTION = TypeAdapter(RunDescription)


def _replace(path: Path, write: Any) -> None:
    """Write a file so that the final name never holds half of it."""
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    except (OSError, SafetensorError) as err:
        why = getattr(err, "strerror", None) or err
        raise RunError(f"{path} cannot be written ({why}); make room for it or choose another folder") from err
    finally:
        partial.unlink(missing_ok=True)


def holds_run(folder: Path) -> bool:
    """Whether a run has begun in a folder.

    Raises:
        RunError: nobody may look there.
    """
    try:
        return (folder / _RUN).exists()
    except OSError as err:
        raise RunError(f"cannot look into {folder} ({err.strerror}); choose another folder") from err


def write_run(run: Path, description: RunDescription) -> None:
    """Store the description of a run."""
    text = json.dumps({"format": FORMAT, **asdict(description)}, indent=1)
    _replace(run / _RUN, lambda path: path.write_text(text + "\n"))


def read_run(run: Path) -> RunDescription:
    """Read the description of a run.

    Raises:
        RunError: there is none, or it was written by another version.
    """
    path = run / _RUN
    try:
        text = path.read_text()
        fields = json.loads(text)
        version = fields.pop("format")
        if version != FORMAT:
            raise RunError(f"{path}: format {version}, this version reads format {FORMAT}")
        description = RunDescription(**fields)
        _DESCRIPTION.validate_json(text, strict=True)
    except FileNotFoundError as err:
        raise RunError(f"{run} is not a training run: {_RUN} is missing; train one with train.classifier") from err
    except RunError:
        raise
    except ValidationError as err:
        fault = err.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RunError(f"{path}: damaged: {where}: {fault['msg']}; train the run again") from err
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{path}: cannot be read ({err})") from err
    return description


def write_checkpoint(
    run: Path, network: ThrottleableNetwork, *, extra: Mapping[str, Tensor], progress: Mapping[str, Any]
) -> None:
    """Store the weights, further tensors and a JSON-able record of progress, as one file.

    Statistics of the operating points that lie there go: they are those of other weights.
    """
    tensors = {_NETWORK + name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    tensors |= {name: tensor.contiguous() for name, tensor in extra.items()}
    metadata = {"progress": json.dumps(dict(progress))}

    def write(path: Path) -> None:
        save_file(tensors, str(path), metadata=metadata)
        (run / _STATISTICS).unlink(missing_ok=True)

    _replace(run / _CHECKPOINT, write)


def has_checkpoint(run: Path) -> bool:
    """Whether the run has finished an epoch."""
    return (run / _CHECKPOINT).is_file()


def read_checkpoint(run: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights by state-dict name, further tensors, progress.

    Raises:
        RunError: there is no checkpoint, or it is damaged.
    """
    path = run / _CHECKPOINT
    if not has_checkpoint(run):
        raise RunError(f"{run} holds no checkpoint yet ({_CHECKPOINT} is missing); train.classifier --resume makes one")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            progress = dict(json.loads(file.metadata()["progress"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as err:
        raise RunError(f"{path}: damaged checkpoint ({err})") from err
    weights = {name.removeprefix(_NETWORK): t for name, t in tensors.items() if name.startswith(_NETWORK)}
    extra = {name: t for name, t in tensors.items() if not name.startswith(_NETWORK)}
    return weights, extra, progress


def load_weights(network: ThrottleableNetwork, weights: Mapping[str, Tensor], source: str, owner: str) -> None:
    """Give a network exactly the tensors that it has.

    Args:
        network: whose weights are replaced.
        weights: by state-dict name.
        source: where they are from, for the error.
        owner: which network, for the error.

    Raises:
        RunError: tensors are missing, left over or of another shape.
    """
    own = network.state_dict()
    faults = {
        "missing": [name for name in own if name not in weights],
        "left over": [name for name in weights if name not in own],
        "of another shape": [name for name in own if name in weights and own[name].shape != weights[name].shape],
    }
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {fault}, such as {names[0]}" for fault, names in faults.items() if names)
        raise RunError(f"{source} does not fit {owner}: {told}")
    network.load_state_dict(weights)


def load_network(run: Path) -> ThrottleableNetwork:
    """The trained network of a run, in evaluation mode, with its learned gates where it has some.

    Raises:
        RunError: the run is incomplete or its weights do not fit its description.
    """
    description = read_run(run)
    network = build_network(description.architecture, description.sizes)
    load_weights(network, read_checkpoint(run)[0], f"{run}: the checkpoint", f"the network that {_RUN} describes")
    gates = load_gates(run, Components.of(network.schedule))
    if gates is not None:
        network.schedule = gates
    return network.eval()


def operating_points(description: RunDescription, network: ThrottleableNetwork) -> list[tuple[float, GateVector]]:
    """The operating points of a run's network: its recipe says how many, and of which draw."""
    recipe = description.recipe
    try:
        seed, n_points = recipe.get("seed", 0), recipe.get("throttle", {}).get("points")
        return network.schedule.operating_points(seed, n_points)
    except (AttributeError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as err:
        raise RunError(
            f"the recipe in {_RUN} of {description.name} has a damaged seed or throttle.points: {err}"
        ) from err


def point_at(points: Sequence[tuple[float, GateVector]], u: float) -> int:
    """Which of the operating points u selects: the last that opens at or below it."""
    return bisect_right(points, u, key=lambda point: point[0]) - 1


def write_statistics_table(run: Path, table: Sequence[Statistics]) -> None:
    """Store one set of statistics per operating point, u rising."""
    tensors = {
        f"{norm}.{kind}": torch.stack([row[norm][i] for row in table])
        for norm in table[0]
        for i, kind in enumerate(("mean", "var"))
    }
    _replace(run / _STATISTICS, lambda path: save_file(tensors, str(path)))


def read_statistics_table(run: Path, network: ThrottleableNetwork) -> list[Statistics] | None:
    """The statistics of each operating point, u rising; None where all share the checkpoint's, or there are none.

    Raises:
        RunError: the recipe asks for statistics per point and the run holds none, or others.
    """
    description, own = read_run(run), read_statistics(network)
    if description.statistics == "shared" or not own:
        return None
    path = run / _STATISTICS
    if not path.is_file():
        raise RunError(f"{run}: {_STATISTICS} is missing; finish the training (--resume) to make it")
    n_points = len(operating_points(description, network))
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as err:
        raise RunError(f"{path}: damaged ({err})") from err
    shapes = {f"{norm}.{kind}": (n_points, *mean.shape) for norm, (mean, _) in own.items() for kind in ("mean", "var")}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise RunError(
            f"{path}: does not hold the {n_points} operating points of the network; delete it and resume the training"
        )
    return [{norm: (tensors[f"{norm}.mean"][i], tensors[f"{norm}.var"][i]) for norm in own} for i in range(n_points)]


def use_point(network: ThrottleableNetwork, table: Sequence[Statistics] | None, point: int) -> None:
    """Give the network the statistics of one operating point, if points have their own."""
    if table is not None:
        load_statistics(network, table[point])
