import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.data.batches import Batches, normalize, random_crop

MEAN, STD = torch.tensor([0.5, 0.25, 0.0]), torch.tensor([0.5, 0.25, 1.0])
PLAIN = torch.zeros(3), torch.full((3,), 1 / 255)
"""Statistics with which images keep their values."""


def images_of(count, side=4):
    """Images all of whose pixels are the image's number, 1 .. count."""
    return torch.arange(1, count + 1, dtype=torch.uint8).reshape(count, 1, 1, 1).expand(count, side, side, 3).clone()


def batches(count, size, key=("k",), **changes):
    return Batches(images_of(count), torch.arange(count), size, *PLAIN, key, **changes)


def labels_of(epoch):
    return [label for _, labels in epoch for label in labels.tolist()]


def test_normalized_by_channel_and_channels_first():
    images = torch.tensor([[[[255, 0, 51]]], [[[0, 255, 255]]]], dtype=torch.uint8)
    expected = torch.tensor([[1, -1, 0.2], [-1, 3, 1]]).reshape(2, 3, 1, 1)
    torch.testing.assert_close(normalize(images, MEAN, STD), expected)


def test_normalized_images_are_float_and_channels_last_in_memory():
    normalized = normalize(torch.zeros(2, 4, 6, 3, dtype=torch.uint8), MEAN, STD)
    assert (normalized.shape, normalized.dtype) == ((2, 3, 4, 6), torch.float32)
    assert normalized.is_contiguous(memory_format=torch.channels_last)


@given(st.integers(1, 60), st.integers(1, 70))
def test_an_epoch_is_every_image_once_with_its_own_label(count, size):
    epoch = batches(count, size)
    seen = []
    for images, labels in epoch:
        torch.testing.assert_close(images, (labels + 1).float().reshape(-1, 1, 1, 1).expand(images.shape))
        seen.append(labels.tolist())
    assert sorted(label for labels in seen for label in labels) == list(range(count))
    assert len(seen) == len(epoch)
    assert all(len(labels) == size for labels in seen[:-1])
    assert len(seen[-1]) <= size + 1


@pytest.mark.parametrize(("count", "size", "sizes"), [(9, 4, [4, 5]), (5, 4, [5]), (1, 4, [1]), (8, 4, [4, 4]),
                                                      (10, 4, [4, 4, 2]), (3, 1, [1, 1, 1]), (1, 1, [1])])  # fmt: skip
def test_a_single_image_left_over_joins_the_batch_before(count, size, sizes):
    epoch = batches(count, size)
    assert [len(labels) for _, labels in epoch] == sizes
    assert len(epoch) == len(sizes)
    assert sorted(labels_of(epoch)) == list(range(count))


def test_order_differs_by_epoch_and_depends_on_the_key_alone():
    first, second = batches(40, 7), batches(40, 7)
    epochs = [labels_of(first) for _ in range(3)]
    torch.manual_seed(1)
    assert epochs == [labels_of(second) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert labels_of(batches(40, 7, ("other",))) != epochs[0]


def test_flips_mirror_half_of_the_images():
    images = torch.zeros(200, 4, 4, 3, dtype=torch.uint8)
    images[:, 1, 0] = 9
    flipped = torch.cat([batch for batch, _ in Batches(images, torch.zeros(200), 50, *PLAIN, ("k",), flip=True)])
    right = flipped[:, 0, 1, 3] == 9
    torch.testing.assert_close(flipped[right].flip(3), flipped[~right][:1].expand(int(right.sum()), -1, -1, -1))
    assert 70 < right.sum() < 130


@given(st.integers(1, 4), st.integers(0, 99))
def test_crops_are_windows_of_the_padded_image(padding, seed):
    images = torch.arange(1, 2 * 5 * 5 * 3 + 1).reshape(2, 5, 5, 3).to(torch.uint8)
    cropped = random_crop(images, padding, torch.Generator().manual_seed(seed))
    assert cropped.shape == images.shape
    for image, crop in zip(images, cropped, strict=True):
        padded = torch.zeros(5 + 2 * padding, 5 + 2 * padding, 3, dtype=torch.uint8)
        padded[padding:-padding, padding:-padding] = image
        windows = [padded[y : y + 5, x : x + 5] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
        assert any(torch.equal(crop, window) for window in windows)


def test_crops_reach_all_places_each_image_its_own():
    images = torch.zeros(300, 3, 3, 3, dtype=torch.uint8)
    images[:, 1, 1] = 9
    crops = random_crop(images, 1, torch.Generator().manual_seed(0))[..., 0].reshape(300, 9)
    places = crops.argmax(1)
    assert (crops.sum(1) == 9).all()
    assert torch.bincount(places, minlength=9).min() > 15


@pytest.mark.parametrize("changes", [{"flip": True}, {"crop_padding": 2}, {"flip": True, "crop_padding": 1}])
def test_augmentation_depends_on_the_key_alone_and_leaves_the_images(changes):
    images, labels = torch.randint(0, 256, (30, 6, 6, 3), dtype=torch.uint8), torch.arange(30)
    before = images.clone()

    def epoch():
        return torch.cat([batch for batch, _ in Batches(images, labels, 8, *PLAIN, ("k",), **changes)])

    assert torch.equal(epoch(), epoch())
    assert torch.equal(images, before)
