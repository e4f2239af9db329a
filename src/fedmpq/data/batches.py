"""Batches of images that stay uint8 on the device until they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmpq.seeding import torch_generator


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (N, H, W, 3) as float (N, 3, H, W), channels last in memory.

    `mean` and `std` (3,) are of the training set, in units of the full range 0 .. 1.
    """
    scale = 1 / (255 * std)
    return (images * scale - mean / std).permute(0, 3, 1, 2)


@dataclass(eq=False)
class Batches:
    """One client's images in a new order each epoch; each pass over this object is an epoch.

    Args:
        images, labels: (N, H, W, 3), uint8, and (N,), int64.
        size: images in a batch. The last one of an epoch may be smaller; a single image left over joins the one before,
            since batch norm has no deviation of one.
        mean, std: (3,), see `normalize`.
        key: what the order depends on, e.g. (seed, "batches", round, client).
        flip: mirror each image with probability 1/2.
        crop_padding: pad by so many black pixels on each side and crop at random; 0: off.
    """

    images: Tensor
    labels: Tensor
    size: int
    mean: Tensor
    std: Tensor
    key: tuple[int | str, ...]
    flip: bool = False
    crop_padding: int = 0

    def __post_init__(self) -> None:
        self.generator = torch_generator(*self.key)

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.labels.device)
        for chosen in order.split(self._sizes()):
            images = self._augment(self.images[chosen])
            yield normalize(images, self.mean, self.std), self.labels[chosen]

    def _sizes(self) -> list[int]:
        whole, rest = divmod(len(self.labels), self.size)
        sizes = [self.size] * whole + [rest] * (rest > 0)
        if rest == 1 and whole:
            sizes[-2:] = [self.size + 1]
        return sizes

    def _augment(self, images: Tensor) -> Tensor:
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, self.generator)
        if self.flip:
            mirrored = torch.rand(len(images), generator=self.generator) < 0.5
            images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(2), images)
        return images


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each of `images` (N, H, W, 3), padded with zeros on all sides and cropped to its size at random."""
    count, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    return padded[torch.arange(count, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
