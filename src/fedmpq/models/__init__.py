"""Networks: the CIFAR ResNets of the paper, or a factory of the user's own."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedmpq.errors import UserError
from fedmpq.extension import load, one_line
from fedmpq.models.resnet import ResNet
from fedmpq.seeding import forked_rng

KEY = "model.network"


def build_model(name: str, classes: int, image_size: int, seed: int = 0) -> nn.Module:
    """A network with initial weights that depend on `seed` alone.

    Args:
        name: `resnet<6n+2>` (resnet8, resnet20, resnet44, ...), or `package.module:factory`, called
            as `factory(classes, image_size)` for a module from images (N, 3, size, size) to logits
            (N, classes).
        classes: number of classes.
        image_size: side of the images in pixels.
        seed: of the initial weights.

    Raises:
        UserError: there is no such network or factory, it fails, or what it returns is no module of this kind.
    """
    factory = _factory(name)
    with forked_rng(seed, "initial weights"):
        try:
            model = factory(classes, image_size)
        except Exception as error:  # a factory of the user's own may raise anything
            raise UserError(f"{KEY}: {name}({classes}, {image_size}) fails: {one_line(error)}") from error
        if not isinstance(model, nn.Module):
            raise UserError(f"{KEY}: {name!r} returns {type(model).__name__}; allowed: a torch.nn.Module")
        _try(model, name, classes, image_size)
    return model


def _factory(name: str) -> Callable[[int, int], nn.Module]:
    if match := re.fullmatch(r"resnet(\d+)", name):
        depth = int(match[1])
        if depth < 8 or depth % 6 != 2:
            raise UserError(f"{KEY}: {name!r} is not allowed; allowed: resnet8, resnet14, resnet20, .. (6n+2)")
        return lambda classes, image_size: ResNet(depth, classes)
    if ":" not in name:
        raise UserError(f"{KEY}: {name!r} is not allowed; allowed: resnet<6n+2> or package.module:factory")
    return load(name, KEY)


def _try(model: nn.Module, name: str, classes: int, image_size: int) -> None:
    """Let two images pass: lazy layers get their shapes, and logits of a wrong shape are noticed."""
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, 3, image_size, image_size))
    except Exception as error:
        raise UserError(
            f"{KEY}: {name!r} fails on images of 3 x {image_size} x {image_size}: {one_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{KEY}: {name!r} gives {found} for 2 images; allowed: logits (2, {classes})")
    model.train()
