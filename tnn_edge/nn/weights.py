"""Weights from elsewhere: a library's plain network is a throttleable one at u = 1, under other names.

What a network's module in `tnn_edge.nn.networks` may say about the library's counterpart, and needs not:

``LIBRARY_MODELS``
    Name of a library model -> sizes that build it here, without `n_classes`. Weights by name are fetched for these.
``library_names(network)``
    State-dict name in the library -> ours, for every tensor of `network`, whatever its sizes; ``num_batches_tracked``
    may be left out. A tensor may have several names in the library, the one that messages use first.

A network without them starts from weights under its own names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tnn_edge.errors import RunError
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.packaged_weights import packaged_weights
from tnn_edge.nn.registry import build_network, network_module
from tnn_edge.nn.weight_source import WEIGHT_SUFFIXES, fetch_weights, read_weights
from tnn_edge.printable import printable

__all__ = ["NO_WEIGHTS", "load_library_weights"]

NO_WEIGHTS = "none"
_CLASSIFIER = ("head.classifier.weight", "head.classifier.bias")
_UNUSED = "num_batches_tracked"
_WRAPPERS = ("network.", "module.")
"""Before every name in the checkpoint of a run, and in that of a network trained in parallel."""


def load_library_weights(
    network: ThrottleableNetwork, architecture: str, sizes: Mapping[str, Any], source: str
) -> tuple[str, ...]:
    """Start a network from weights, in the names of the library's plain network or in ours.

    The network is changed only if all of them fit.

    Args:
        network: whose parameters and statistics are replaced.
        architecture: its name in `tnn_edge.nn.registry.ARCHITECTURES`.
        sizes: what it was built with.
        source: ``none``; a name that torchvision has for the model that these sizes are, such as ``IMAGENET1K_V1``; or
            a file: safetensors, or a state dict that torch saved, alone or as ``state_dict`` or ``model`` of a
            checkpoint.

    Returns:
        Our names of tensors that keep their initialisation: those of the classifier where the weights are for another
        number of classes, none otherwise.

    Raises:
        RunError: the source is missing, damaged, holds more than tensors or cannot be fetched; the weights are those of
            another network, or not finite; weights by name for sizes that are no library model.
    """
    if source == NO_WEIGHTS:
        return ()
    path = Path(source)
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        path = packaged_weights(source) or path
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        found = _unwrapped(read_weights(path))
    else:
        found = fetch_weights(_model_to_fetch(network, architecture, sizes, source), source)
    fit = _fit(network, architecture, found)
    if faults := "; ".join(fit.faults()):
        model = _library_model(network, architecture, sizes) or f"{architecture} with {_written(sizes)}"
        raise RunError(f"{source} does not hold the weights of {model}: {faults}")
    if strange := [name for name, tensor in fit.tensors.items() if not _is_finite(tensor)]:
        raise RunError(f"{source} holds weights that are no finite numbers: {_some(strange)}")
    network.load_state_dict(fit.tensors, strict=False)
    return fit.kept


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """How some weights fit a network.

    Attributes:
        tensors: what fits, under our names.
        kept: our names of the classifier's tensors where the weights have another number of classes.
        missing: tensors of the network that the weights lack, under the names that the weights use.
        left_over: tensors of the weights for which the network has no place.
        misshapen: those of another shape, with both shapes.
    """

    tensors: Mapping[str, Tensor]
    kept: tuple[str, ...]
    missing: Sequence[str]
    left_over: Sequence[str]
    misshapen: Sequence[str]

    def faults(self) -> Iterator[str]:
        for names, fault in (
            (self.missing, "missing"),
            (self.left_over, "left over"),
            (self.misshapen, "of another shape"),
        ):
            if names:
                yield f"{len(names)} {fault} ({_some(names)})"


def _fit(network: ThrottleableNetwork, architecture: str, found: Mapping[str, Tensor]) -> _Fit:
    ours = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_UNUSED)}
    found = {name: tensor for name, tensor in found.items() if not name.endswith(_UNUSED)}
    place = _places(network, architecture, ours, found)
    tensors = {place[name]: tensor for name, tensor in found.items() if name in place}
    kept = _other_classes(ours, tensors)
    theirs: dict[str, str] = {}
    for name, our_name in place.items():
        theirs.setdefault(our_name, name)
    return _Fit(
        tensors={name: tensor for name, tensor in tensors.items() if name not in kept},
        kept=kept,
        missing=[theirs.get(name, name) for name in ours if name not in tensors],
        left_over=[name for name in found if name not in place],
        misshapen=[
            f"{theirs[name]} {list(tensor.shape)}, not {list(ours[name].shape)}"
            for name, tensor in tensors.items()
            if name not in kept and tensor.shape != ours[name].shape
        ],
    )


def _places(
    network: ThrottleableNetwork, architecture: str, ours: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> dict[str, str]:
    """Name in the weights -> ours, by the library's names or by our own, whichever more of the weights have."""
    own = {name: name for name in ours}
    module = network_module(architecture)
    if not hasattr(module, "library_names"):
        return own
    library = {theirs: name for theirs, name in module.library_names(network).items() if name in own}
    return max(library, own, key=lambda names: len(names.keys() & found.keys()))


def _other_classes(ours: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The classifier's tensors where they differ in the number of classes and in nothing else."""
    if not all(name in tensors and tensors[name].ndim == ours[name].ndim for name in _CLASSIFIER):
        return ()
    n_classes = {tensors[name].shape[0] for name in _CLASSIFIER}
    differ = n_classes.isdisjoint(ours[name].shape[0] for name in _CLASSIFIER)
    same_inputs = all(tensors[name].shape[1:] == ours[name].shape[1:] for name in _CLASSIFIER)
    return _CLASSIFIER if differ and same_inputs and len(n_classes) == 1 else ()


def _unwrapped(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network alone; a run's checkpoint holds more."""
    for prefix in _WRAPPERS:
        if inner := {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}:
            return inner
    return found


def _models(architecture: str) -> Mapping[str, Mapping[str, Any]]:
    models: Mapping[str, Mapping[str, Any]] = getattr(network_module(architecture), "LIBRARY_MODELS", {})
    return models


def _library_model(network: ThrottleableNetwork, architecture: str, sizes: Mapping[str, Any]) -> str | None:
    """The library model with the tensors that the network has, the classifier's aside; None where there is none."""
    shapes = _shapes(network)
    for model, its in _models(architecture).items():
        if any(json.dumps(sizes[name]) != json.dumps(its[name]) for name in sizes.keys() & its.keys()):
            continue
        with torch.device("meta"):  # the shapes decide; the sizes spare building most of them
            if _shapes(build_network(architecture, its)) == shapes:
                return model
    return None


def _shapes(network: ThrottleableNetwork) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items() if name not in _CLASSIFIER}


def _model_to_fetch(network: ThrottleableNetwork, architecture: str, sizes: Mapping[str, Any], source: str) -> str:
    if model := _library_model(network, architecture, sizes):
        return model
    library = [f"\n  {name}: {_written(its_sizes)}" for name, its_sizes in _models(architecture).items()]
    raise RunError(
        f"there are no weights named {source!r} for {architecture} with {_written(sizes)}, which is no library model; "
        f"name a file ({', '.join(WEIGHT_SUFFIXES)}) or {NO_WEIGHTS!r}"
        + (f", or choose the sizes of a library model:{''.join(library)}" if library else "")
    )


def _written(sizes: Mapping[str, Any]) -> str:
    """Sizes as a recipe has them."""
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in sizes.items())


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.float()).all())


def _some(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(map(printable, names[:n])) + (", ..." if len(names) > n else "")
