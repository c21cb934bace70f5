"""The network that a training starts from."""

from __future__ import annotations

import torch

from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.registry import build_network
from tnn_edge.nn.weights import load_library_weights
from train.recipe import Recipe

__all__ = ["load_start_weights", "random_network"]


def random_network(recipe: Recipe) -> ThrottleableNetwork:
    """The recipe's network with random weights, which its seed decides.

    Raises:
        RunError: there is no such network.
    """
    torch.manual_seed(recipe.seed)
    return build_network(recipe.network.architecture, recipe.network.sizes)


def load_start_weights(network: ThrottleableNetwork, recipe: Recipe) -> tuple[str, ...]:
    """Give the network the weights that the recipe starts from.

    Returns:
        Names of the tensors that keep their random values, because the weights are for another number of classes.

    Raises:
        RunError: they cannot be had, or are those of another network.
    """
    settings = recipe.network
    return load_library_weights(network, settings.architecture, settings.sizes, settings.weights)
