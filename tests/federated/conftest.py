import numpy as np
import pytest
import tiny

from fedmpq.data.arrays import prepare
from fedmpq.data.splits import Source, Split


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder of a prepared set: 3 classes that differ by colour, 60 training and 30 test images of 8 x 8 pixels.

    Training image 0 is white, no other one is.
    """
    generator = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count) % tiny.CLASSES
        images = generator.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        return labels, images.astype(np.uint8)

    def stored(labels, images):
        return Split(labels, lambda: ((f"image {number}", image) for number, image in enumerate(images)))

    labels, images = split(tiny.TRAIN)
    images[0] = 255
    source = Source("drawn by the tests", ["red", "green", "blue"], stored(labels, images), stored(*split(tiny.TEST)))
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    prepare("tiny", source, None, folder)
    return folder
