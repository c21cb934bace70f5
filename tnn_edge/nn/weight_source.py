"""Where weights come from: a file, or torchvision by name. Nothing that a file holds is run."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tnn_edge.errors import RunError
from tnn_edge.printable import printable

__all__ = ["WEIGHT_SUFFIXES", "fetch_weights", "read_weights"]

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
_FILE_INSTEAD = f"a file of weights ends in {', '.join(WEIGHT_SUFFIXES)}"
_STATE_DICTS = ("state_dict", "model")
"""What a checkpoint that holds more calls its state dict."""
_DAMAGE = (AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, UnpicklingError, ValueError)
"""What torch raises while it reads a file that is none of its own, or half of one."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: with one of `WEIGHT_SUFFIXES`.

    Raises:
        RunError: there is no such file; it is damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise RunError(f"there is no file {path} to read weights from")
    try:
        is_torch = path.suffix.lower() != ".safetensors"
        found = torch.load(path, map_location="cpu", weights_only=True) if is_torch else load_file(path)
    except (*_DAMAGE, SafetensorError) as err:
        raise RunError(f"{path}: {_fault(err)}") from err
    return _state_dict(found, str(path))


def _fault(err: Exception) -> str:
    """What is wrong with a file, in one line."""
    if isinstance(err, UnpicklingError) and (culprit := re.search(r"GLOBAL (\S+)", str(err))):
        return f"holds {printable(culprit[1])} beside tensors, which is not loaded; save the model's state_dict() alone"
    # Other errors speak of torch's inside, and UnpicklingError advises to run what the file holds.
    speaks = isinstance(err, (OSError, RuntimeError, SafetensorError)) and bool(str(err))
    reason = printable(str(err).splitlines()[0]) if speaks else "damaged, or of another kind"
    return f"cannot be read as weights ({reason})"


def _state_dict(found: Any, where: str) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        inner = (found[key] for key in _STATE_DICTS if isinstance(found.get(key), Mapping))
        found = next(inner, found)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise RunError(f"{where}: holds no state dict; save the model's state_dict()")
    for name, tensor in found.items():
        if not isinstance(tensor, Tensor) or not _is_plain(tensor):
            raise RunError(f"{where}: {printable(name)} is no plain tensor; save the model's state_dict() alone")
    return dict(found)


def _is_plain(tensor: Tensor) -> bool:
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_dense and not tensor.is_quantized and not tensor.is_complex()


def fetch_weights(model: str, name: str) -> dict[str, Tensor]:
    """Weights that torchvision publishes, from torch's cache or from the network.

    Args:
        model: a classification model.
        name: of its weights, such as ``IMAGENET1K_V1``.

    Raises:
        RunError: torchvision has none of that name, they cannot be fetched, or what the cache holds is damaged.
    """
    from torchvision.models import get_model_weights, list_models

    if model not in list_models():
        raise RunError(f"torchvision has no {model}, so no weights named {name!r}; {_FILE_INSTEAD}")
    published = get_model_weights(model)
    if name not in published.__members__:
        known = ", ".join(weights.name for weights in published)
        raise RunError(f"{model} has no weights named {name!r}; it has {known}; {_FILE_INSTEAD}")
    weights = published[name]
    cached = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(weights.url).path).name)
    try:
        found = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    except (*_DAMAGE, HTTPException) as err:
        if cached.is_file():
            raise RunError(f"{cached}: {_fault(err)}; delete it, and it is fetched anew") from err
        raise RunError(
            f"cannot fetch {weights.url} into {cached.parent} ({err}); fetch it elsewhere and name the file"
        ) from err
    return _state_dict(found, str(cached))
