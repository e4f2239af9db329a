import subprocess
from pathlib import Path

import pytest

GITIGNORE = Path(__file__).parents[2] / ".gitignore"


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("data/raw/mine.dvc", False),
        ("data/raw/owner/name.dvc", False),
        ("data/raw/.gitignore", False),
        ("data/raw/owner/.gitignore", False),
        ("data/raw/.gitkeep", False),
        ("data/raw/mine/train/cat/1.png", True),
        ("data/raw/owner/name/train-0.parquet", True),
        ("data/raw/archive.zip", True),
        ("data/downloads/own/er/state.json", True),
    ],
)
def test_dvc_can_version_raw_data_that_git_does_not(tmp_path, path, ignored):
    (tmp_path / ".gitignore").write_text(GITIGNORE.read_text())
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    untracked = subprocess.run([*git, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True)
    assert (path not in untracked.stdout) == ignored
