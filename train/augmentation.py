"""Training images made new for every epoch: cropped and flipped, and seen by a sensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tnn_edge.plant import ImageSensor
from train.processes import ALONE, Processes
from train.recipe import DataSettings, LightSettings

__all__ = ["augmented", "perhaps_seen_by_sensor", "seen_by_sensor"]

_SENSOR = ImageSensor()


def augmented(
    images: Tensor, settings: DataSettings, generator: torch.Generator, processes: Processes = ALONE
) -> Tensor:
    """Random crop of the reflected image and random flip, each example its own.

    Args:
        images: this process's part of a global batch, uint8, shape [B, 3, H, W].
        settings: padding in pixels, flip or not.
        generator: random source; what is drawn from it is drawn for the global batch.
        processes: those that share the batch.

    Returns:
        Same shape and dtype.
    """
    batch, _, height, width = images.shape
    everyone = batch * processes.count
    share, pad = processes.share(everyone), settings.crop_padding
    if pad:
        padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect").to(torch.uint8)
        top, left = torch.randint(0, 2 * pad + 1, (2, everyone, 1), generator=generator)[:, share]
        rows = top + torch.arange(height)  # [B, H]
        columns = left + torch.arange(width)  # [B, W]
        example = torch.arange(batch)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if settings.flip:
        flip = torch.rand(everyone, generator=generator)[share] < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    return images


def perhaps_seen_by_sensor(
    image: npt.NDArray[np.uint8], settings: LightSettings, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """An image, or that image as a camera with auto-exposure would see it by a random light. Shape [3, H, W]."""
    if rng.random() >= settings.share:
        return image
    darkest, brightest = np.log(settings.lux)
    return _SENSOR.capture(image, float(np.exp(rng.uniform(darkest, brightest))), rng)


def seen_by_sensor(
    images: Tensor, settings: LightSettings, generator: torch.Generator, processes: Processes = ALONE
) -> Tensor:
    """Some of the images as the sensor would see them, each by its own light.

    About 0.4 ms an image of 32 x 32 pixels, on one core.

    Args:
        images: this process's part of a global batch, uint8, shape [B, 3, H, W].
        settings: range of light in lux, share of the images.
        generator: random source; a seed is drawn from it for each image of the global batch.
        processes: those that share the batch.

    Returns:
        Same shape and dtype.
    """
    everyone = len(images) * processes.count
    seeds = torch.randint(2**63 - 1, (everyone,), generator=generator)[processes.share(everyone)]
    seen = [
        perhaps_seen_by_sensor(image, settings, np.random.default_rng(seed))
        for image, seed in zip(images.numpy(), seeds.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(seen))
