import shutil
from collections import Counter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.tuning.apply import apply

REPO = Path(__file__).parents[2]

VALUES = {
    "fedmpq.lambda": 1.234e-05,
    "fedmpq.aggregation": "updates",
    "pruning.epsilon": 0.05,
    "pruning.lambda": 0.3,
    "training.rounds": 3,
    "training.lr": 10.0,
    "data.flip": True,
    "model.activation_bits": None,
    "model.network": "resnet20",
}


@pytest.fixture
def path(tmp_path):
    return shutil.copy(REPO / "params.yaml", tmp_path / "params.yaml")


def difference(before, after):
    """Lines that were removed and added, with their indentation."""
    old, new = (Counter(text.splitlines()) for text in (before, after))
    return list((old - new).elements()), list((new - old).elements())


def test_values_land_in_the_experiment_and_nothing_else_changes(path):
    before, parameters = path.read_text(), load_parameters(path)
    changes = apply(path, "digits", VALUES)
    assert changes["digits.fedmpq.lambda"] == (0.1, 1.234e-05)
    assert set(changes) == {f"digits.{key}" for key in VALUES}
    removed, added = difference(before, path.read_text())
    assert sorted(line.split()[0] for line in removed) == ["network:", "rounds:"]
    assert len(added) == len(VALUES)
    after = load_parameters(path)
    assert after.sections == parameters.sections | {"digits": parameters.varied("digits", VALUES)}


@pytest.mark.parametrize("name", ["digits", "cifar10", "tiny-imagenet"])
def test_a_key_that_is_inherited_gets_a_line_below_its_group(path, name):
    before = path.read_text()
    # One after another: the last group of a section has a comment below.
    for key, value in (("quantizer", "normal"), ("aggregation", "weights")):
        apply(path, name, {f"uveqfed.{key}": value})
    lines = path.read_text().splitlines()
    start = lines.index("  uveqfed:", lines.index(f"{name}:"))
    own = ["    <<: *uveqfed", "    aggregation: weights", "    quantizer: normal"]
    assert lines[start + 1 : start + 4] == own
    assert difference(before, path.read_text())[0] == []


def test_twice_changes_nothing(path):
    apply(path, "digits", VALUES)
    before, stamp = path.read_text(), path.stat().st_mtime_ns
    assert apply(path, "digits", VALUES) == {}
    assert (path.read_text(), path.stat().st_mtime_ns) == (before, stamp)


def test_words_are_quoted_where_they_must_be(path):
    apply(path, "digits", {"model.network": "null"})
    assert YAML(typ="safe").load(path)["digits"]["model"]["network"] == "null"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("digits", {"training.lr": -1.0}, "digits.training.lr: -1.0"),
        ("digits", {"fedmpq.epsilon": 0.1, "training.lr": 0.0}, "digits.training.lr: 0.0"),
        ("digit", {"training.lr": 1.0}, "unknown experiment 'digit'"),
        ("digits", {"trainin.lr": 1.0}, "no section 'trainin'"),
    ],
)
def test_what_is_not_allowed_leaves_the_file(path, name, values, said):
    before = path.read_text()
    with pytest.raises(UserError, match=said):
        apply(path, name, values)
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["params.yaml"]


def test_a_group_that_experiments_share_is_left_to_its_owner(path):
    before = path.read_text().replace("  fedmpq:\n    <<: *fedmpq\n", "  fedmpq: *fedmpq\n")
    path.write_text(before)
    with pytest.raises(UserError, match=r"share digits\.fedmpq\.lambda; set it by hand"):
        apply(path, "digits", {"fedmpq.lambda": 0.2})
    assert path.read_text() == before
