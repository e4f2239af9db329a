"""Messages about a model of three layers, and ways to damage or forge them."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import CHECKSUM_SIZE, HEADER, Kind, Message, RejectedMessage, decode

START = HEADER.size + CHECKSUM_SIZE
LAYOUT = Layout(
    {"conv1.weight": torch.Size((2, 3, 1, 1)), "conv2.weight": torch.Size((3, 3)), "fc.weight": torch.Size((1,))},
    {"norm.running_mean": torch.Size((2,)), "fc.bias": torch.Size((1,))},
)
LAYERS, WEIGHTS, REST = len(LAYOUT.sizes), sum(LAYOUT.sizes), LAYOUT.remainder_size
FIELDS = ("magic", "version", "kind", "quantized", "round", "client", "samples", "loss", "digest", "length")

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
UNSIGNED = st.integers(0, 2**32 - 1)


def vectors(size, elements=FLOATS):
    return arrays(np.float32, size, elements=elements).map(torch.from_numpy)


MODELS = st.builds(FlatModel, vectors(WEIGHTS), vectors(REST))
NUMBERS = {"kind": st.sampled_from(Kind), "round": UNSIGNED, "client": UNSIGNED, "samples": UNSIGNED, "loss": FLOATS}
QUANTIZED = st.builds(
    Message,
    **NUMBERS,
    bits=st.tuples(*[st.integers(1, 8)] * LAYERS),
    scales=vectors(LAYERS, st.floats(0, 2.0**100, width=32)),
    model=MODELS,
)
FULL = st.builds(Message, **NUMBERS, bits=st.none(), scales=st.none(), model=MODELS)
MESSAGES = QUANTIZED | FULL


def message(bits=(1, 4, 8), **changes):
    """An answer of client 5 in round 3."""
    generator = torch.Generator().manual_seed(0)
    weights, rest = torch.randn(WEIGHTS, generator=generator), torch.randn(REST, generator=generator)
    scales = bits and torch.tensor([2.0, 3.0, 4.0])
    fields = {"kind": Kind.UPLINK, "round": 3, "client": 5, "samples": 7, "loss": 0.5, "bits": bits, "scales": scales}
    return Message(**{**fields, "model": FlatModel(weights, rest), **changes})


def read(data, sent):
    """Decode what should be `sent`."""
    return decode(data, LAYOUT, sent.kind, sent.round, sent.client)


def refused(data, reason=None, kind=Kind.UPLINK, round=3, client=5, layout=LAYOUT):
    with pytest.raises(RejectedMessage, match=reason):
        decode(data, layout, kind, round, client)


def sealed(header, body):
    """Header and body with a valid checksum."""
    return header + hashlib.blake2b(header + body, digest_size=CHECKSUM_SIZE).digest() + body


def resealed(data, **fields):
    """`data` with other header fields and a valid checksum."""
    header = dict(zip(FIELDS, HEADER.unpack_from(data), strict=True))
    return sealed(HEADER.pack(*{**header, **fields}.values()), data[START:])


def with_body(data, at, content):
    """`data` with other bytes at `at` of its body (negative: from its end) and a valid checksum."""
    body = bytearray(data[START:])
    at %= len(body)
    body[at : at + len(content)] = content
    return sealed(data[: HEADER.size], bytes(body))


def float_bytes(value):
    return np.array(value, "<f4").tobytes()
