import hashlib
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import (
    CHECKSUM_SIZE,
    HEADER,
    Kind,
    Message,
    RejectedMessage,
    decode,
    decode_answer,
    encode,
)
from fedmpq.quantization.codes import Grid
from fedmpq.quantization.packing import packed_size

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


# Whole messages


@given(MESSAGES)
def test_what_arrives_is_what_was_sent(sent):
    received = read(encode(sent, LAYOUT), sent)
    for name in ("kind", "round", "client", "samples", "bits"):
        assert getattr(received, name) == getattr(sent, name)
    assert received.loss == pytest.approx(sent.loss)
    assert torch.equal(received.model.remainder, sent.model.remainder)
    if sent.bits is None:
        assert received.scales is None
        assert torch.equal(received.model.weights, sent.model.weights)
    else:
        grid = Grid.of(torch.tensor(sent.bits), sent.scales).expand(torch.tensor(LAYOUT.sizes))
        assert torch.equal(received.scales, sent.scales)
        assert torch.equal(received.model.weights, grid.decode(grid.encode(sent.model.weights)))


@given(MESSAGES)
def test_what_arrived_is_the_same_bytes_when_sent_on(sent):
    assume(sent.bits is None or (sent.scales == 0).logical_or(sent.scales > 1e-30).all())
    data = encode(sent, LAYOUT)
    assert encode(read(data, sent), LAYOUT) == data


@given(MESSAGES)
def test_the_length_is_that_of_what_a_device_would_send(sent):
    size = 4 * WEIGHTS
    if sent.bits is not None:
        size = 5 * LAYERS + sum(packed_size(n, b) for n, b in zip(LAYOUT.sizes, sent.bits, strict=True))
    assert len(encode(sent, LAYOUT)) == START + size + 4 * REST


def test_a_model_without_a_remainder():
    layout = Layout({"weight": torch.Size((3,))}, {})
    sent = message((2,), scales=torch.tensor([3.0]), model=FlatModel(torch.tensor([1.0, 0.0, -1.0]), torch.zeros(0)))
    received = decode(encode(sent, layout), layout, sent.kind, sent.round, sent.client)
    assert received.model.weights.tolist() == [1, 0, -1]
    assert received.model.remainder.shape == (0,)


def test_bytes_do_not_depend_on_the_order_of_memory():
    assert encode(message(), LAYOUT)[:4] == b"FMPQ"
    assert HEADER.size == 4 + 2 + 1 + 1 + 4 + 4 + 4 + 4 + 8 + 8
    assert encode(message(round=0x01020304), LAYOUT)[8:12] == bytes((4, 3, 2, 1))


# Corruption in transit: the checksum does not match


@settings(max_examples=20)
@given(MESSAGES)
def test_every_flipped_bit_is_noticed(sent):
    data = encode(sent, LAYOUT)
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(RejectedMessage):
            read(bytes(damaged), sent)


@settings(max_examples=20)
@given(MESSAGES, st.binary(min_size=1, max_size=40))
def test_every_truncation_and_extension_is_noticed(sent, more):
    data = encode(sent, LAYOUT)
    for damaged in (*(data[:length] for length in range(len(data))), data + more, more + data, data + data):
        with pytest.raises(RejectedMessage):
            read(damaged, sent)


@given(MESSAGES, st.data())
def test_swapped_sections_are_noticed(sent, draw):
    data = encode(sent, LAYOUT)
    first, second, third = sorted(draw.draw(st.lists(st.integers(0, len(data)), min_size=3, max_size=3)))
    swapped = data[:first] + data[second:third] + data[first:second] + data[third:]
    assume(swapped != data)
    with pytest.raises(RejectedMessage):
        read(swapped, sent)


@given(MESSAGES, MESSAGES, st.integers(0, 200))
def test_two_messages_cut_together_are_noticed(one, other, place):
    first, second = encode(one, LAYOUT), encode(other, LAYOUT)
    mixed = first[:place] + second[place:]
    assume(mixed not in (first, second))
    with pytest.raises(RejectedMessage):
        read(mixed, one)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    refused(data)
    refused(b"FMPQ" + data)


# Forgery: the checksum matches


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


SENT = message((2, 4, 8), kind=Kind.DOWNLINK, samples=0, loss=0.0)
SENT_FULL = message(None, kind=Kind.DOWNLINK, samples=0, loss=0.0)


def test_an_answer_is_accepted_with_as_many_bits_or_fewer():
    for bits in ((2, 4, 8), (1, 1, 1)):
        assert decode_answer(encode(message(bits), LAYOUT), LAYOUT, SENT, 7).bits == bits
    assert decode_answer(encode(message(None), LAYOUT), LAYOUT, SENT_FULL, 7).bits is None


@pytest.mark.parametrize(
    ("changes", "sent", "reason"),
    [
        ({"bits": (3, 4, 8)}, SENT, r"bit-widths \[3, 4, 8\] exceed the \[2, 4, 8\] given"),
        ({"bits": (1, 5, 8)}, SENT, "exceed"),
        ({"bits": None}, SENT, "quantized"),
        ({"bits": (1, 1, 1)}, SENT_FULL, "quantized"),
        ({"samples": 0}, SENT, "0 samples; allowed: 1 to 7"),
        ({"samples": 8}, SENT, "8 samples; allowed: 1 to 7"),
        ({"samples": 2**32 - 1}, SENT, "samples"),
        ({"loss": -0.1}, SENT, "loss"),
        ({"round": 2}, SENT, "round"),
        ({"client": 2}, SENT, "client"),
        ({"kind": Kind.DOWNLINK}, SENT, "kind"),
    ],
)
def test_an_answer_beyond_what_was_asked_is_refused(changes, sent, reason):
    answer = message(**{"bits": (1, 4, 8), **changes})
    with pytest.raises(RejectedMessage, match=reason):
        decode_answer(encode(answer, LAYOUT), LAYOUT, sent, 7)
