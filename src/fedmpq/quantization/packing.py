"""Codes of b bits as bytes, b for each 8 codes, and back.

A code is cut into fields of 1, 2, 4 and 8 bits, as the binary digits of b say, from its least
significant bit: 7 bits are a field of 1, one of 2 and one of 4. Bytes are made by operations on
parts of long vectors: of n codes, byte i of the 4-bit fields holds those of the codes i and
n/2 + i, and byte i of the 2-bit fields those of i, n/2 + i, n/4 + i and 3n/4 + i; the fields of
1 bit stand as numpy packs them. That takes half the time of packing bit plane by bit plane.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
MOST_BITS = 8
"""Of a code."""


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return bits * -(-count // 8)


def pack(codes: Bytes, bits: int) -> bytes:
    """Pack `codes` (any shape, uint8, below 2^bits), filled up with zeros to a multiple of 8."""
    codes = codes.ravel()
    if filling := -codes.size % 8:
        codes = np.concatenate((codes, np.zeros(filling, np.uint8)))
    return b"".join(_fold(_cut(codes, low, width, bits), width).tobytes() for low, width in _fields(bits))


def unpack(packed: bytes | memoryview, count: int, bits: int) -> Bytes:
    """The `count` codes (uint8, one-dimensional) of which `packed` was made.

    Raises:
        ValueError: `packed` is not what `pack` makes of so many codes: its length differs, or a
            filling bit is set.
    """
    if len(packed) != packed_size(count, bits):
        raise ValueError(f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes, not {len(packed)}")
    rows = np.frombuffer(packed, np.uint8).reshape(bits, -(-count // 8))
    codes: Bytes | None = None
    for low, width in _fields(bits):
        field = _unfold(rows[low : low + width].ravel(), width)
        if low:
            field *= 1 << low
        codes = field if codes is None else np.bitwise_or(codes, field, out=codes)
    if codes[count:].any():
        raise ValueError("a filling bit behind the last code is set")
    return codes[:count]


def packed_size_of_layers(sizes: Sequence[int], bits: Sequence[int]) -> int:
    """Bytes that layers of `sizes` codes with `bits` each take together."""
    return sum(packed_size(sum(sizes[layer] for layer in members), width) for width, members in _by_width(bits))


def pack_layers(layers: Sequence[Bytes], bits: Sequence[int]) -> bytes:
    """Pack the codes of a model's layers with `bits` each: those of one bit-width together, the narrowest first."""
    return b"".join(pack(np.concatenate([layers[i].ravel() for i in members]), b) for b, members in _by_width(bits))


def unpack_layers(packed: bytes | memoryview, sizes: Sequence[int], bits: Sequence[int]) -> list[Bytes]:
    """The codes of each layer, `sizes` of them, of which `packed` was made.

    Raises:
        ValueError: as `unpack`.
    """
    layers: list[Bytes] = [np.empty(0, np.uint8)] * len(sizes)
    rest = memoryview(packed)
    for width, members in _by_width(bits):
        ends = list(accumulate(sizes[layer] for layer in members))
        length = packed_size(ends[-1], width)
        codes, rest = unpack(rest[:length], ends[-1], width), rest[length:]
        for layer, start, end in zip(members, [0, *ends], ends, strict=False):
            layers[layer] = codes[start:end]
    if len(rest):
        raise ValueError(f"{len(rest)} bytes follow the last code")
    return layers


def _by_width(bits: Sequence[int]) -> list[tuple[int, list[int]]]:
    members: dict[int, list[int]] = {}
    for layer, width in enumerate(bits):
        members.setdefault(width, []).append(layer)
    return sorted(members.items())


def _fields(bits: int) -> Iterator[tuple[int, int]]:
    """The fields of a code: their lowest bit and their width."""
    low = 0
    for width in (1, 2, 4, 8):
        if bits & width:
            yield low, width
            low += width


def _cut(codes: Bytes, low: int, width: int, bits: int) -> Bytes:
    # A pass over the codes that would change nothing is left out.
    shifted = codes >> low if low else codes
    return shifted & (2**width - 1) if low + width < bits else shifted


def _fold(field: Bytes, width: int) -> Bytes:
    if width == 1:
        return np.packbits(field)
    while width < 8:
        half = len(field) // 2
        raised = field[half:] * (1 << width)  # Numpy shifts bytes to the left one by one.
        raised |= field[:half]
        field, width = raised, 2 * width
    return field


def _unfold(packed: Bytes, width: int) -> Bytes:
    if width == 1:
        return np.unpackbits(packed)
    step = 8
    while step > width:
        step //= 2
        packed = np.concatenate((packed, packed >> step))
    if width < 8:
        packed &= 2**width - 1
    return packed
