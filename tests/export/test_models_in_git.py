import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from fedmpq.export.packed import load
from fedmpq.seeding import numpy_generator

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT / "exports/cifar10-small/fedmpq_plus/alpha-0.5/seed-0").glob("budget-[246]"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def model(request):
    """A folder of the README's, and what its card says."""
    return request.param, json.loads((request.param / "model.json").read_text())


def test_there_are_those_of_the_paper_s_figures():
    assert [folder.name for folder in FOLDERS] == ["budget-2", "budget-4", "budget-6"]


def test_it_is_of_results_in_git(model):
    _, card = model
    rounds = pd.read_csv(ROOT / "results" / card["experiment"] / card["algorithm"] / "alpha-0.5/rounds.csv")
    final = rounds[rounds["seed"] == card["seed"]]["test_accuracy"].iloc[-1]
    assert card["accuracy"]["float32"] == pytest.approx(final, abs=0.03)  # of a quarter of the test images


def test_it_is_within_its_budget(model):
    folder, card = model
    sizes = [math.prod(layer["shape"]) for layer in card["layers"]]
    assert np.average([layer["bits"] for layer in card["layers"]], weights=sizes) <= card["budget"]
    assert {path.name: path.stat().st_size for path in folder.glob("model.[fo]*")}.items() <= card["bytes"].items()


def test_both_files_say_the_same(model):
    folder, card = model
    images = numpy_generator("models in git").integers(0, 256, (40, 32, 32, 3), np.uint8)
    packed, graph = load(folder / "model.fmpq"), onnxruntime.InferenceSession(folder / "model.onnx")
    assert packed.card.classes == card["classes"]
    (logits,) = graph.run(None, {"images": images})
    assert (logits.argmax(1) == packed.predict(images).argmax(1)).mean() > 0.9
