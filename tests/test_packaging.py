"""What is imported is declared, and without the pipeline's tools the package works by itself."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fedmpq"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = [PACKAGE / name for name in ("tracking", "reporting", "tuning", "export/graph.py", "export/write.py")]
"""What of the package serves the pipeline alone."""
HOMES = {name: {canonicalize_name(home) for home in homes} for name, homes in packages_distributions().items()}
"""The distributions from which each module that is installed comes."""
USE = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""
USE = """
import json, sys
import fedmpq

experiment = fedmpq.Experiment.from_yaml(sys.argv[1], "digits", ["training.rounds=3", "data.train_samples=500"])
assert experiment.model.network == "resnet8"
records = list(fedmpq.run(experiment, "fedmpq", alpha=0.5))
fedmpq.save(sys.argv[2], experiment, "fedmpq", records[-1], budget=4)
fedmpq.load(sys.argv[2])
print(json.dumps([fedmpq.__file__, [record.accuracy for record in records]]))
"""


def declared(extra=None):
    """The distributions that pyproject.toml names, by what it says of them."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {canonicalize_name(Requirement(line).name): line for line in lines}


def imported(files):
    """The modules that `files` import anywhere in them, by dotted name."""
    found = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_bytes()))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def distributions(modules):
    """Those from which `modules` come, but for the standard library and this project."""
    tops = {name.partition(".")[0] for name in modules} - {*sys.stdlib_module_names, "fedmpq", "pipeline"}
    return {min(HOMES[top], key=len) for top in tops}


def installed(lines):
    """The distributions of requirements and all that these require here."""
    found, pending = set(), [Requirement(line) for line in lines]
    while pending:
        requirement = pending.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        if wanted := {(name, extra) for extra in extras} - found:
            found |= wanted
            further = map(Requirement, requires(name) or ())
            pending += [
                r for r in further if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def rooms():
    """The files of the package itself, and those that serve the pipeline."""
    files = {*PACKAGE.rglob("*.py")}
    tools = {file for file in files if any(file.is_relative_to(tool) for tool in TOOLS)}
    return files - tools, tools | {*(ROOT / "pipeline").glob("*.py")}


def test_the_package_needs_just_what_it_declares(rooms):
    found = imported(rooms[0])
    assert distributions(found) == {*declared(), *declared("ray")}
    tools = tuple(".".join(tool.relative_to(ROOT / "src").with_suffix("").parts) for tool in TOOLS)
    assert not [name for name in found if name.startswith(tools)]


def test_the_pipeline_declares_what_it_needs_beside(rooms):
    extra = declared("pipeline")
    assert distributions(imported(rooms[1])) <= {*declared(), *extra}
    assert not declared().keys() & extra.keys()


def test_every_requirement_is_met_by_the_lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {canonicalize_name(m[1]): m[2] for line in lines if (m := re.match(r"([\w.-]+)==([^ ]+)", line))}
    for part in (None, "pipeline", "ray", "dev"):
        for name, line in declared(part).items():
            assert name == "fedmpq" or Requirement(line).specifier.contains(locked[name]), line


@pytest.fixture
def environment(tmp_path):
    """A folder in which the wheel is installed, with what it requires without extras, and nothing else."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PACKAGE, source / "src" / "fedmpq", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-index", "--no-deps"]
    subprocess.run([*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", *alone, "--target", site, wheel], check=True)
    for name in installed(PROJECT["dependencies"]):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (site / top).exists():  # Namespaces are shared.
                (site / top).symlink_to(found.locate_file(top))
    return site


def test_an_installed_wheel_trains_without_the_pipelines_tools(environment, tmp_path):
    there = {name.name for name in environment.iterdir()}
    assert {"fedmpq", "torch"} <= there
    assert not {"mlflow", "dvc", "optuna", "matplotlib", "onnx", "onnxruntime", "torchvision", "pytest"} & there
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-S", "-c", USE, ROOT / "params.yaml", tmp_path / "model.fmpq"],  # -S: no other packages
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(environment)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    place, accuracies = json.loads(done.stdout)
    assert Path(place).is_relative_to(environment)
    assert len(accuracies) == 3
    assert accuracies[-1] > 0.15
    assert not any(empty.iterdir())
