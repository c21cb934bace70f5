"""Everything that decides the training of a gate, but the network and the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tnn_edge.errors import RunError
from tnn_edge.nn.controller import CONTROLLERS
from train.cost_weights import Costs
from train.estimators import ESTIMATORS
from train.optimisers import Adam, Sgd
from train.penalty import Penalty
from train.settings import LARGEST

__all__ = ["GateSettings"]

_OPTIMISERS: Mapping[str, Adam | Sgd] = {
    "reinforce": Adam(weight_decay=0.0),
    "concrete": Sgd(momentum=0.9, nesterov=False, weight_decay=0.0),
}


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Phase 2 of the paper's training (appendix A.1).

    Attributes:
        method: ``reinforce`` (Adam) or ``concrete`` (SGD with momentum .9 as in phase 1: the paper names none, but on a
            loss whose best gates are known, 48 components at the paper's rate had won 94 % of what can be won over
            random gates after 16,000 steps, and 53 % without).
        controller: ``blind`` or ``contextual``.
        penalty: what utilisation costs.
        costs: by which utilisation is weighted.
        epochs: passes over the images.
        batch_size: images of a step.
        learning_rate: constant.
        images: how many training images are used; None for all.
        held_out: images kept for the table at the end.
        starts_anew: from a random order in which components open, instead of the gate that the run has learned.
        seed: of everything that is drawn.
    """

    method: Literal["reinforce", "concrete"] = "reinforce"
    controller: Literal["blind", "contextual"] = "blind"
    penalty: Penalty
    costs: Costs
    epochs: int = 150
    batch_size: int = 128
    learning_rate: float = 1e-3
    images: int | None = None
    held_out: int
    starts_anew: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ESTIMATORS:
            raise RunError(f"method must be one of {', '.join(ESTIMATORS)}, got {self.method!r}")
        if self.controller not in CONTROLLERS:
            raise RunError(f"controller must be one of {', '.join(CONTROLLERS)}, got {self.controller!r}")
        if not 0.0 < self.learning_rate <= LARGEST:
            raise RunError(f"learning rate must be finite and above 0, got {self.learning_rate:g}")
        if not -(2**63) <= self.seed < 2**63:
            raise RunError(f"seed must be a number of 64 bits, got {self.seed}")
        for name in ("epochs", "batch_size", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RunError(f"{name} must be at least 1, got {value}")

    @property
    def optimiser(self) -> Adam | Sgd:
        """The method's."""
        return _OPTIMISERS[self.method]

    def record(self) -> dict[str, Any]:
        """As JSON gives them back, for the run's files."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields
