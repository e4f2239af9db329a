"""Networks: the CIFAR ResNets of the paper, or a factory of the user's own."""

import importlib
import re
from collections.abc import Callable

from torch import nn

from fedmpq.errors import UserError
from fedmpq.models.resnet import ResNet
from fedmpq.seeding import forked_rng

Factory = Callable[[int, int], nn.Module]


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
        UserError: there is no such network or factory, or the factory returns no module.
    """
    factory = _factory(name)
    with forked_rng(seed, "initial weights"):
        model = factory(classes, image_size)
    if not isinstance(model, nn.Module):
        raise UserError(f"model: {name!r} returns {type(model).__name__}; allowed: a torch.nn.Module")
    return model


def _factory(name: str) -> Factory:
    if match := re.fullmatch(r"resnet(\d+)", name):
        depth = int(match[1])
        if depth < 8 or depth % 6 != 2:
            raise UserError(f"model: {name!r} is not allowed; allowed: resnet8, resnet14, resnet20, .. (6n+2)")
        return lambda classes, image_size: ResNet(depth, classes)
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise UserError(f"model: {name!r} is not allowed; allowed: resnet<6n+2> or package.module:factory")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"model: cannot import {name!r}: {error}") from error
    if not callable(factory):
        raise UserError(f"model: {name!r} is a {type(factory).__name__}; allowed: a function or class to call")
    return factory
