"""Layers of networks, for results that are made up: name and number of weights of each."""


def layers(depth: int) -> dict[str, int]:
    """Name and number of weights of each layer of a CIFAR ResNet."""
    widths = [16, 32, 64]
    per_stage = (depth - 2) // 3
    sizes, incoming = {"conv1": 3 * 16 * 9}, 16
    for index in range(3 * per_stage):
        width = widths[index // per_stage]
        sizes[f"conv{index + 2}"] = incoming * width * 9
        incoming = width
    return sizes | {"fc": 640}


def transformer(depth: int) -> dict[str, int]:
    """Name and number of weights of each layer of a small ViT, named as torchvision does."""
    sizes = {"conv_proj": 3 * 16 * 16 * 384}
    for index in range(depth):
        block = f"encoder.layers.encoder_layer_{index}"
        sizes |= {f"{block}.self_attention.in_proj": 3 * 384**2, f"{block}.self_attention.out_proj": 384**2}
        sizes |= {f"{block}.mlp.0": 4 * 384**2, f"{block}.mlp.3": 4 * 384**2}
    return sizes | {"heads.head": 384 * 100}
