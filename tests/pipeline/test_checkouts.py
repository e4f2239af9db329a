"""Whatever is run from a checkout runs its code, though the environment holds another's."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARK = """
import json, os, time
from pathlib import Path
import pipeline

place = Path(os.environ.get("DVC_ROOT", "."))
(place / "begun").touch()
while (place / "hold").exists():
    time.sleep(0.05)
from fedmpq.mark import MARK

Path("mark.json").write_text(json.dumps({"mark": MARK}))
"""
STAGES = """
stages:
  mark:
    cmd: python -m pipeline.mark
    deps: [src/fedmpq/mark.py]
    metrics: [{mark.json: {cache: false}}]
"""
IGNORED = "/begun\n/hold\n__pycache__\n"


class Checkout:
    """A checkout of a small copy of the project, whose one stage records a number that stands in its code."""

    def __init__(self, folder, other):
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        self.environment = kept | {"PATH": path, "PYTHONPATH": str(other / "src")}

    def start(self, *command):
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, *command, fails=False):
        process = self.start(*command)
        output = process.communicate()[0]
        assert (process.returncode != 0) == fails, output
        return output

    def git(self, *arguments):
        return self.run("git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments)

    def python(self, *arguments, **kwargs):
        return self.run(sys.executable, *arguments, **kwargs)

    def dvc(self, *arguments):
        return self.python("-m", "dvc", *arguments)

    def write(self, mark):
        (self.folder / "src/fedmpq/mark.py").write_text(f"MARK = {mark}\n")

    def result(self):
        return json.loads((self.folder / "mark.json").read_text())["mark"]

    def experiment(self, name):
        """What the experiment recorded; None: it has not ended."""
        reference = self.git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").strip()
        return json.loads(self.git("show", f"{reference}:mark.json"))["mark"] if reference else None


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    """The checkout whose environment is active."""
    checkout = Checkout(tmp_path_factory.mktemp("checkouts") / "main", ROOT)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src/fedmpq", "pipeline", ".dvc/config"):
        copy = shutil.copyfile if (ROOT / name).is_file() else lambda *ends: shutil.copytree(*ends, ignore=ignored)
        (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, checkout.folder / name)
    (checkout.folder / "pipeline/mark.py").write_text(MARK)
    (checkout.folder / "dvc.yaml").write_text(STAGES)
    (checkout.folder / ".gitignore").write_text(IGNORED)
    checkout.write(1)
    checkout.git("init", "--quiet")
    checkout.dvc("repro", "--quiet")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "first")
    return checkout


def test_a_worktree_runs_its_own_code(main):
    main.git("worktree", "add", "--quiet", "../try", "-b", "try")
    other = Checkout(main.folder.parent / "try", main.folder)
    other.write(2)
    other.dvc("repro", "--quiet")
    assert (other.result(), main.result()) == (2, 1)


def test_queued_experiments_run_the_code_that_was_queued(main):
    main.write(3)
    main.dvc("exp", "run", "--queue", "--name", "three")
    main.write(4)
    main.dvc("queue", "start")
    deadline = time.monotonic() + 120
    while (found := main.experiment("three")) is None:
        assert time.monotonic() < deadline, main.dvc("queue", "status")
        time.sleep(0.2)
    assert found == 3
    main.git("checkout", "--quiet", "src")


def test_an_edit_meanwhile_does_not_reach_an_experiment_in_a_copy(main):
    (main.folder / "begun").unlink()
    (main.folder / "hold").touch()
    main.write(5)
    running = main.start(sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", "five")
    while not (main.folder / "begun").exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    main.write(6)
    (main.folder / "hold").unlink()
    output = running.communicate()[0]
    assert running.returncode == 0, output
    assert main.experiment("five") == 5
    main.git("checkout", "--quiet", "src")


@pytest.mark.parametrize("begin", ["import fedmpq, pipeline", "import fedmpq.errors; import pipeline.check"])
def test_a_package_that_came_from_elsewhere_before_is_refused(main, begin):
    output = main.python("-c", begin, fails=True)
    assert output == (
        f"error: fedmpq was imported from {ROOT / 'src'}, but this pipeline goes with {main.folder / 'src'}\n"
    )
