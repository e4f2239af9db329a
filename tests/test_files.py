import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.errors import UserError
from fedmpq.files import exclusive, replacing, sha256, write_bytes, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupted(path, error, content="half"):
    with replacing(path) as temporary:
        temporary.write_text(content)
        raise error


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent
        assert path.read_text() == content
    assert names(path.parent) == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
        assert names(path) == [name]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(error):
        interrupted(path, error)
    assert path.read_text() == "before"
    with pytest.raises(error):
        interrupted(tmp_path / "other", error)
    assert names(tmp_path) == ["file"]


def test_an_error_in_the_block_leaves_the_folder_that_was_there(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "before").touch()

    def write():
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / "half").touch()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (raised two lines above)
        write()
    assert names(path) == ["before"]
    assert names(tmp_path) == ["folder"]


def test_a_process_killed_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    program = (
        "import os, sys; from pathlib import Path; from fedmpq.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    write_text(path, "after")
    assert path.read_text() == "after"


def test_no_space_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def write():
        with replacing(path) as temporary, temporary.open("wb") as file:
            os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
            file.write(bytes(100_000))

    with pytest.raises(UserError) as caught:
        write()
    assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert path.read_text() == "before"
    assert names(tmp_path) == ["file"]


def test_a_place_below_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "folder" / "new"):
        for write in (lambda p: write_bytes(p, b""), lambda p: write_text(p, ""), lambda p: write_json(p, {})):
            with pytest.raises(UserError, match=rf"^cannot write {path}: (Not a directory|File exists)$"):
                write(path)


def test_a_folder_in_the_place_of_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^cannot write .*folder: Is a directory"):
        write_text(tmp_path / "folder", "")
    assert names(tmp_path) == ["folder"]


def test_a_place_without_permission_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"^cannot write /proc/fedmpq/file: "):
        write_text(Path("/proc/fedmpq/file"), "")


def test_an_error_in_reading_input_passes_through(tmp_path):
    def copy():
        with replacing(tmp_path / "output" / "file") as temporary:
            temporary.write_bytes((tmp_path / "missing").read_bytes())

    with pytest.raises(FileNotFoundError, match="missing"):
        copy()


@given(st.binary(), st.text(st.characters(codec="utf-8")))
def test_content_is_written_as_it_is(tmp_path_factory, content, text):
    path = tmp_path_factory.mktemp("files") / "file"
    write_bytes(path, content)
    assert path.read_bytes() == content
    write_text(path, text)
    assert path.read_bytes() == text.encode()


def test_json_is_readable_and_has_no_numbers_that_json_has_not(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, None, 0.1]})
    assert json.loads(path.read_text()) == {"a": [1, None, 0.1]}
    assert path.read_text().endswith("}\n")
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": [1, None, 0.1]}


def test_digest_is_of_the_bytes_in_their_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"de")
    assert sha256(one, two) == hashlib.sha256(b"abcde").hexdigest()
    assert sha256(two, one) != sha256(one, two)
    assert sha256() == hashlib.sha256().hexdigest()


LOCK = (
    "import sys, time; from pathlib import Path; from fedmpq.files import exclusive\n"
    "with exclusive(Path(sys.argv[1]), 'results'): print('in', flush=True); time.sleep(60)"
)


def test_a_second_process_is_refused_with_the_number_of_the_first_until_that_is_gone(tmp_path):
    path = tmp_path / "locks" / "run.lock"
    with subprocess.Popen([sys.executable, "-c", LOCK, str(path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(UserError) as caught, exclusive(path, "results"):
            pass
        assert str(caught.value).startswith(f"results is being written by process {first.pid};")
        first.kill()
    with exclusive(path, "results"):
        pass


def test_a_second_process_that_waits_comes_next(tmp_path):
    path, order = tmp_path / "run.lock", []

    def second():
        with exclusive(path, "results", wait=True):
            order.append("second")

    thread = Thread(target=second)
    with exclusive(path, "results"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_in_an_impossible_place_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"^cannot write .*file/run\.lock: "),
        exclusive(tmp_path / "file" / "run.lock", "it"),
    ):
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    def fail():
        with exclusive(tmp_path / "run.lock", "it"):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
