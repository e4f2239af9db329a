"""The checksum matches; whoever made the bytes knows the format."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from letters import (
    FIELDS,
    LAYERS,
    LAYOUT,
    MESSAGES,
    REST,
    START,
    UNSIGNED,
    WEIGHTS,
    float_bytes,
    message,
    read,
    refused,
    resealed,
    sealed,
    with_body,
)

from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import HEADER, Kind, RejectedMessage, decode_answer, encode
from fedmpq.quantization.codes import FULL_RANGE
from fedmpq.quantization.packing import pack_layers
from fedmpq.quantization.rounding import DitheredLattice, Nearest, Stochastic
from fedmpq.seeding import torch_generator


@given(
    MESSAGES,
    st.fixed_dictionaries(
        {},
        optional={
            "magic": st.binary(min_size=4, max_size=4),
            "version": st.integers(0, 2**16 - 1),
            "kind": st.integers(0, 255),
            "quantized": st.integers(0, 255),
            "round": UNSIGNED,
            "client": UNSIGNED,
            "samples": UNSIGNED,
            "loss": st.floats(width=32),
            "digest": st.binary(min_size=8, max_size=8),
            "length": st.integers(0, 2**64 - 1),
        },
    ),
    st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=8)), max_size=3),
)
def test_whatever_is_forged_is_refused_or_within_all_bounds(sent, fields, patches):
    data = encode(sent, LAYOUT)
    for at, content in patches:
        data = with_body(data, at, content)
    try:
        received = read(resealed(data, **fields), sent)
    except RejectedMessage:
        return
    assert fields.items() <= {**fields, "magic": b"FMPQ", "version": 1, "digest": LAYOUT.digest}.items()
    assert received.model.is_finite()
    assert np.isfinite(received.loss)
    assert (received.model.weights.shape, received.model.remainder.shape) == ((WEIGHTS,), (REST,))
    if received.bits is not None:
        assert all(1 <= b <= 8 for b in received.bits)
        assert received.scales.isfinite().all()
        assert (received.scales >= 0).all()


@pytest.mark.parametrize("bits", [(1, 4, 8), None])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"magic": b"HTTP"}, "magic"),
        ({"version": 2}, "format version is 2 where 1"),
        ({"kind": 0}, "kind is 0"),
        ({"kind": 9}, "kind is 9"),
        ({"round": 4}, "round is 4 where 3"),
        ({"client": 6}, "client is 6 where 5"),
        ({"digest": b"8 bytes."}, "layer names and shapes"),
        ({"length": 0}, "length of the body"),
        ({"length": 2**64 - 1}, "length of the body"),
        ({"quantized": 2}, "quantized is 2"),
        ({"loss": float("nan")}, "loss nan"),
        ({"loss": float("inf")}, "loss inf"),
    ],
)
def test_a_forged_header_is_refused(bits, fields, reason):
    refused(resealed(encode(message(bits), LAYOUT), **fields), reason)


def test_a_message_for_another_recipient_is_refused():
    data = encode(message(), LAYOUT)
    refused(data, "round", round=4)
    refused(data, "client", client=4)
    refused(data, "kind", kind=Kind.DOWNLINK)
    refused(data, "layer names and shapes", layout=Layout({**LAYOUT.weights, "x": torch.Size((1,))}, LAYOUT.remainder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    quantized, full = encode(message(), LAYOUT), encode(message(None), LAYOUT)
    for layer in range(LAYERS):
        refused(with_body(quantized, LAYERS + 4 * layer, float_bytes(value)), "number of the scales is not finite")
    for index in range(REST):
        for data in (quantized, full):
            refused(with_body(data, -4 * (index + 1), float_bytes(value)), "number of the remainder is not finite")
    for index in range(WEIGHTS):
        refused(with_body(full, 4 * index, float_bytes(value)), "number of the weights is not finite")


@pytest.mark.parametrize("width", [0, 9, 255])
@pytest.mark.parametrize("layer", range(LAYERS))
def test_bit_widths_outside_1_to_8_are_refused(width, layer):
    refused(with_body(encode(message(), LAYOUT), layer, bytes([width])), "bit-widths .*allowed: 3 numbers from 1 to 8")


def test_bit_widths_that_do_not_fit_the_length_are_refused():
    data = encode(message((4, 4, 4)), LAYOUT)
    for layer in range(LAYERS):
        refused(with_body(data, layer, bytes([8])))
        refused(with_body(data, layer, bytes([3])))


def test_a_negative_scale_is_refused():
    refused(with_body(encode(message(), LAYOUT), LAYERS, float_bytes(-1e-30)), "a scale is negative")


def test_a_filling_bit_that_is_set_is_refused():
    refused(with_body(encode(message(), LAYOUT), LAYERS * 5, b"\x01"), "filling bit")


@pytest.mark.parametrize("bits", [(1, 4, 8), None])
def test_bodies_of_any_other_length_are_refused(bits):
    data = encode(message(bits), LAYOUT)
    body = data[START:]
    for other in (*(body[:length] for length in range(len(body))), body + b"\0", body + bytes(4), body + body):
        header = HEADER.pack(
            *{**dict(zip(FIELDS, HEADER.unpack_from(data), strict=True)), "length": len(other)}.values()
        )
        refused(sealed(header, other))


def test_a_lying_length_takes_no_memory():
    data = resealed(encode(message(), LAYOUT), length=2**62)
    tracemalloc.start()
    refused(data, "length of the body")
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


# Answers: besides, they have to fit what was asked


LARGEST_FLOAT = float(np.finfo(np.float32).max)
SENT = message((2, 4, 8), kind=Kind.DOWNLINK, samples=0, loss=0.0)
SENT_FULL = message(None, kind=Kind.DOWNLINK, samples=0, loss=0.0)


def test_an_answer_is_accepted_with_as_many_bits_or_fewer():
    for bits in ((2, 4, 8), (1, 1, 1)):
        assert decode_answer(encode(message(bits), LAYOUT), LAYOUT, SENT, 7, SENT.bits).bits == bits
    assert decode_answer(encode(message(None), LAYOUT), LAYOUT, SENT_FULL, 7, None).bits is None


def test_what_is_allowed_need_not_be_what_was_given():
    assert decode_answer(encode(message((1, 2, 3)), LAYOUT), LAYOUT, SENT_FULL, 7, (1, 2, 3)).bits == (1, 2, 3)
    with pytest.raises(RejectedMessage, match=r"bit-widths \[1, 2, 4\] exceed the \[1, 2, 3\] allowed"):
        decode_answer(encode(message((1, 2, 4)), LAYOUT), LAYOUT, SENT_FULL, 7, (1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "sent", "reason"),
    [
        ({"bits": (3, 4, 8)}, SENT, r"bit-widths \[3, 4, 8\] exceed the \[2, 4, 8\] allowed"),
        ({"bits": (1, 5, 8)}, SENT, "exceed"),
        ({"bits": None}, SENT, "quantized"),
        ({"bits": (1, 1, 1)}, SENT_FULL, "quantized"),
        ({"samples": 0}, SENT, "0 samples; allowed: 1 to 7"),
        ({"samples": 8}, SENT, "8 samples; allowed: 1 to 7"),
        ({"samples": 2**32 - 1}, SENT, "samples"),
        ({"loss": -0.1}, SENT, "loss"),
        ({"loss": 2.0**101}, SENT, "the number"),
        (
            {"bits": None, "model": FlatModel(torch.full((WEIGHTS,), 2.0**101), torch.zeros(REST))},
            SENT_FULL,
            "the number",
        ),
        ({"model": FlatModel(torch.zeros(WEIGHTS), torch.full((REST,), -(2.0**101)))}, SENT, "the number"),
        ({"round": 2}, SENT, "round"),
        ({"client": 2}, SENT, "client"),
        ({"kind": Kind.DOWNLINK}, SENT, "kind"),
    ],
)
def test_an_answer_beyond_what_was_asked_is_refused(changes, sent, reason):
    answer = message(**{"bits": (1, 4, 8), **changes})
    with pytest.raises(RejectedMessage, match=reason):
        decode_answer(encode(answer, LAYOUT), LAYOUT, sent, 7, sent.bits)


@given(
    st.sampled_from([Nearest, Stochastic, DitheredLattice]),
    st.tuples(*[st.integers(1, 8)] * LAYERS),
    st.tuples(*[st.sampled_from([1.0, LARGEST_FLOAT]) | st.floats(0, LARGEST_FLOAT, width=32)] * LAYERS),
    st.binary(min_size=WEIGHTS, max_size=WEIGHTS),
)
def test_whatever_the_coder_no_scale_gives_numbers_beyond_all_bounds(kind, bits, scales, codes):
    coder = kind(FULL_RANGE if kind is Nearest else torch_generator("key"))
    data = with_body(encode(message(bits), LAYOUT), LAYERS, b"".join(map(float_bytes, scales)))
    layers = np.frombuffer(codes, np.uint8) % 2 ** np.repeat(bits, LAYOUT.sizes)
    packed = pack_layers(np.split(layers.astype(np.uint8), np.cumsum(LAYOUT.sizes)[:-1]), bits)
    try:
        answer = decode_answer(with_body(data, LAYERS * 5, packed), LAYOUT, SENT, 7, bits, coder)
    except RejectedMessage:
        answer = None
    assert max(scales) > 2.0**99 if answer is None else answer.model.weights.abs().max() <= 2.0**100
