import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from letters import LAYERS, LAYOUT, MESSAGES, REST, START, WEIGHTS, message, read, refused

from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import HEADER, RejectedMessage, decode, encode
from fedmpq.quantization.codes import FULL_RANGE

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
        grid = FULL_RANGE.grid(torch.tensor(sent.bits), sent.scales).expand(torch.tensor(LAYOUT.sizes))
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
        counts = Counter()
        for count, bits in zip(LAYOUT.sizes, sent.bits, strict=True):
            counts[bits] += count
        size = 5 * LAYERS + sum(bits * math.ceil(count / 8) for bits, count in counts.items())
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
