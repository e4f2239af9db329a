"""Networks as a user of the project would bring them, for tests; worker processes import them too."""

import torch
from torch import Tensor, nn


def linear(classes, image_size):
    """One fully connected layer without bias: nothing but quantized weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, classes, bias=False))


def perceptron(classes, image_size):
    """Fully connected layers only."""
    inputs = 3 * image_size**2
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes))


def normed(classes, image_size):
    """Fully connected layers with batch norm."""
    inputs = 3 * image_size**2
    layers = [nn.Linear(inputs, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes)]
    return nn.Sequential(nn.Flatten(), *layers)


def cumulative(classes, image_size):
    """Batch norm whose statistics are the mean over all batches, of which it keeps count."""
    model = normed(classes, image_size)
    model[2] = nn.BatchNorm1d(16, momentum=None)
    return model


def dropped(classes, image_size):
    """Dropout draws from torch's global generator."""
    inputs = 3 * image_size**2
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(inputs, classes))


def convolutional(classes, image_size):
    """A convolution with a bias, batch norm and pooling."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def tied(classes, image_size):
    """Two layers that share their weights."""
    first, second = nn.Linear(16, 16), nn.Linear(16, 16)
    second.weight = first.weight
    inputs = 3 * image_size**2
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), first, nn.ReLU(), second, nn.Linear(16, classes)
    )


def no_layers(classes, image_size):
    """Nothing that could be quantized."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3))


def number(classes, image_size):
    """What is no network."""
    return 7


class Broken(nn.Module):
    """A network with a fault in its program that shows while it trains."""

    def __init__(self, classes: int, image_size: int):
        super().__init__()
        self.inner = perceptron(classes, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or an error."""
        if self.training:
            raise ArithmeticError("a fault of the program")
        return self.inner(images)


def broken(classes, image_size):
    """See `Broken`."""
    return Broken(classes, image_size)


class Fragile(nn.Module):
    """A network whose logits are not numbers where it trains on an image of pure white; its weights stay finite."""

    def __init__(self, classes: int, image_size: int):
        super().__init__()
        self.inner = perceptron(classes, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits = self.inner(images)
        return torch.where(is_white(images)[:, None], float("nan"), logits) if self.training else logits


def fragile(classes, image_size):
    """See `Fragile`."""
    return Fragile(classes, image_size)


def is_white(images):
    """Which of the normalized images are white, that is, brighter than the mean everywhere, by far."""
    return images.amin((1, 2, 3)) > 1.5
