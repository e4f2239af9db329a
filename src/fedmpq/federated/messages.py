"""What travels between server and clients, as bytes that a device would send.

    header     magic, version, kind, quantized, round, client, samples, loss, layout digest, length
    checksum   16 bytes, over the header and the body
    body       quantized: L bit-widths (uint8), L scales (float32), codes as `pack_layers` packs them
               otherwise: P weights (float32)
               then R values of the remainder (float32)

All numbers are little-endian. Whoever decodes takes the bytes as untrusted.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.quantization.codes import FULL_RANGE
from fedmpq.quantization.packing import MOST_BITS, pack_layers, packed_size_of_layers, unpack_layers
from fedmpq.quantization.rounding import Coder, Nearest

MAGIC = b"FMPQ"
VERSION = 1
HEADER = struct.Struct("<4sHBBIIIf8sQ")
CHECKSUM_SIZE = 16
FLOAT = np.dtype("<f4")
NEAREST = Nearest(FULL_RANGE)
LARGEST = 2.0**100
"""No number of a client's is beyond this, so that whatever the server computes from it stays finite."""

Bits = tuple[int, ...] | None
"""Bit-width of each layer (L), 1 .. 8; None: full precision."""


class Kind(IntEnum):
    """Direction of a message."""

    DOWNLINK = 0
    UPLINK = 1


class RejectedMessage(Exception):
    """The bytes are not the message that was expected; the text says why."""


@dataclass(frozen=True)
class Message:
    """One model on its way, with what the server needs to know about it."""

    kind: Kind
    round: int
    client: int
    samples: int
    """Images that the client trained on; 0 downlink."""
    loss: float
    """Mean training loss; 0 downlink."""
    bits: Bits
    scales: Tensor | None
    """Scale of each layer (L,), float32; None: full precision."""
    model: FlatModel
    """Its values. Quantized weights are on their grid once they have travelled."""


def encode(message: Message, layout: Layout, coder: Coder = NEAREST) -> bytes:
    """The bytes of `message`, its weights as `coder` rounds them."""
    weights = message.model.weights
    if message.bits is None:
        body = weights.numpy().astype(FLOAT).tobytes()
    else:
        codes = coder.encode(weights, layout.sizes, message.bits, message.scales).to(torch.uint8).split(layout.sizes)
        packed = pack_layers([layer.numpy() for layer in codes], message.bits)
        body = bytes(message.bits) + message.scales.numpy().astype(FLOAT).tobytes() + packed
    body += message.model.remainder.numpy().astype(FLOAT).tobytes()
    header = HEADER.pack(
        MAGIC,
        VERSION,
        message.kind,
        message.bits is not None,
        message.round,
        message.client,
        message.samples,
        message.loss,
        layout.digest,
        len(body),
    )
    return header + _checksum(header, body) + body


def decode(data: bytes, layout: Layout, kind: Kind, round: int, client: int, coder: Coder = NEAREST) -> Message:
    """The message in `data`, its weights de-quantized by `coder`.

    Raises:
        RejectedMessage: length, magic, version, checksum, kind, round, client or layout are not
            as expected, a bit-width is outside 1 .. 8, a scale is negative, or any number is not
            finite.
    """
    start = HEADER.size + CHECKSUM_SIZE
    if len(data) < start:
        raise RejectedMessage(f"{len(data)} bytes are less than a header")
    magic, version, got_kind, quantized, got_round, got_client, samples, loss, digest, length = HEADER.unpack_from(data)
    body = memoryview(data)[start:]
    _expect("magic", magic, MAGIC)
    _expect("format version", version, VERSION)
    _expect("length of the body", len(body), length)
    _expect("checksum", data[HEADER.size : start], _checksum(data[: HEADER.size], body))
    _expect("kind", got_kind, kind)
    _expect("round", got_round, round)
    _expect("client", got_client, client)
    _expect("layer names and shapes", digest, layout.digest)
    if quantized not in (0, 1) or not np.isfinite(loss):
        raise RejectedMessage(f"quantized is {quantized} and the loss {loss}")
    bits, scales, weights, rest = _quantized_part(body, layout, coder) if quantized else _float_part(body, layout)
    _expect("length of the remainder", len(rest), layout.remainder_size * FLOAT.itemsize)
    model = FlatModel(weights, _floats(rest, "remainder"))
    return Message(kind, round, client, samples, loss, bits, scales, model)


