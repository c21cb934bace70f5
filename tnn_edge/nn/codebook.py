"""The few gate vectors that a contextual gate may choose from.

A controller that looks at the image could ask for any of 2^n gate vectors; a device holds plans for some. So the
answers to many images over the whole dial are clustered, and an answer is snapped to the code of largest likelihood:

    log Pr(code) = sum_i code_i * logit_i + sum_i log(1 - p_i)

The second sum is the same for every code: the snap is the arg max of ``codes @ logits``, a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tnn_edge.nn.components import Components

__all__ = ["MAX_CODES", "Codebook", "build_codebook"]

MAX_CODES = 32
_MAX_ROUNDS = 100  # each raises the likelihood; in practice a dozen do
_MAX_CANDIDATES = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Gate vectors by the dial setting at which they are typically chosen.

    Attributes:
        codes: 0/1, shape [K, n], float32, K <= 32; all different.
        shares: share of the calibration's answers that chose each, in (0, 1], shape [K]; they sum to 1.
    """

    codes: Tensor
    shares: Tensor

    def snapped(self, logits: Tensor) -> Tensor:
        """Index of the most likely code for each row; the first among equals. Shape [B, n] -> [B]."""
        return (logits @ self.codes.T).argmax(dim=1)

    @property
    def dial(self) -> list[float]:
        """Where each code begins when the dial is turned without a look at the image; starts at 0 and rises.

        Every code gets as long a stretch of the dial as it has a share, in the order of the settings at which it was
        chosen: over the whole dial each is then used as often as with the image.
        """
        return [0.0, *self.shares.double().cumsum(0)[:-1].tolist()]


def build_codebook(logits: Tensor, u: Tensor, components: Components, *, weights: Tensor | None = None) -> Codebook:
    """Cluster a controller's answers: k-modes with the likelihood as similarity.

    Seeds are taken greedily from the commonest thresholded answers: the likelihood of the likeliest code is submodular
    in the set of codes, so that is within 1 - 1/e of the best set (Nemhauser, Wolsey & Fisher, 1978); seeds drawn as in
    k-means++ came out behind the commonest answers as they stand. Rounds then alternate choosing the likeliest code and
    making each code the likeliest vector of those that chose it, until nobody changes.

    Args:
        logits: answers, shape [P, n].
        u: the dial setting of each, shape [P].
        components: of the network; codes keep on what must be on.
        weights: of each answer, shape [P]; None for all alike.
    """
    weights = torch.ones(len(u)) if weights is None else weights
    codes = _seeds(logits, components, weights)
    chosen = (logits @ codes.T).argmax(dim=1)
    for _ in range(_MAX_ROUNDS):
        codes = torch.unique(components.thresholded(_totals(logits, chosen, weights, len(codes))), dim=0)
        before, chosen = chosen, (logits @ codes.T).argmax(dim=1)
        if torch.equal(before, chosen):
            break
    totals = torch.zeros(len(codes)).index_add_(0, chosen, weights)
    mean_u = torch.zeros(len(codes)).index_add_(0, chosen, weights * u) / totals
    used = [i for i in range(len(codes)) if totals[i] > 0]  # who loses an unused code, keeps the same answer
    used.sort(key=lambda i: (float(mean_u[i]), float(codes[i].sum())))
    return Codebook(codes=codes[used], shares=totals[used] / totals.sum())


def _totals(logits: Tensor, chosen: Tensor, weights: Tensor, n_codes: int) -> Tensor:
    """Weighted sum of the answers that chose each code that was chosen, shape [K', n]."""
    sums = logits.new_zeros(n_codes, logits.shape[1]).index_add_(0, chosen, logits * weights[:, None])
    return sums[chosen.unique()]


def _seeds(logits: Tensor, components: Components, weights: Tensor) -> Tensor:
    """One code after the other, always the one that raises the likelihood most."""
    vectors, index = torch.unique(components.thresholded(logits), dim=0, return_inverse=True)
    commonness = torch.zeros(len(vectors)).index_add_(0, index, weights)
    candidates = vectors[commonness.argsort(descending=True, stable=True)[:_MAX_CANDIDATES]]
    scores = logits @ candidates.T  # [P, candidates]
    taken = [int((weights @ scores).argmax())]
    while len(taken) < min(MAX_CODES, len(candidates)):
        reached = scores[:, taken].max(dim=1, keepdim=True).values
        gain = weights @ (scores - reached).clamp(min=0.0)
        gain[taken] = 0.0
        if not float(gain.max()) > 0:
            break
        taken.append(int(gain.argmax()))
    codes: Tensor = candidates[taken]
    return codes
