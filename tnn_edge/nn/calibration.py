"""How far a network's confidence is from its accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["N_BINS", "expected_calibration_error"]

N_BINS = 15
"""Guo et al. use as many."""


def expected_calibration_error(confidence: Tensor, is_right: Tensor, n_bins: int = N_BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, each weighted by its images.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (2017), equation 3. Bin i is
    (i / n_bins, (i + 1) / n_bins].

    Args:
        confidence: largest softmax of each image, in (0, 1], shape [N], N >= 1.
        is_right: whether the answer is right, shape [N].
        n_bins: number of bins.
    """
    edges = torch.linspace(0.0, 1.0, n_bins + 1, dtype=torch.float64)
    bins = torch.bucketize(confidence.double(), edges[1:-1])
    excess = torch.zeros(n_bins, dtype=torch.float64)
    excess.index_add_(0, bins, confidence.double() - is_right.double())
    return float(excess.abs().sum()) / len(confidence)
