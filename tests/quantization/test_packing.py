import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedmpq.quantization.packing import (
    pack,
    pack_layers,
    packed_size,
    packed_size_of_layers,
    unpack,
    unpack_layers,
)

BITS = st.integers(1, 8)


@st.composite
def coded_layers(draw):
    """Bits, and codes of so many bits in some shape."""
    bits = draw(BITS)
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    return bits, draw(arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))


@given(coded_layers())
def test_unpack_gives_what_was_packed(layer):
    bits, codes = layer
    packed = pack(codes, bits)
    assert isinstance(packed, bytes)
    assert len(packed) == packed_size(codes.size, bits)
    assert unpack(packed, codes.size, bits).tolist() == codes.ravel().tolist()
    assert unpack(memoryview(packed), codes.size, bits).dtype == np.uint8


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_code_of_every_width(bits):
    codes = np.arange(2**bits, dtype=np.uint8)
    assert (unpack(pack(codes, bits), codes.size, bits) == codes).all()


@given(st.integers(0, 10**6), BITS)
def test_size_is_the_bits_of_the_codes_and_less_than_a_byte_more_for_each(count, bits):
    wasted = 8 * packed_size(count, bits) - count * bits
    assert 0 <= wasted < 8 * bits
    assert wasted == 0 or count % 8


def test_where_the_bits_of_a_code_stand():
    codes = np.array([0b1110101, *[0] * 6, 1, 2, *[0] * 7], np.uint8)
    ones, twos, fours = bytes((0b10000001, 0)), bytes((0b0110, 0, 0, 0)), bytes((0b1110, *[0] * 7))
    assert pack(codes & 1, 1) == ones
    assert pack(codes, 7) == ones + twos + fours


def test_arrays_that_are_not_contiguous():
    codes = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert pack(codes.T[::2], 5) == pack(codes.T[::2].copy(), 5)


@given(coded_layers(), st.data())
def test_every_byte_string_of_the_right_length_is_refused_or_packs_to_itself(layer, data):
    bits, codes = layer
    packed = data.draw(st.binary(min_size=packed_size(codes.size, bits), max_size=packed_size(codes.size, bits)))
    try:
        unpacked = unpack(packed, codes.size, bits)
    except ValueError:
        return
    assert unpacked.max(initial=0) < 2**bits
    assert pack(unpacked, bits) == packed


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 7, 9, 15])
def test_a_filling_bit_that_is_set_is_refused(bits, count):
    for place in range(count, count + -count % 8):
        for bit in range(bits):
            codes = np.zeros(count + -count % 8, np.uint8)
            codes[place] = 1 << bit
            with pytest.raises(ValueError, match="filling bit"):
                unpack(pack(codes, bits), count, bits)


@given(coded_layers(), st.integers(-3, 3).filter(bool))
def test_another_length_is_refused(layer, more):
    bits, codes = layer
    packed = pack(codes, bits)
    damaged = packed + bytes(more) if more > 0 else packed[:more]
    if len(damaged) != len(packed):
        with pytest.raises(ValueError, match=rf"{codes.size} codes of {bits} bits take {len(packed)} bytes"):
            unpack(damaged, codes.size, bits)


MODELS = st.lists(coded_layers(), min_size=1, max_size=12)


@given(MODELS)
def test_layers_of_mixed_widths_come_back_in_their_order(model):
    bits, layers = zip(*model, strict=True)
    sizes = [codes.size for codes in layers]
    packed = pack_layers(layers, bits)
    assert len(packed) == packed_size_of_layers(sizes, bits)
    assert [codes.tolist() for codes in unpack_layers(packed, sizes, bits)] == [c.ravel().tolist() for c in layers]


@given(MODELS)
def test_layers_of_one_width_share_their_bytes(model):
    bits, layers = zip(*model, strict=True)
    nominal = sum(codes.size * b for codes, b in zip(layers, bits, strict=True))
    assert 0 <= 8 * packed_size_of_layers([codes.size for codes in layers], bits) - nominal < 8 * sum(set(bits))


@given(MODELS, st.integers(-3, 3).filter(bool))
def test_another_length_of_a_model_is_refused(model, more):
    bits, layers = zip(*model, strict=True)
    packed = pack_layers(layers, bits)
    damaged = packed + bytes(more) if more > 0 else packed[:more]
    if len(damaged) != len(packed):
        with pytest.raises(ValueError, match="bytes"):
            unpack_layers(damaged, [codes.size for codes in layers], bits)
