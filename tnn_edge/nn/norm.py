"""Batch normalisation that can be sliced, and whose statistics can be measured and exchanged.

Passes at different u give a layer different statistics. Where a training step mixes such passes, only the pass at
u = 1 may update the running statistics (`frozen_statistics` around the others), and each operating point gets
statistics of its own (`measure_statistics`, `load_statistics`).

Where several processes train, a layer in training normalises by the global batch, so that they train as one would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.global_batch import global_batch_norm, is_shared_by_processes

__all__ = ["BatchNorm", "Statistics", "frozen_statistics", "load_statistics", "measure_statistics", "read_statistics"]

Statistics = Mapping[str, tuple[Tensor, Tensor]]
"""Normalisation layer -> (mean [C], variance [C])."""


class BatchNorm(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over all channels or over the channels that are on.

    Attributes:
        updates_statistics: whether passes in training update the running statistics.
        is_synchronised: whether passes in training normalise by the batch of all processes; then each of them must run
            the pass.
    """

    updates_statistics: bool = True
    is_synchronised: bool = True

    def forward(self, x: Tensor, channels: Tensor | None = None) -> Tensor:
        """Normalise x.

        Args:
            x: shape [B, C, H, W], or [B, len(channels), H, W].
            channels: indices of the channels that x holds; None for all of them.
        """
        if self.training and self.is_synchronised and is_shared_by_processes():
            return self._by_the_global_batch(x, channels)
        if channels is None and (self.updates_statistics or not self.training):
            return super().forward(x)
        weight, bias = self._affine(channels)
        if self.training:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        assert self.running_mean is not None and self.running_var is not None
        return F.batch_norm(x, self.running_mean[channels], self.running_var[channels], weight, bias, eps=self.eps)

    def _affine(self, channels: Tensor | None) -> tuple[Tensor, Tensor]:
        return (self.weight, self.bias) if channels is None else (self.weight[channels], self.bias[channels])

    def _by_the_global_batch(self, x: Tensor, channels: Tensor | None) -> Tensor:
        weight, bias = self._affine(channels)
        y, mean, unbiased_var = global_batch_norm(x, weight, bias, self.eps)
        if channels is None and self.updates_statistics:
            self._update(mean, unbiased_var)
        return y

    @torch.no_grad()
    def _update(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """As `torch.nn.BatchNorm2d` does for the batch of one process."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), share)


def _norms(network: nn.Module) -> dict[str, BatchNorm]:
    return {name: module for name, module in network.named_modules() if isinstance(module, BatchNorm)}


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within it, training passes normalise by their batch and leave the running statistics alone."""
    norms = _norms(network).values()
    for norm in norms:
        norm.updates_statistics = False
    try:
        yield
    finally:
        for norm in norms:
            norm.updates_statistics = True


@contextmanager
def _unsynchronised(network: nn.Module) -> Iterator[None]:
    norms = _norms(network).values()
    for norm in norms:
        norm.is_synchronised = False
    try:
        yield
    finally:
        for norm in norms:
            norm.is_synchronised = True


def read_statistics(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """The running statistics, copied."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, norm in _norms(network).items():
        assert norm.running_mean is not None and norm.running_var is not None
        found[name] = (norm.running_mean.clone(), norm.running_var.clone())
    return found


def load_statistics(network: nn.Module, statistics: Statistics) -> None:
    """Make `statistics` the running statistics; layers it does not name keep theirs."""
    norms = _norms(network)
    for name, (mean, var) in statistics.items():
        norm = norms[name]
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)


class _Moments:
    """Mean and variance per channel over everything seen, full width; channels never seen keep the start values."""

    def __init__(self, mean: Tensor, var: Tensor) -> None:
        self.mean, self.var = mean.double(), var.double()
        self.count = torch.zeros_like(self.mean)
        self.total = torch.zeros_like(self.mean)
        self.squares = torch.zeros_like(self.mean)

    def add(self, x: Tensor, channels: Tensor | None) -> None:
        where = torch.arange(x.shape[1]) if channels is None else channels
        flat = x.detach().double().transpose(0, 1).flatten(1)  # [C, B * H * W]
        self.count[where] += flat.shape[1]
        self.total[where] += flat.sum(dim=1)
        self.squares[where] += flat.square().sum(dim=1)

    def result(self) -> tuple[Tensor, Tensor]:
        seen = self.count > 0
        count = self.count.clamp(min=1.0)
        mean = self.total / count
        var = (self.squares / count - mean.square()).clamp(min=0.0)
        return torch.where(seen, mean, self.mean).float(), torch.where(seen, var, self.var).float()


@torch.no_grad()
def measure_statistics(
    network: nn.Module, passes: Iterable[Any], start: Statistics
) -> dict[str, tuple[Tensor, Tensor]]:
    """Statistics of every normalisation layer over some passes, each pass normalised by its own batch.

    One process measures alone, whether others train with it or not.

    Args:
        network: put into training mode for the passes and back; its running statistics do not change.
        passes: running through it runs the network, batch by batch.
        start: values for channels that no pass reaches.

    Returns:
        Layer -> (mean [C], variance [C]); the variance is the population's, as inference uses it.
    """
    moments = {name: _Moments(*start[name]) for name in _norms(network)}
    was_training = network.training
    handles = [
        norm.register_forward_pre_hook(
            lambda _, args, kwargs, m=moments[name]: m.add(
                args[0], args[1] if len(args) > 1 else kwargs.get("channels")
            ),
            with_kwargs=True,
        )
        for name, norm in _norms(network).items()
    ]
    try:
        network.train()
        with frozen_statistics(network), _unsynchronised(network):
            for _ in passes:
                pass
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return {name: moment.result() for name, moment in moments.items()}
