"""The steps of a training, and its state between two epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from tnn_edge.errors import DatasetError, RunError
from tnn_edge.nn.checkpoint import load_weights, read_checkpoint, write_checkpoint
from tnn_edge.nn.network import ThrottleableNetwork
from train.image_data import TrainingImages
from train.optimisers import load_optimiser_state, optimiser_state
from train.processes import Processes
from train.recipe import Recipe
from train.step import TrainingStep

__all__ = ["DAMAGED_STATE", "DivergedError", "EpochResult", "Trainer", "checked_progress"]


DAMAGED_STATE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What torch and Python raise where a state that was stored is not what it was."""


def checked_progress(progress: Mapping[str, Any]) -> dict[str, Any]:
    """How far a training has come, as it stored it.

    Raises:
        LookupError: it says nothing of epochs.
        ValueError: epochs or minutes are no numbers of at least 0.
    """
    if not isinstance(progress["epochs"], int):
        raise ValueError(f"epochs {progress['epochs']!r}")
    for name, value in progress.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} {value!r}")
    return dict(progress)


class DivergedError(Exception):
    """The loss or a weight is no finite number; the message says which and when."""


@dataclass(frozen=True)
class EpochResult:
    """Means over the steps of an epoch, at the u that were drawn.

    Attributes:
        epoch: counted from 0.
        loss: sum of the losses of a step's passes.
        accuracy: of the labelled pass.
    """

    epoch: int
    loss: float
    accuracy: float


class Trainer:
    """One network in training, in one of the processes.

    Everything that is drawn comes from `generator`, which is in the same state in every process: that state, the
    weights and what the optimiser has gathered are all that the next epoch depends on.
    """

    def __init__(self, recipe: Recipe, network: ThrottleableNetwork, processes: Processes) -> None:
        self.recipe = recipe
        self.processes = processes
        self.network = network.to(processes.device).to(memory_format=torch.channels_last)
        self.optimiser = recipe.optimiser.build(self.network)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self._autocast = _uses_bf16(recipe.training.precision, processes.device)

    def save(self, run: Path, progress: dict[str, Any]) -> None:
        """Write the checkpoint."""
        extra = {**optimiser_state(self.network, self.optimiser), "generator": self.generator.get_state()}
        write_checkpoint(run, self.network, extra=extra, progress=progress)

    def restore(self, run: Path) -> dict[str, Any]:
        """Go back to the checkpoint; its progress.

        Raises:
            RunError: it is damaged, or is that of another network.
        """
        weights, extra, progress = read_checkpoint(run)
        load_weights(self.network, weights, f"{run}: the checkpoint", "the recipe's network")
        try:
            load_optimiser_state(self.network, self.optimiser, extra)
            self.generator.set_state(extra["generator"])
            return checked_progress(progress)
        except DAMAGED_STATE as err:
            raise RunError(f"{run}: the checkpoint lacks what resuming needs, or holds it damaged ({err!r})") from err

    def epochs(self, data: TrainingImages, console: Console, *, first: int) -> Iterator[EpochResult]:
        """Train, and hand over to the caller after every epoch.

        Args:
            data: training images, at least a batch (`check_batch`).
            console: shows the progress.
            first: epoch to begin with, counted from 0.

        Raises:
            DivergedError: the loss or a weight is no finite number.
        """
        settings = self.recipe.training
        n_steps = len(data) // settings.batch_size
        module = self.processes.wrap(TrainingStep(self.network, label_smoothing=settings.label_smoothing))
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        with (
            Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar,
            warnings.catch_warnings(),
        ):
            # A 1x1 kernel in channels_last order has two descriptions of one layout; torch takes them for two layouts.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            task = bar.add_task("train", total=settings.epochs * n_steps, completed=first * n_steps, epoch=first)
            for epoch in range(first, settings.epochs):
                self.network.train()
                self._seed_dropout(epoch)
                loss = accuracy = 0.0
                batches = data.batches(epoch, settings.batch_size, self.generator, self.processes)
                for i, (images, targets) in enumerate(batches):
                    self._set_rate(self.recipe.learning_rate.at(epoch * n_steps + i, n_steps, settings.epochs))
                    step_loss, step_accuracy = self._step(module, epoch, images, targets)
                    if not math.isfinite(step_loss):
                        raise DivergedError(
                            f"the loss is {step_loss:g} in epoch {epoch + 1}, step {i + 1} of {n_steps}"
                        )
                    loss += step_loss / n_steps
                    accuracy += step_accuracy / n_steps
                    bar.update(task, advance=1, epoch=epoch + 1)
                self._check_weights(epoch)
                yield EpochResult(epoch, loss, accuracy)

    def check_batch(self, n_images: int) -> None:
        """Make sure that there is a step to take, before anything is written.

        Raises:
            DatasetError: there are fewer images than a batch.
            RunError: the processes cannot share a batch evenly.
        """
        size = self.recipe.training.batch_size
        self.processes.share(size)
        if n_images < size:
            raise DatasetError(f"{n_images} training images do not fill one batch of {size}; set a smaller batch_size")

    def _seed_dropout(self, epoch: int) -> None:
        """What a layer draws by itself is a function of the epoch, so that a resumed training draws the same."""
        seeds = np.random.SeedSequence((self.recipe.seed % 2**64, epoch, self.processes.rank))
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _step(self, module: nn.Module, epoch: int, images: Tensor, targets: Tensor) -> tuple[float, float]:
        """One step over this process's part of a batch; loss and accuracy over the whole batch."""
        training, device = self.recipe.training, self.processes.device
        draw, batch_size = self.recipe.throttle.draw, training.batch_size
        gates = draw.gates(self.network.schedule, batch_size, epoch, self.generator)
        images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        self.optimiser.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast):
            loss, logits = module(images, targets, gates.part(self.processes.share(batch_size), device))
        loss.backward()
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), training.clip_norm)
        self.optimiser.step()
        is_right = (logits.argmax(dim=1) == targets).float()
        means: list[float] = self.processes.mean(torch.stack([loss.detach(), is_right.mean()])).tolist()
        return means[0], means[1]

    def _check_weights(self, epoch: int) -> None:
        """A loss that is finite in the last step may have left weights that are not."""
        for name, tensor in self.network.state_dict().items():
            if not tensor.isfinite().all():
                raise DivergedError(f"{name} is not finite after epoch {epoch + 1}")


def _uses_bf16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags  # elsewhere oneDNN emulates bf16, slower than fp32
