"""Optimisers: tables of a recipe, told apart by their `kind`, that build a `torch.optim.Optimizer`; and their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from train.settings import LARGEST, Settings

__all__ = ["Adam", "Optimiser", "Sgd", "load_optimiser_state", "optimiser_state"]

_PREFIX = "optimiser."
_Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on the weights of convolutions and classifiers, not on normalisation and bias."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Sgd(Settings):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    momentum: _Fraction = 0.9
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0.0, le=LARGEST)
    """On tensors of more than one axis: not on normalisation and bias."""

    @model_validator(mode="after")
    def _check_nesterov(self) -> Sgd:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0; set nesterov = false")
        return self

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """For the parameters of a module; the learning rate is 0 until a schedule sets it."""
        groups = _groups(module, self.weight_decay)
        return torch.optim.SGD(groups, lr=0.0, momentum=self.momentum, nesterov=self.nesterov)


class Adam(Settings):
    """Adam (Kingma & Ba, 2015)."""

    kind: Literal["adam"] = "adam"
    betas: tuple[_Fraction, _Fraction] = (0.9, 0.999)
    """Decay of the mean of the gradient and of the mean of its square."""
    weight_decay: float = Field(default=0.0, ge=0.0, le=LARGEST)
    """Added to the gradient, on tensors of more than one axis: not on normalisation and bias."""

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """For the parameters of a module; the learning rate is 0 until a schedule sets it."""
        return torch.optim.Adam(_groups(module, self.weight_decay), lr=0.0, betas=self.betas)


Optimiser = Annotated[Sgd | Adam, Field(discriminator="kind")]
"""What a recipe may write for `[optimiser]`; a further optimiser is a class with its own `kind`, listed here."""


def _parameters(module: nn.Module, optimiser: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """Name and parameter at each index of the optimiser's state dictionary."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [(names[id(p)], p) for group in optimiser.param_groups for p in group["params"]]


def optimiser_state(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that an optimiser has gathered, for a checkpoint: ``optimiser.<kind of state>.<parameter>`` -> tensor."""
    parameters = _parameters(module, optimiser)
    return {
        f"{_PREFIX}{kind}.{parameters[index][0]}": tensor
        for index, gathered in optimiser.state_dict()["state"].items()
        for kind, tensor in gathered.items()
        if tensor is not None  # plain SGD has no momentum
    }


def load_optimiser_state(module: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser what `optimiser_state` took; other tensors are passed over."""
    parameters = _parameters(module, optimiser)
    index = {name: i for i, (name, _) in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, stored in tensors.items():
        if not key.startswith(_PREFIX):
            continue
        kind, _, name = key.removeprefix(_PREFIX).partition(".")
        parameter, tensor = parameters[index[name]][1], stored
        if stored.shape == parameter.shape:  # in the parameter's memory order, as an uninterrupted training has it
            tensor = torch.empty_like(parameter, device=stored.device).copy_(stored)
        state.setdefault(index[name], {})[kind] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