def decode_answer(
    data: bytes, layout: Layout, sent: Message, max_samples: int, allowed: Bits, coder: Coder = NEAREST
) -> Message:
    """The answer in `data` to the message `sent`.

    Args:
        data: the bytes received.
        layout: of the model.
        sent: what the client started from.
        max_samples: images that it may have.
        allowed: the most bits that each layer (L) may have; None: full precision.
        coder: of the answer.

    Raises:
        RejectedMessage: as `decode`, or it has more bits than are allowed, another precision, a
            negative loss, a number beyond 2^100, or a number of samples outside 1 .. `max_samples`.
    """
    message = decode(data, layout, Kind.UPLINK, sent.round, sent.client, coder)
    _expect("quantized", message.bits is not None, allowed is not None)
    if message.bits is not None and any(left > most for left, most in zip(message.bits, allowed, strict=True)):
        raise RejectedMessage(f"bit-widths {list(message.bits)} exceed the {list(allowed)} allowed")
    if not 1 <= message.samples <= max_samples:
        raise RejectedMessage(f"{message.samples} samples; allowed: 1 to {max_samples}")
    if message.loss < 0:
        raise RejectedMessage(f"the loss is {message.loss}; allowed: 0 or more")
    numbers = torch.cat([message.model.weights, message.model.remainder, torch.tensor([message.loss])])
    if not numbers.abs().max() <= LARGEST:  # NaN is not, either.
        raise RejectedMessage(f"it has the number {float(numbers.abs().max()):g}; allowed: up to {LARGEST:g}")
    return message


def _float_part(body: memoryview, layout: Layout) -> tuple[None, None, Tensor, memoryview]:
    end = sum(layout.sizes) * FLOAT.itemsize
    if len(body) < end:
        raise RejectedMessage(f"{len(body)} bytes are less than the weights take")
    return None, None, _floats(body[:end], "weights"), body[end:]


def _quantized_part(
    body: memoryview, layout: Layout, coder: Coder
) -> tuple[tuple[int, ...], Tensor, Tensor, memoryview]:
    count = len(layout.sizes)
    bits = tuple(body[:count])
    if len(bits) < count or not all(1 <= b <= MOST_BITS for b in bits):
        raise RejectedMessage(f"bit-widths {list(bits)}; allowed: {count} numbers from 1 to {MOST_BITS}")
    start = count * (1 + FLOAT.itemsize)
    end = start + packed_size_of_layers(layout.sizes, bits)
    if len(body) < end:
        raise RejectedMessage(f"{len(body)} bytes are less than codes of these bit-widths take")
    scales = _floats(body[count:start], "scales")
    if (scales < 0).any():
        raise RejectedMessage("a scale is negative")
    try:
        codes = np.concatenate(unpack_layers(body[start:end], layout.sizes, bits))
    except ValueError as error:
        raise RejectedMessage(str(error)) from error
    return bits, scales, coder.decode(torch.from_numpy(codes), layout.sizes, bits, scales), body[end:]


def _floats(part: memoryview, name: str) -> Tensor:
    values = np.frombuffer(part, FLOAT).astype(np.float32)
    if not np.isfinite(values).all():
        raise RejectedMessage(f"a number of the {name} is not finite")
    return torch.from_numpy(values)


def _checksum(header: bytes, body: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(header, digest_size=CHECKSUM_SIZE)
    digest.update(body)
    return digest.digest()


def _expect(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise RejectedMessage(f"the {name} is {got!r} where {expected!r} was expected")
