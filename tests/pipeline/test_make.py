"""`make setup` says in one line why it cannot work here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup(tmp_path):
    """A function that runs `make setup` in a folder of its own, in an environment with `changes`."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)

    def run(**changes):
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), **changes}
        done = subprocess.run(["make", "setup"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return said

    return run


def test_no_repository(setup):
    assert setup().endswith("clone the project, or run: git init")


def test_a_repository_of_another_owner(setup, tmp_path):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    said = setup(GIT_TEST_ASSUME_DIFFERENT_OWNER="1", HOME=str(tmp_path))
    assert "dubious ownership" in said
    assert "safe.directory" in said


def test_no_git(setup, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "tr", "cat", "python3", "awk"):
        (tools / name).symlink_to(shutil.which(name))
    assert "git: not found" in setup(PATH=str(tools))
