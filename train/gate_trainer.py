"""The epochs of a gate's training, and its state between two of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from tnn_edge.errors import DatasetError, RunError
from tnn_edge.nn.codebook import Codebook, build_codebook
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import Controller
from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.gate_file import GateFile
from tnn_edge.nn.learned_gates import N_POINTS
from tnn_edge.nn.network import ThrottleableNetwork
from train.estimators import ESTIMATORS
from train.gate_settings import GateSettings
from train.gate_step import GateStep, Judged, fixed_data_path
from train.image_data import TrainingImages
from train.optimisers import load_optimiser_state, optimiser_state
from train.processes import ALONE
from train.recipe import DataSettings
from train.trainer import DAMAGED_STATE, DivergedError, checked_progress

__all__ = ["GateEpoch", "GateTrainer", "QuarterOfDial"]

_QUARTERS = 4


@dataclass(frozen=True, kw_only=True)
class QuarterOfDial:
    """Means over the draws of an epoch whose u fell into one quarter of the dial."""

    loss: float
    accuracy: float
    utilisation: float


@dataclass(frozen=True, kw_only=True)
class GateEpoch:
    """What an epoch gave.

    Attributes:
        epoch: counted from 0.
        loss: mean of the task's loss over all draws.
        quarters: of the dial, lowest u first; None where no u fell.
    """

    epoch: int
    loss: float
    quarters: tuple[QuarterOfDial | None, ...]


class GateTrainer:
    """One controller in training.

    Everything that is drawn comes from `generator`: its state, the controller and what the optimiser has gathered are
    all that the next epoch depends on.

    Args:
        settings: of the training.
        network: whose gates are trained.
        controller: what learns.
        by_batch: whether the network normalises by the batch. Then all examples of a batch have one u: statistics over
            a mixture of settings are those of no operating point.
    """

    def __init__(
        self, settings: GateSettings, network: ThrottleableNetwork, controller: Controller, *, by_batch: bool
    ) -> None:
        self.settings = settings
        self.components = Components.of(network.schedule)
        self.controller = controller.train()
        self.by_batch = by_batch
        self.optimiser = settings.optimiser.build(controller)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._step = GateStep(
            network=network.to(memory_format=torch.channels_last),
            controller=controller,
            components=self.components,
            costs=self.components.row(settings.costs),
            penalty=settings.penalty,
            estimator=ESTIMATORS[settings.method],
        )

    def state(self, progress: dict[str, Any], codebook: Codebook | None = None) -> GateFile:
        """For the run's folder."""
        return GateFile(
            components=self.components,
            controller=self.controller,
            codebook=codebook,
            settings=self.settings.record(),
            progress=progress,
            training={**optimiser_state(self.controller, self.optimiser), "generator": self.generator.get_state()},
        )

    def restore(self, gate: GateFile, where: Path) -> dict[str, Any]:
        """Go back to what `state` took; its progress.

        Args:
            gate: of this network and kind.
            where: it was read, for the error.

        Raises:
            RunError: it is damaged.
        """
        try:
            self.controller.load_state_dict(gate.controller.state_dict())
            load_optimiser_state(self.controller, self.optimiser, gate.training)
            self.generator.set_state(gate.training["generator"])
            return checked_progress(gate.progress)
        except DAMAGED_STATE as err:
            raise RunError(f"{where}: the gate lacks what resuming needs, or holds it damaged ({err!r})") from err

    def check_batch(self, n_images: int) -> None:
        """Make sure that there is a step to take, before anything is written.

        Raises:
            DatasetError: there are fewer images than a batch.
        """
        size = self.settings.batch_size
        if n_images < size:
            raise DatasetError(f"{n_images} training images do not fill one batch of {size}; pass a smaller one")

    def epochs(self, data: TrainingImages, console: Console, *, first: int) -> Iterator[GateEpoch]:
        """Train, and hand over to the caller after every epoch.

        Args:
            data: training images, at least a batch (`check_batch`).
            console: shows the progress.
            first: epoch to begin with, counted from 0.

        Raises:
            DivergedError: the loss or a weight of the controller is no finite number.
        """
        n_epochs, batch_size = self.settings.epochs, self.settings.batch_size
        n_steps = len(data) // batch_size
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        with (
            Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar,
            fixed_data_path(self._step.network, by_batch=self.by_batch),
        ):
            task = bar.add_task("train", total=n_epochs * n_steps, completed=first * n_steps, epoch=first)
            for epoch in range(first, n_epochs):
                draws: list[Judged] = []
                batches = data.batches(epoch, batch_size, self.generator, ALONE)
                for i, (images, targets) in enumerate(batches):
                    drawn = self._learn(images, targets, epoch + i / n_steps)
                    loss = float(torch.stack([each.loss.mean() for each in drawn]).mean())
                    if not math.isfinite(loss):
                        raise DivergedError(f"the loss is {loss:g} in epoch {epoch + 1}, step {i + 1} of {n_steps}")
                    draws += drawn
                    bar.update(task, advance=1, epoch=epoch + 1)
                self._check_weights(epoch)
                yield _summary(epoch, draws)

    def _learn(self, images: Tensor, targets: Tensor, epoch: float) -> list[Judged]:
        n = len(images)
        u = torch.rand(1 if self.by_batch else n, generator=self.generator).expand(n)
        self.optimiser.zero_grad()
        surrogate, draws = self._step(images, targets, u, epoch=epoch, generator=self.generator)
        surrogate.backward()
        self.optimiser.step()
        return draws

    def _check_weights(self, epoch: int) -> None:
        for name, parameter in self.controller.named_parameters():
            if not parameter.isfinite().all():
                raise DivergedError(f"{name} of the controller is not finite after epoch {epoch + 1}")

    @torch.no_grad()
    def codebook(self, images: ImageSet, settings: DataSettings) -> Codebook | None:
        """Cluster a contextual controller's answers to images at 17 settings of the dial; None for a blind one."""
        if not self.controller.reads_images:
            return None
        x = normalised(images.images, settings.mean, settings.std)
        dial = [i / (N_POINTS - 1) for i in range(N_POINTS)]
        logits = torch.cat([self.controller(torch.full((len(x),), u), x) for u in dial])
        u = torch.tensor(dial).repeat_interleave(len(x))
        weights = torch.where(
            (u == 0.0) | (u == 1.0), 0.5, 1.0
        )  # the ends stand for half as long a stretch of the dial
        return build_codebook(logits, u, self.components, weights=weights)


def _summary(epoch: int, draws: Sequence[Judged]) -> GateEpoch:
    u, loss, is_right, utilisation = (
        torch.cat([getattr(each, name) for each in draws]).double() for name in ("u", "loss", "is_right", "utilisation")
    )
    quarter = (u * _QUARTERS).long().clamp(max=_QUARTERS - 1)
    quarters = []
    for index in range(_QUARTERS):
        mine = quarter == index
        quarters.append(
            QuarterOfDial(
                loss=float(loss[mine].mean()),
                accuracy=float(is_right[mine].mean()),
                utilisation=float(utilisation[mine].mean()),
            )
            if mine.any()
            else None
        )
    return GateEpoch(epoch=epoch, loss=float(loss.mean()), quarters=tuple(quarters))
