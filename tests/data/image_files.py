"""Images, parquet files and arrays that the tests of data sets are made of."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fedmpq.data.prepare import decode

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encode(color=(10, 20, 30), size=(8, 8), mode="RGB", extension="png"):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, extension)
    return buffer.getvalue()


def write_parquet(path, images, labels, *, image="img", label="label", names=None, label_type=None):
    """A file as the library `datasets` writes it; `names` are the class names in its metadata."""
    column = [None if each is None else {"bytes": each, "path": f"{row}.png"} for row, each in enumerate(images)]
    table = pa.table({image: pa.array(column, IMAGE), label: pa.array(labels, label_type or pa.int64())})
    if names:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


def write_image(path, color=(10, 20, 30), size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def pixels_of(split):
    """All images of a split of one size, decoded."""
    return np.stack([decode(split.image(number), None) for number in range(len(split.labels))])
