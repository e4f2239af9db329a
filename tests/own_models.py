"""Networks of one's own that are unlike the CIFAR ResNets, and some that fail; worker processes import them too."""

import torch
from torch import nn
from torchvision.models import VisionTransformer


class Repeated(nn.Module):
    """One module under two names, and another's weight under a third."""

    def __init__(self, classes, image_size):
        super().__init__()
        self.first = nn.Linear(3 * image_size**2, 16)
        self.inner = nn.Linear(16, 16)
        self.again = self.inner
        self.tied = nn.Linear(16, 16)
        self.tied.weight = self.inner.weight
        self.relu = nn.ReLU()
        self.last = nn.Linear(16, classes)

    def forward(self, images):
        """Logits."""
        signal = self.relu(self.first(images.flatten(1)))
        for layer in (self.inner, self.again, self.tied):
            signal = self.relu(layer(signal))
        return self.last(signal)


class Sequences(nn.Module):
    """Rows of an image as a sequence: Conv1d, an embedding of positions, attention, ConvTranspose, Conv3d."""

    def __init__(self, classes, image_size):
        super().__init__()
        self.rows = nn.Conv1d(3 * image_size, 8, 1)
        self.positions = nn.Embedding(image_size, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(8, 8, 2)
        self.volume = nn.Conv3d(1, 1, 1)
        self.gelu = nn.GELU()
        self.last = nn.Linear(8, classes)

    def forward(self, images):
        """Logits."""
        rows = self.rows(images.permute(0, 1, 2, 3).flatten(1, 2)).transpose(1, 2)
        signal = rows + self.positions(torch.arange(rows.shape[1], device=rows.device))
        signal = self.gelu(self.attention(signal, signal, signal, need_weights=False)[0])
        signal = self.volume(self.up(signal.transpose(1, 2))[:, None, None])[:, 0, 0]
        return self.last(self.gelu(signal).mean(2))


def transformer(classes, image_size):
    """A small ViT."""
    return VisionTransformer(image_size, image_size // 2, 2, 2, 16, 32, num_classes=classes)


def activated(layer):
    """A factory of a small network whose activation is `layer`."""

    def build(classes, image_size):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 16), layer(), nn.Linear(16, classes))

    return build


silu, gelu, relu6, hardswish = (activated(layer) for layer in (nn.SiLU, nn.GELU, nn.ReLU6, nn.Hardswish))


def lazy(classes, image_size):
    """Layers that learn their shapes from the first images."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(classes))


def raising(classes, image_size):
    """Fails."""
    raise KeyError("no such\nwidth")


def alone():
    """A wrong signature."""
    return nn.Identity()


def wide(classes, image_size):
    """More outputs than classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 2 * classes))


def pair(classes, image_size):
    """Two outputs."""

    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    return Pair()


def large_only(classes, image_size):
    """Needs larger images."""
    return nn.Sequential(nn.Conv2d(3, 4, 64), nn.Flatten(), nn.Linear(4, classes))


number = 3


class Odd(nn.Module):
    """Of one operator that ONNX has not."""

    def __init__(self, classes, image_size):
        super().__init__()
        self.last = nn.Linear(3 * image_size**2, classes)

    def forward(self, images):
        """Logits."""
        return self.last(torch.special.i0(images).flatten(1))


class Branching(Odd):
    """What it computes depends on the values, which no graph says."""

    def forward(self, images):
        """Logits."""
        return self.last(images.flatten(1) if images.sum() > 0 else -images.flatten(1))
