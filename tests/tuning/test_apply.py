import difflib
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.tuning.apply import apply


@pytest.fixture
def path(project, tmp_path):
    return Path(shutil.copy(project.file, tmp_path))


def changed_lines(before, after):
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


VALUES = {
    "fedmpq.lambda": 1.234e-05,
    "fedmpq.epsilon": 0.05,
    "fedmpq.aggregation": "updates",
    "lr": 10.0,
    "local_epochs": 3,
    "flip": True,
    "activation_bits": None,
    "model": "resnet20",
}


def test_values_load_and_nothing_else_changes(path):
    before = path.read_text()
    changes = apply(path, "digits", VALUES)
    found = load_parameters(path).experiment("digits").flat("fedmpq")
    assert {key: found[key] for key in VALUES} == VALUES
    lines = changed_lines(before, path.read_text())
    assert len(lines) == 2 * len(changes)
    removed, added = ([line[1:].split() for line in lines if line[0] == sign] for sign in "-+")
    assert [(words[0], words[2:]) for words in removed] == [(words[0], words[2:]) for words in added]
    assert changes["digits.fedmpq.lambda"] == (0.1, 1.234e-05)


def test_other_experiments_keep_their_values(path):
    before = load_parameters(path)
    apply(path, "digits", VALUES)
    after = load_parameters(path)
    assert [name for name in before.sections if before.sections[name] != after.sections[name]] == ["digits"]


def test_twice_changes_nothing(path):
    apply(path, "digits", VALUES)
    before, stamp = path.read_text(), path.stat().st_mtime_ns
    assert apply(path, "digits", VALUES) == {}
    assert (path.read_text(), path.stat().st_mtime_ns) == (before, stamp)


def test_key_that_is_not_there_gets_a_line(path):
    path.write_text(path.read_text().replace("    min_bits: 1  # bits that each layer keeps\n", ""))
    before = path.read_text()
    assert apply(path, "digits", {"fedmpq.min_bits": 2}) == {"digits.fedmpq.min_bits": (None, 2)}
    assert [line.split() for line in changed_lines(before, path.read_text())] == [["+", "min_bits:", "2"]]


@pytest.mark.parametrize("written", ["{lambda: 0.1, epsilon: 0.2}", "{ epsilon: 0.2 , 'lambda': 0.1 }  # a, {b}"])
def test_sections_in_braces(path, written):
    text = path.read_text()
    start = text.index("  fedmpq:\n", text.index("\ndigits:"))
    end = text.index("  pruning:", start)
    path.write_text(text[:start] + f"  fedmpq: {written}\n" + text[end:])
    apply(path, "digits", {"fedmpq.lambda": 0.5, "fedmpq.min_bits": 2})
    found = load_parameters(path).experiment("digits").fedmpq
    assert (found.lambda_, found.epsilon, found.min_bits) == (0.5, 0.2, 2)
    assert written[written.index("epsilon") : written.index("epsilon") + 12] in path.read_text()


def test_words_are_quoted_where_they_must_be(path):
    apply(path, "digits", {"model": "null"})
    assert YAML(typ="safe").load(path)["digits"]["model"] == "null"


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("digits", {"lr": -1.0}, "digits.lr: -1.0"),
        ("digits", {"fedmpq.epsilon": 0.1, "lr": 0.0}, "digits.lr: 0.0"),
        ("digit", {"lr": 1.0}, "unknown experiment 'digit'"),
        ("digits", {"other.lr": 1.0}, "no section 'digits.other'"),
    ],
)
def test_what_is_not_allowed_leaves_the_file(path, section, values, said):
    before = path.read_text()
    with pytest.raises(UserError, match=said):
        apply(path, section, values)
    assert path.read_text() == before
    assert list(path.parent.glob(".params*")) == []


def test_value_on_several_lines_is_left_to_its_owner(path):
    before = path.read_text().replace("  lr: 0.1\n", "  lr: &rate\n    0.1\n", 1)
    path.write_text(before)
    with pytest.raises(UserError, match="set it by hand"):
        apply(path, "digits", {"lr": 0.2})
    assert path.read_text() == before
