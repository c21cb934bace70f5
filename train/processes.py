"""The processes of one training: started by torchrun, one for each GPU, or one alone.

    torchrun --nproc_per_node N -m train.classifier ...

Every process holds the whole network and this process's share of each global batch. Gradients, and the statistics of
the batch normalisation (`tnn_edge.nn.norm`), are those of the global batch, so that N processes train as one does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tnn_edge.errors import RunError

__all__ = ["ALONE", "Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process and how many there are.

    Attributes:
        rank: of this process, from 0.
        count: of all processes, on all machines.
        device: where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of a global batch of n.

        Raises:
            RunError: n cannot be divided evenly.
        """
        if n % self.count:
            raise RunError(f"a batch of {n} cannot be divided among {self.count} processes; choose a multiple")
        part = n // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the processes, without a gradient: the same bits in each of them, on the device of x."""
        if self.count == 1:
            return x
        summed = x.detach().to(self.device, copy=True)  # nccl knows the GPU alone
        distributed.all_reduce(summed)
        return summed.to(x.device)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the processes, as `total`."""
        return x if self.count == 1 else self.total(x) / self.count

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            distributed.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients that are averaged over the processes; the module itself where there is one.

        Its buffers are sent round, too, which changes nothing: batch normalisation computes them alike everywhere.
        """
        return DistributedDataParallel(module) if self.count > 1 else module


ALONE = Processes(0, 1, torch.device("cpu"))
"""One process on the CPU."""


@contextmanager
def processes(device: str | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: ``cpu``, ``cuda``, or for one process ``cuda:N``; None is CUDA where there is a GPU. Processes talk by
            gloo on the CPU, by nccl on GPUs, of which each process of a machine takes its own.

    Raises:
        RunError: the device is not there, or torchrun's variables are incomplete.
    """
    count = _variable("WORLD_SIZE", default="1")
    if count == 1:
        yield Processes(0, 1, _device(device, None))
        return
    rank, chosen = _variable("RANK"), _device(device, _variable("LOCAL_RANK"))
    on_gpu = chosen.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(chosen)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        timeout=timedelta(hours=2),  # the others wait while the main process evaluates or measures statistics
        device_id=chosen if on_gpu else None,
    )
    try:
        yield Processes(rank, count, chosen)
    finally:
        distributed.destroy_process_group()


def _variable(name: str, default: str | None = None) -> int:
    value = os.environ.get(name, default)
    if value is None or not value.isdecimal():
        found = "is missing" if value is None else f"is {value!r}, not a number"
        raise RunError(f"environment variable {name} {found}; start several processes with torchrun")
    return int(value)


def _device(name: str | None, local_rank: int | None) -> torch.device:
    n_gpus = torch.cuda.device_count()
    try:
        asked = torch.device(("cuda" if n_gpus else "cpu") if name is None else name)
    except RuntimeError as err:
        raise RunError(f"device must be cpu or cuda, got {name!r}") from err
    if asked.type == "cpu":
        return torch.device("cpu")
    if asked.type != "cuda":
        raise RunError(f"device must be cpu or cuda, got {name!r}")
    if local_rank is not None and asked.index is not None:
        raise RunError(f"several processes take a GPU each; pass device 'cuda' instead of {name!r}")
    index = (local_rank or 0) if asked.index is None else asked.index
    if index >= n_gpus:
        raise RunError(f"device cuda:{index} is not there: this machine has {n_gpus} GPUs; pass device 'cpu'")
    return torch.device("cuda", index)
