"""Batch normalisation by the batch of all processes that train together (`torch.distributed`, any back end).

`torch.nn.SyncBatchNorm` is not used: it runs on GPUs alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

__all__ = ["global_batch_norm", "is_shared_by_processes"]


def is_shared_by_processes() -> bool:
    """Whether this process is one of several that train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def global_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise this process's part of a batch by the moments of the whole; every process must call it.

    Args:
        x: shape [b, C, H, W]; b may differ between processes.
        weight: shape [C].
        bias: shape [C].
        eps: added to the variance.

    Returns:
        The normalised part, like x; mean and unbiased variance of the whole, float64, shape [C], without a gradient.
    """
    y, mean, unbiased_var = _GlobalBatchNorm.apply(x, weight, bias, eps)
    return y, mean, unbiased_var


def _total(x: Tensor) -> Tensor:
    """Sum over the processes, in place."""
    distributed.all_reduce(x)
    return x


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and population variance per channel, and number of values a channel, over all processes: float64.

    One exchange: the processes' own moments become sums in double precision, in which a difference of squares does not
    lose what single precision held.
    """
    var, mean = (moment.double() for moment in torch.var_mean(x, dim=(0, 2, 3), correction=0))
    n = torch.full((1,), x.shape[0] * x.shape[2] * x.shape[3], dtype=torch.float64, device=x.device)
    n, total, squares = _total(torch.cat([n, n * mean, n * (var + mean.square())])).split([1, *[x.shape[1]] * 2])
    mean = total / n
    return mean, (squares / n - mean.square()).clamp(min=0.0), n


def _standardised(x: Tensor, mean: Tensor, per_deviation: Tensor, dtype: torch.dtype) -> Tensor:
    return (x.to(dtype) - mean.to(dtype)[:, None, None]) * per_deviation.to(dtype)[:, None, None]


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch normalisation by the moments of the global batch (Ioffe & Szegedy, 2015, section 3).

    Every process's x reaches every process's loss, through the moments. The gradient with respect to x is that of the
    sum of the losses; those with respect to weight and bias are this process's part of it, as for any parameter.
    Arithmetic is in the weight's dtype: under autocast x may be bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, var, n = _global_moments(x.to(weight.dtype))
        per_deviation = torch.rsqrt(var + eps)
        unbiased_var = var * (n / (n - 1))
        ctx.save_for_backward(x, weight, mean, per_deviation, n)
        ctx.mark_non_differentiable(mean, unbiased_var)
        normed = _standardised(x, mean, per_deviation, weight.dtype)
        return torch.addcmul(bias[:, None, None], normed, weight[:, None, None]).to(x.dtype), mean, unbiased_var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, per_deviation, n = ctx.saved_tensors
        dy = gradients[0].to(weight.dtype)
        normed = _standardised(x, mean, per_deviation, weight.dtype)
        d_bias, d_weight = dy.sum(dim=(0, 2, 3)), (dy * normed).sum(dim=(0, 2, 3))
        through_mean, through_var = (_total(torch.stack([d_bias, d_weight]).double()) / n).to(weight.dtype)
        centred = dy - through_mean[:, None, None] - normed * through_var[:, None, None]
        dx = centred * (weight * per_deviation.to(weight.dtype))[:, None, None]
        return dx.to(x.dtype), d_weight, d_bias, None
