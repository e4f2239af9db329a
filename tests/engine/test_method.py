"""Which files determine a result."""

import re
import shutil
from pathlib import Path

import pytest

from fedmpq.config import ALGORITHM_NAMES
from fedmpq.engine import method
from fedmpq.engine.method import SOURCE, code_digest, method_files
from fedmpq.errors import UserError
from pipeline import command, inputs

PACKAGE = SOURCE / "fedmpq"
BASE = {"pruning": "fedmpq", "fedmpq_plus": "fedmpq", "uveqfed": "fedpaq"}
"""Algorithms that build on another's file."""
ROOMS = ("federated", "models", "quantization")
DATA = ("__init__", "arrays", "batches", "dirichlet", "partition")
BESIDE = {"extension.py", "seeding.py", *(f"data/{name}.py" for name in DATA)}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a module of the user's own."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, content=""):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    return write


def names(algorithm, network="resnet8"):
    """Files of the package by name, and the other ones."""
    files = method_files(algorithm, network).values()
    ours = {file.relative_to(PACKAGE).as_posix() for file in files if file.is_relative_to(PACKAGE)}
    return ours, {file for file in files if not file.is_relative_to(PACKAGE)}


@pytest.mark.parametrize("network", ["resnet8", "user_models:linear"])
@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_the_method_is_closed_and_whole(algorithm, network):
    ours, _ = names(algorithm, network)
    rooms = {path.relative_to(PACKAGE).as_posix() for room in ROOMS for path in (PACKAGE / room).rglob("*.py")}
    others = {f"federated/algorithms/{name}.py" for name in ALGORITHM_NAMES if name != algorithm}
    others -= {f"federated/algorithms/{BASE[algorithm]}.py"} if algorithm in BASE else set()
    others |= {"federated/noise_balance.py"} if algorithm != "fedmpq_plus" else set()
    assert ours == (rooms | BESIDE) - others


def test_the_digest_is_of_the_contents(write):
    module = write("mine.py", "import user_models\n")
    first = code_digest("fp32", "mine:factory")
    assert first == code_digest("fp32", "mine:factory")
    module.write_text("import user_models  # changed\n")
    assert len({first, code_digest("fp32", "mine:factory"), code_digest("fp32", "resnet8")}) == 3


def test_adding_an_algorithm_changes_no_other_list(monkeypatch, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "fedmpq")
    monkeypatch.setattr(method, "SOURCE", tmp_path)
    before = {name: method_files(name, "resnet8") for name in ALGORITHM_NAMES}
    path = tmp_path / "fedmpq" / "federated" / "algorithms" / "another.py"
    path.write_text("from fedmpq.federated.algorithms.aqfl import AQFL\n")
    assert {name: method_files(name, "resnet8") for name in ALGORITHM_NAMES} == before
    assert set(method_files("another", "resnet8").values()) == {*before["aqfl"].values(), path}


@pytest.mark.parametrize(
    ("network", "content"),
    [
        ("mine", "import helper"),
        ("mine", "def factory(classes, image_size):\n    from helper import x"),
        ("nets/mine", "from . import helper"),
        ("nets/mine", "from .helper import x"),
        ("nets/mine", "from nets.helper import x as y"),
        ("nets/mine", "import torch, nets.helper"),
    ],
)
@pytest.mark.parametrize("package", [False, True])
def test_a_network_of_ones_own_brings_what_it_imports(write, network, content, package):
    folder = network.removesuffix("mine")
    expected = {write(f"{network}.py", content), write(f"{folder}helper.py", "import far"), write("far.py")}
    if package and folder:  # A folder without it is a package too.
        expected.add(write(f"{folder}__init__.py"))
    assert names("fp32", f"{network.replace('/', '.')}:factory") == (names("fp32")[0], expected)


def test_an_algorithm_of_ones_own_brings_what_it_imports(write):
    helper = write("helper.py")
    write("mine.py", "import helper\nfrom fedmpq.federated.algorithms.fedpaq import FedPAQ")
    ours, others = names("mine:Mine")
    assert ours == names("fedpaq")[0]
    assert others == {helper, helper.with_name("mine.py")}


def test_of_a_librarys_network_its_module_alone():
    _, others = names("fp32", "torchvision.models.resnet:resnet18")
    assert [file.name for file in others] == ["resnet.py"]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("no_such_module:factory", "there is no such module"),
        ("no.such.module:factory", "there is no such module"),
        ("mine.deeper:factory", "there is no such module"),
        ("sys:factory", "there is no such module"),
        (":factory", "there is no such module"),
        ("wrong:factory", r"invalid syntax \(.*wrong\.py, line 2\)"),
        ("beyond:factory", "relative module"),
    ],
)
def test_what_is_not_there_is_a_users_error(write, network, said):
    write("mine.py")
    write("wrong.py", "import torch\nx = = 3\n")
    write("beyond.py", "from . import x\n")
    module = network.partition(":")[0]
    with pytest.raises(UserError, match=rf"^model\.network: cannot import '{re.escape(module)}': .*{said}"):
        method_files("fp32", network)
    with pytest.raises(UserError, match=rf"^of: cannot import '{re.escape(module)}': .*{said}"):
        method_files(network, "resnet8")


def test_a_file_that_dvc_does_not_watch_is_refused():
    root, files = command.ROOT, {"mine": command.ROOT / "pipeline" / "command.py", "torch": Path("/elsewhere/t.py")}
    with pytest.raises(UserError, match=r"^pipeline/command.py is not watched by DVC; move it to extensions/"):
        inputs.code(files, [root / "extensions", root / "src" / "fedmpq"])
    watched = {"mine": files["mine"]}
    assert inputs.code(watched, [root / "pipeline"]).keys() == watched.keys()
    assert inputs.code(watched, [root / "pipeline" / "command.py"]) == inputs.code(watched, [root])
