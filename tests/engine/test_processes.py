"""What processes are born into, whatever started the one that starts them."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedmpq.engine.method import SOURCE
from fedmpq.engine.processes import short_folder

SCRIPT = """
import sys
sys.path.insert(0, {source!r})
print("begun", flush=True)
import modules_of_the_script
from fedmpq.engine import processes
{importing}
ours, theirs = processes.CONTEXT.Pipe()
process = processes.start(modules_of_the_script.tell, theirs)
print(ours.recv())
process.join()
sys.exit(process.exitcode)
"""
LIBRARIES = {True: "processes.start_importing()", False: "processes.CONTEXT.set_forkserver_preload([])"}
MODULE = """
def tell(connection):
    import json, sys, tempfile, fedmpq.errors
    connection.send(json.dumps({
        "package": fedmpq.errors.__file__,
        "libraries": "lightning" in sys.modules,
        "temporary": tempfile.gettempdir(),
    }))
"""


@pytest.fixture
def script(tmp_path):
    """A function that runs a script without a guard, in an environment of another checkout; returns what was told."""
    (tmp_path / "modules_of_the_script.py").write_text(MODULE)
    other = tmp_path / "other" / "fedmpq"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('of another checkout')")

    def run(importing=False, **environment):
        content = SCRIPT.format(source=str(SOURCE), importing=LIBRARIES[importing])
        (tmp_path / "script.py").write_text(content)
        done = subprocess.run(
            [sys.executable, tmp_path / "script.py"],
            env=os.environ | {"PYTHONPATH": str(other.parent)} | environment,
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        begun, told = done.stdout.splitlines()
        assert begun == "begun"
        return json.loads(told)

    return run


@pytest.mark.parametrize("importing", [False, True])
def test_a_script_without_a_guard_starts_a_process_of_its_own_checkout(script, importing):
    told = script(importing)
    assert told["package"] == str(SOURCE / "fedmpq" / "errors.py")
    assert told["libraries"] == importing


@pytest.mark.parametrize("length", [70, 71, 92, 113, 220])
def test_a_long_folder_for_temporary_files_holds_no_sockets(script, length):
    with tempfile.TemporaryDirectory(dir=short_folder(40)) as root:
        folder = Path(root, "t" * (length - len(root) - 1))
        folder.mkdir()
        assert script(TMPDIR=str(folder))["temporary"] == str(folder)


def test_a_folder_that_is_short_enough_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    length = len(str(tmp_path))
    assert short_folder(length) == str(tmp_path)
    assert len(short_folder(length - 1)) < length
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "ü"))
    assert len(os.fsencode(str(tmp_path / "ü"))) == length + 3
    assert short_folder(length + 2) != str(tmp_path / "ü")
