import os
import socket
import subprocess
import sys
import time

import huggingface_hub.constants
import pytest
from hub import Hub
from image_files import encode, pixels_of, write_image, write_parquet

from fedmpq.data import huggingface

TRAIN = "train-00000-of-00002.parquet"
TEST = "test-00000-of-00001.parquet"


def test_images_and_labels_in_the_order_of_files_and_rows(parquet_set, opened):
    source = opened()
    assert source.classes == ["cat", "dog"]
    assert source.description == "parquet files in data/raw/mine"
    assert source.train.labels.tolist() == [0, 1] * 4
    assert source.test.labels.tolist() == [1, 0] * 2
    assert pixels_of(source.train)[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 100, 110, 120, 130]
    assert source.train.place(4) == "parquet files in data/raw/mine, train, row 4 (from 0)"


@pytest.mark.parametrize("name", ["validation-00000-of-00001", "valid-00000-of-00001-70d52db3", "val-0"])
def test_other_names_of_test_files(parquet_set, opened, name):
    (parquet_set / TEST).rename(parquet_set / f"{name}.parquet")
    source = opened()
    assert len(source.test.labels) == 4
    assert source.description == "parquet files in data/raw/mine, tested on validation"


def test_test_files_win_over_validation_files(parquet_set, opened):
    write_parquet(parquet_set / "validation-00000-of-00001.parquet", [encode()], [0], names=["cat", "dog"])
    assert len(opened().test.labels) == 4


def test_without_test_files_a_fifth_of_each_class_is_held_out(parquet_set, opened):
    (parquet_set / TEST).unlink()
    source = opened()
    assert source.description == "parquet files in data/raw/mine, a fifth of it for testing"
    assert sorted(source.test.labels.tolist()) == [0, 1]
    shades = pixels_of(source.train)[:, 0, 0, 0].tolist() + pixels_of(source.test)[:, 0, 0, 0].tolist()
    assert sorted(shades) == [0, 10, 20, 30, 100, 110, 120, 130]


def test_changed_files_are_read_anew(parquet_set, opened):
    time_of = (parquet_set / TEST).stat().st_mtime
    opened()
    write_parquet(parquet_set / TEST, [encode()] * 4, [1, 1, 1, 0], names=["cat", "dog"])
    os.utime(parquet_set / TEST, (time_of, time_of))
    assert opened().test.labels.tolist() == [1, 1, 1, 0]


def test_other_layouts_that_the_library_knows(tmp_path, opened):
    folder = tmp_path / "raw/mine"
    for number in range(10):
        write_image(folder / f"{'cat' if number % 2 else 'dog'}/{number}.png", (number, 0, 0))
    source = opened()
    assert source.classes == ["cat", "dog"]
    assert sorted([*pixels_of(source.train)[:, 0, 0, 0], *pixels_of(source.test)[:, 0, 0, 0]]) == list(range(10))


def test_missing_files_are_named(parquet_set, refused):
    (parquet_set / TRAIN).unlink()
    assert "lacks train-00000-of-00002.parquet; add it" in refused()
    (parquet_set / "train-00001-of-00002.parquet").unlink()
    assert "there is no part train, only test; add it" in refused()


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_files_are_named(parquet_set, refused, keep):
    whole = (parquet_set / TEST).read_bytes()
    (parquet_set / TEST).write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert f"{TEST} is no whole parquet file (" in refused()


def test_damage_between_beginning_and_end_is_noticed(parquet_set, refused):
    whole = bytearray((parquet_set / TEST).read_bytes())
    whole[4:40] = b"\xff" * 36
    (parquet_set / TEST).write_bytes(whole)
    assert "raw/mine cannot be read (Couldn't deserialize" in refused()


def test_files_without_rows_are_named(parquet_set, refused):
    write_parquet(parquet_set / TEST, [], [])
    assert f"{TEST}: there are no rows" in refused()


def test_files_with_other_columns_than_the_first_are_refused(parquet_set, refused):
    write_parquet(parquet_set / TEST, [encode()], [0], image="picture")
    assert "raw/mine cannot be read (Couldn't cast picture" in refused()


@pytest.mark.parametrize("name", ["a [b]", "a*", "is it?"])
def test_a_folder_that_would_be_read_as_a_pattern_is_refused(parquet_set, refused, name):
    parquet_set.rename(parquet_set.with_name(name))
    assert "would be read as a pattern; move the data or the project" in refused(name)


@pytest.mark.parametrize("name", ["50% of #1", "ü & {x}", "~x"])
def test_folders_of_any_other_name(parquet_set, opened, name):
    parquet_set.rename(parquet_set.with_name(name))
    assert opened(name).classes == ["cat", "dog"]


READ = """
import sys
from pathlib import Path
from fedmpq.data.sources import open_source
assert "datasets" not in sys.modules
for _ in range(2):
    source = open_source("own/er", Path("raw"), Path("downloads"))
    print(source.description, source.classes, *source.train.labels)
    print(source.train.place(1), source.train.image(1).read(4))
"""


def test_a_download_from_the_hub_is_kept_below_downloads_and_used_again(tmp_path, parquet_set):
    """In a process of its own, since the library reads its settings once."""
    hub = Hub({"README.md": b"x"} | {f"data/{path.name}": path.read_bytes() for path in parquet_set.iterdir()})
    (tmp_path / "own/er").mkdir(parents=True)  # in the current folder: nothing to do with the data set
    settings = {"HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", READ]
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)
    found = [
        "parquet files of own/er on the Hugging Face Hub ['cat', 'dog'] 0 1 0 1 0 1 0 1",
        "parquet files of own/er on the Hugging Face Hub, train, row 1 (from 0) b'\\x89PNG'",
    ]
    assert (run.stderr, run.stdout.splitlines()) == ("", found * 2)
    assert not (tmp_path / "home").exists()
    assert {path.name for path in (tmp_path / "downloads").iterdir()} == {".huggingface", "own"}
    assert hub.asked.count("/") == 1
    assert all(path == "/" or "/datasets/own/er/" in path for path in hub.asked)


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist", "own/er"])
def test_without_network_the_error_says_what_to_put_where(tmp_path, refused, monkeypatch, name):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / name / ".DS_Store").touch()
    message = refused(name)
    assert message.startswith("cannot download ")
    assert " from the Hugging Face Hub ([Errno 111] Connection refused); put train-" in message
    assert message.endswith(f"with images in {tmp_path}/raw/{name}/ instead")
    assert not list((tmp_path / "downloads").iterdir())


def test_a_network_that_does_not_answer_is_not_waited_for(refused, monkeypatch):
    monkeypatch.setattr(huggingface, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert "cannot download uoft-cs/cifar10 from the Hugging Face Hub (" in refused("cifar10")
        assert time.monotonic() - start < 2


def test_a_damaged_download_is_named(tmp_path, refused):
    (tmp_path / "downloads/uoft-cs/cifar10").mkdir(parents=True)
    assert "downloads/uoft-cs/cifar10 cannot be read (" in refused("cifar10")
    assert "; delete it to download it again" in refused("cifar10")
