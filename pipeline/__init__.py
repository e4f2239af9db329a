"""The stages of dvc.yaml, each a thin script: read parameters, call the package, write outputs.

Whatever starts here imports the package from beside this folder, and so does every process that it starts: the
environment may hold another checkout's.
"""

import os
import sys
from pathlib import Path

_PLACES = [str((Path(__file__).resolve().parents[1] / folder).resolve()) for folder in ("src", ".")]
sys.path[:0] = _PLACES
os.environ["PYTHONPATH"] = os.pathsep.join([*_PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])

import fedmpq  # noqa: E402

_found = str(Path(fedmpq.__file__).resolve().parents[1])
if _found != _PLACES[0]:
    sys.exit(f"error: fedmpq was imported from {_found}, but this pipeline goes with {_PLACES[0]}")
