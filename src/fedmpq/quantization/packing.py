"""Codes of b bits as bytes, b for each 8 codes, and back."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
MASKS = np.array([[128], [64], [32], [16], [8], [4], [2], [1]], np.uint8)


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return bits * -(-count // 8)


def pack(codes: Bytes, bits: int) -> bytes:
    """Pack `codes` (any shape, uint8, below 2^bits) plane after plane, most significant first.

    Each plane is filled up with zeros to whole bytes.
    """
    return np.packbits(codes.reshape(1, -1) & MASKS[-bits:], axis=1).tobytes()


def unpack(packed: bytes | memoryview, count: int, bits: int) -> Bytes:
    """The `count` codes (uint8, one-dimensional) of which `packed` was made.

    Raises:
        ValueError: `packed` is not what `pack` makes of so many codes: its length differs, or a
            filling bit is set.
    """
    if len(packed) != packed_size(count, bits):
        raise ValueError(f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes, not {len(packed)}")
    rows = np.frombuffer(packed, np.uint8).reshape(bits, -(-count // 8))
    if count % 8 and (rows[:, -1] & (0xFF >> count % 8)).any():
        raise ValueError("a filling bit behind the last code is set")
    codes, *planes = np.unpackbits(rows, axis=1, count=count)
    for plane in planes:
        # Doubled by addition: numpy shifts bytes one by one.
        codes += codes
        codes += plane
    return codes
