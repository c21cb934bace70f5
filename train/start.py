"""The network that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.models import ResNet50_Weights

from tnn_edge.errors import DatasetError, RunError
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.registry import build_network
from tnn_edge.nn.weight_source import WEIGHT_SUFFIXES
from tnn_edge.nn.weights import NO_WEIGHTS, load_library_weights
from tnn_edge.printable import UNPRINTABLE, printable
from train.recipe import Recipe

__all__ = ["check_classes", "class_names", "load_start_weights", "random_network"]


def random_network(recipe: Recipe) -> ThrottleableNetwork:
    """The recipe's network with random weights, which its seed decides.

    Raises:
        RunError: there is no such network, or it cannot read images of the recipe's size.
    """
    settings = recipe.network
    _check_image_size(settings.architecture, settings.sizes, recipe.data.image_size)
    torch.manual_seed(recipe.seed)
    return build_network(settings.architecture, settings.sizes)


def _check_image_size(architecture: str, sizes: Mapping[str, Any], image_size: int) -> None:
    """Send an image through a copy of the network that has shapes alone."""
    with torch.device("meta"):
        network = build_network(architecture, sizes).eval()
        try:
            network(torch.empty(1, 3, image_size, image_size))
        except RuntimeError as err:
            raise RunError(
                f"{architecture} with these sizes cannot read images of {image_size} x {image_size} pixels "
                f"({str(err).splitlines()[0]}); choose another image_size, or sizes that fit it"
            ) from err


def load_start_weights(network: ThrottleableNetwork, recipe: Recipe) -> tuple[str, ...]:
    """Give the network the weights that the recipe starts from.

    Returns:
        Names of the tensors that keep their random values, because the weights are for another number of classes.

    Raises:
        RunError: they cannot be had, or are those of another network.
    """
    settings = recipe.network
    return load_library_weights(network, settings.architecture, settings.sizes, settings.weights)


def check_classes(network: ThrottleableNetwork, labels: Sequence[str]) -> None:
    """Make sure that the network has a logit for each class of the data.

    Raises:
        DatasetError: it has not, or a class has a name that no bundle can hold.
    """
    if strange := [label for label in labels if UNPRINTABLE.search(label)]:
        raise DatasetError(f"class name {printable(strange[0])} holds an unprintable character; rename its folder")
    if network.n_classes != len(labels):
        raise DatasetError(f"the recipe's network has {network.n_classes} classes, the data {len(labels)}")


def class_names(recipe: Recipe, n_classes: int) -> tuple[str, ...]:
    """Names for classes that no data names: ImageNet's where library weights have as many, else numbers."""
    weights = recipe.network.weights
    names: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    if weights != NO_WEIGHTS and Path(weights).suffix.lower() not in WEIGHT_SUFFIXES and n_classes == len(names):
        return tuple(names)
    return tuple(f"class {i}" for i in range(n_classes))
