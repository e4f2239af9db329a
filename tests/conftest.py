import importlib
import os

import pytest
from hypothesis import settings
from joblib import cpu_count

# The tensors here are small: threads would only wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whatever the tests start imports this checkout's package, as whatever a stage starts does.
importlib.import_module("pipeline")

LONG = {"test_end_to_end.py", "test_torture.py", "test_tune.py"}

# A busy machine makes single examples slow; that is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_xdist_auto_num_workers():
    """One more than there are cores: a quarter of the time a test waits for what it has started."""
    return cpu_count() + 1


def pytest_collection_modifyitems(items):
    """Files that take long start first: each is one worker's, to its end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """An empty database of MLflow to copy from: its migrations take seconds."""
    from fedmpq.tracking.connection import Connection

    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    assert Connection(f"sqlite:///{database}", database.parent).client
    return database


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder of the prepared set of `tiny`."""
    import tiny

    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    tiny.write_arrays(folder)
    return folder
