"""params.yaml, changed, and what is said of it."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.errors import UserError

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="session")
def load():
    """`load_parameters` of the project's params.yaml, with overrides."""
    return lambda overrides=None: load_parameters(PARAMS, overrides)


@pytest.fixture(scope="session")
def parameters(load):
    return load()


@pytest.fixture(scope="session")
def refused():
    """A function that returns the line with which params.yaml, or another file, is refused with these overrides."""

    def refused(overrides, path=PARAMS):
        with pytest.raises(UserError) as caught:
            load_parameters(path, overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refused


@pytest.fixture
def edited(tmp_path):
    """A function that changes the tree of params.yaml and returns the path of the changed file."""

    def edit(change):
        tree = YAML(typ="safe").load(PARAMS)
        change(tree)
        path = tmp_path / "params.yaml"
        YAML().dump(tree, path)
        return path

    return edit
