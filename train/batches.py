"""Shuffled, augmented batches cut from one uint8 tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.plant import ImageSensor
from train.recipe import DataSettings, LightSettings

__all__ = ["augmented", "batches", "seen_by_sensor"]

_SENSOR = ImageSensor()


def augmented(images: Tensor, settings: DataSettings, generator: torch.Generator) -> Tensor:
    """Random crop of the reflected image and random flip, each example its own.

    Args:
        images: uint8, shape [B, 3, H, W].
        settings: padding in pixels, flip or not.
        generator: random source.

    Returns:
        Same shape and dtype.
    """
    batch, _, height, width = images.shape
    pad = settings.crop_padding
    if pad:
        padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect").to(torch.uint8)
        top, left = torch.randint(0, 2 * pad + 1, (2, batch, 1), generator=generator)
        rows = top + torch.arange(height)  # [B, H]
        columns = left + torch.arange(width)  # [B, W]
        example = torch.arange(batch)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if settings.flip:
        flip = torch.rand(batch, generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    return images


def seen_by_sensor(images: Tensor, settings: LightSettings, generator: torch.Generator) -> Tensor:
    """Some of the images as a camera with auto-exposure would see them, each by its own light.

    About 0.4 ms an image of 32 x 32 pixels, on one core.

    Args:
        images: uint8, shape [B, 3, H, W].
        settings: range of light in lux, share of the images.
        generator: random source; one number is drawn from it, which seeds numpy's.

    Returns:
        Same shape and dtype.
    """
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    seen = images.numpy().copy()
    darkest, brightest = np.log(settings.lux)
    for i in np.flatnonzero(rng.random(len(seen)) < settings.share):
        seen[i] = _SENSOR.capture(seen[i], float(np.exp(rng.uniform(darkest, brightest))), rng)
    return torch.from_numpy(seen)


def batches(
    data: ImageSet, settings: DataSettings, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: (images float32 [B, 3, H, W] channels last, targets [B]). A last batch that is not full is dropped."""
    order = torch.randperm(len(data), generator=generator)
    for start in range(0, len(data) - batch_size + 1, batch_size):
        chosen = order[start : start + batch_size]
        images = augmented(data.images[chosen], settings, generator)
        if settings.light is not None:
            images = seen_by_sensor(images, settings.light, generator)
        inputs = normalised(images, settings.mean, settings.std)
        yield inputs.contiguous(memory_format=torch.channels_last), data.targets[chosen]
