"""What the tests run in two processes, and how they start them: with torchrun, or forked, as only one imports PyTorch.

torchrun --standalone --nproc_per_node 2 -m tests.workshop.two_processes FOLDER
python -m tests.workshop.two_processes FOLDER
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional as F

from tnn_edge.nn import ThrottleableNetwork, build_network
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.norm import BatchNorm, frozen_statistics, measure_statistics, read_statistics
from train.image_data import InMemoryImages
from train.processes import Processes, processes
from train.recipe import Recipe
from train.trainer import Trainer

REPOSITORY = Path(__file__).resolve().parents[2]
N_EXAMPLES, N_CHANNELS = 8, 6
GATES = {"stage1_block1": (1, 0, 1, 0), "stage2_block1": (1, 1, 0, 0)}
SIZES = {"channels": [8, 12], "blocks": [1, 1], "component_channels": [2, 3], "n_components": 4}


def torchrun(*program: str, n: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a module, with its arguments, in n processes on the CPU."""
    return run_module("torch.distributed.run", "--standalone", "--nproc_per_node", str(n), "-m", *program)


def run_module(*program: str) -> subprocess.CompletedProcess[str]:
    """Run a module with its arguments; it must end within two minutes."""
    return subprocess.run(
        [sys.executable, "-m", *program],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class NormCase:
    """A pass through one layer, forwards and backwards."""

    dtype: torch.dtype = torch.float64
    channels: Sequence[int] | None = None
    frozen: bool = False
    first: int = N_EXAMPLES // 2
    """Examples of the first process; the second has the others."""
    momentum: float | None = 0.1

    def layer(self) -> BatchNorm:
        norm = BatchNorm(N_CHANNELS, momentum=self.momentum)
        generator = torch.Generator().manual_seed(1)
        assert norm.running_mean is not None and norm.running_var is not None
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5, generator=generator)
        return norm.to(torch.float32 if self.dtype == torch.bfloat16 else self.dtype)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Global batch, whose examples and channels have means and deviations of their own; gradient of its output."""
        generator = torch.Generator().manual_seed(2)
        width = N_CHANNELS if self.channels is None else len(self.channels)
        x, gradient, offset, scale = (
            torch.randn(N_EXAMPLES, width, *size, generator=generator, dtype=torch.float64)
            for size in ((3, 5), (3, 5), (1, 1), (1, 1))
        )
        return (x * (1 + scale.abs()) + 3 * offset).to(self.dtype), gradient.to(self.dtype)


NORM_CASES = {
    "double": NormCase(),
    "single": NormCase(dtype=torch.float32),
    "bfloat16": NormCase(dtype=torch.bfloat16),
    "sliced": NormCase(channels=(4, 0, 3)),
    "frozen": NormCase(frozen=True),
    "uneven": NormCase(first=3),
    "cumulative": NormCase(momentum=None),
}


def run_norm_case(case: NormCase, rank: int) -> dict[str, Tensor]:
    norm, (x, gradient) = case.layer().train(), case.batch()
    part = (slice(0, case.first), slice(case.first, None))[rank]
    x = x[part].requires_grad_()
    with frozen_statistics(norm) if case.frozen else nullcontext():
        y = norm(x, None if case.channels is None else torch.tensor(case.channels))
    y.backward(gradient[part])
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **gradients(norm), **state(norm)}


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {f"gradient.{name}": p.grad for name, p in network.named_parameters() if p.grad is not None}


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def small_network() -> ThrottleableNetwork:
    """In double precision, so that what differs is not rounding; its branches are not zero."""
    torch.manual_seed(3)
    network = build_network("resnext_w", SIZES)
    for norm in (module for module in network.modules() if isinstance(module, BatchNorm)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return network.double().train()


def labelled_images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(N_EXAMPLES, 3, 8, 8, generator=generator, dtype=torch.float64), torch.arange(N_EXAMPLES)


class Step(nn.Module):
    """A labelled pass and a sliced one, as a step of the sandwich has them."""

    def __init__(self, network: ThrottleableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(self.network(x), targets)
        with frozen_statistics(self.network):
            return loss + F.cross_entropy(self.network.sliced(x, GATES), targets)


def run_step(group: Processes) -> dict[str, Tensor]:
    """Gradients and running statistics after one step."""
    network, (x, targets) = small_network(), labelled_images()
    share = group.share(N_EXAMPLES)
    step = group.wrap(Step(network))  # held: what is wrapped exchanges gradients as long as it lives
    loss = step(x[share], targets[share])
    loss.backward()
    return {"loss": group.mean(loss.detach()), **gradients(network), **state(network)}


def measured_by_one() -> dict[str, tuple[Tensor, Tensor]]:
    network, (x, _) = small_network(), labelled_images()
    return measure_statistics(network, (network.sliced(x, GATES) for _ in range(1)), read_statistics(network))


DRAWS: dict[str, dict[str, Any]] = {
    "per_example": {"kind": "per_example", "u": {"kind": "uniform"}},
    "sandwich": {"kind": "sandwich"},
}


def run_training(draw: str, group: Processes) -> dict[str, Tensor]:
    """Loss and accuracy of each epoch, weights and running statistics after the last."""
    recipe = Recipe.model_validate(
        {
            "name": "two_processes",
            "network": {"architecture": "resnext_w", "sizes": {**SIZES, "n_classes": 4}},
            "throttle": {"draw": DRAWS[draw], "statistics": "per_point"},
            "data": {
                "image_size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "crop_padding": 1,
                "light": {"lux": [10.0, 1000.0], "share": 0.5},
            },
            "training": {"epochs": 3, "batch_size": 16, "clip_norm": 5.0, "precision": "fp32"},
            "optimiser": {"kind": "sgd"},
            "learning_rate": {"kind": "warmup_cosine", "highest": 0.05, "warmup_epochs": 1.0},
        }
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(72) % 4
    noise = torch.randint(0, 192, (72, 3, 8, 8), generator=generator)
    tinted = (noise + 20 * targets.view(-1, 1, 1, 1)).to(torch.uint8)
    images = ImageSet(images=tinted, targets=targets, labels=tuple("abcd"), names=("",) * 72)
    torch.manual_seed(0)
    network = build_network(recipe.network.architecture, recipe.network.sizes)
    trainer = Trainer(recipe, network, group)
    results = list(trainer.epochs(InMemoryImages(images, recipe.data), Console(quiet=True), first=0))
    figures = torch.tensor([[result.loss, result.accuracy] for result in results])
    return {"figures": figures, **state(network)}


def main(folder: Path) -> None:
    found: dict[str, Any] = {}
    with suppress(LookupError), processes("cpu") as group:
        found |= {"rank": group.rank, "count": group.count, "device": str(group.device), "is_main": group.is_main}
        x = torch.tensor([1.0, 10.0]) * (group.rank + 1)
        found |= {
            "total": group.total(x),
            "mean": group.mean(x),
            "x": x,
            "right": group.total(torch.tensor(group.rank)),
        }
        found["norms"] = {name: run_norm_case(case, group.rank) for name, case in NORM_CASES.items()}
        found["step"] = run_step(group)
        found["trainings"] = {draw: run_training(draw, group) for draw in DRAWS}
        if group.is_main:
            found["measured"] = measured_by_one()
        group.barrier()
        found["is_joined"] = distributed.is_initialized()
        raise LookupError("what fails inside leaves the group, too")
    found["is_joined_afterwards"] = distributed.is_initialized()
    torch.save(found, folder / f"{found['rank']}.pt")


def forked(rank: int, folder: Path, port: int) -> None:
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in variables.items()}
    main(folder)


def fork_two(folder: Path) -> None:
    """Start `main` in two processes, with torchrun's variables."""
    import torch._dynamo  # noqa: F401  # as every optimiser does: once, before the fork

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    start_processes(forked, (folder, port), nprocs=2, start_method="fork")


if __name__ == "__main__":
    (main if "RANK" in os.environ else fork_two)(Path(sys.argv[1]))
