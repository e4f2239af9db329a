"""The files of a device's model, compared with PyTorch before anyone sees them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from fedmpq.data.arrays import Dataset
from fedmpq.engine.cell import Cell
from fedmpq.engine.results import FULL_PRECISION
from fedmpq.errors import UserError
from fedmpq.export.calibrate import calibrate
from fedmpq.export.graph import as_onnx
from fedmpq.export.packed import Card, Device, load, pack
from fedmpq.extension import one_line
from fedmpq.federated.allocation import Consensus
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Bits
from fedmpq.federated.server import Federation, ServerState
from fedmpq.federated.setup import Setup
from fedmpq.files import replacing, write_json

DIFFERING = 0.001
"""Share of the test images, and one image in any case, of which ONNX Runtime may say what PyTorch does not: where an
activation lies on the border between two codes, the order of additions decides."""
BATCH = 100
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images to logits."""


def read_state(setup: Setup, path: Path) -> ServerState:
    """The final model of a run in `path`, model.pt, and what its clients agreed on, in consensus.json beside it.

    Raises:
        UserError: one of them cannot be read, or is of another network.
    """
    model, layout, _ = setup.build_model()
    try:
        state = torch.load(path, weights_only=True)
        if state.keys() != {**layout.weights, **layout.remainder}.keys():
            raise ValueError("its layers have other names")
        model.load_state_dict(state, strict=False)
        agreed = json.loads(path.with_name("consensus.json").read_text())
        consensus = agreed and Consensus(**{name: tuple(values) for name, values in agreed.items()})
    except Exception as error:  # of a file that is something else torch raises nearly anything
        raise UserError(f"{path} cannot be read as a model of these parameters: {one_line(error)}") from error
    return ServerState(setup.experiment.training.rounds, layout.flatten(model), consensus)


def export(
    cell: Cell,
    seed: int,
    model: Path,
    budget: float,
    only: str | None,
    folder: Path,
    images: int | None = None,
    differing: int | None = None,
) -> dict[str, Any]:
    """Write a device's model into `folder`, which appears as a whole or stays as it was.

    Args:
        cell: what was trained.
        seed: of the run.
        model: see `read_state`.
        budget: of the device, average bits a weight, 1 .. 8.
        only: `onnx`: model.onnx alone; `packed`: model.fmpq alone; None: both.
        folder: gets them, and model.json.
        images: on which clients measure statistics of batch norm (see `calibrate`); 0: they stay; None: as in training.
        differing: how many test images ONNX Runtime may classify otherwise than PyTorch; None: see `DIFFERING`.

    Returns:
        What model.json holds: the device's layers and bits; bytes of the files; accuracy (0 .. 1) on the test set and
        milliseconds an image of the global model in float32, and of the device's in PyTorch and ONNX Runtime;
        on how many test images these two differ.

    Raises:
        UserError: the model cannot be read or exported, or ONNX Runtime disagrees with PyTorch.
    """
    setup = cell.setup(seed)
    state, server = read_state(setup, model), Federation(setup, executor=None)
    bits, card = setup.algorithm.allocate(server.view(state), budget), Card.of(setup, state.round)
    float32, message = (server.encoded(state.model, widths, state.round, 0) for widths in (None, bits))
    images = setup.algorithm.calibration if images is None else images
    if images:
        calibrate(device := Device(card, message), setup, budget, images)
        measured = FlatModel(state.model.weights, server.layout.flatten(device.network).remainder)
        message = server.encoded(measured, bits, state.round, 0)
    with replacing(folder) as temporary:
        temporary.mkdir()
        packed, graph = temporary / "model.fmpq", temporary / "model.onnx"
        packed.write_bytes(pack(card, message))
        devices = {"float32": Device(card, float32), "PyTorch": load(packed, card.network)}
        runs = {name: device.predict for name, device in devices.items()}
        if only != "packed":
            graph.write_bytes(as_onnx(load(packed, card.network)))
            runs["ONNX Runtime"] = _onnx_runtime(graph)
        if only == "onnx":
            packed.unlink()
        names = {"experiment": cell.name, "algorithm": cell.algorithm, "alpha": cell.alpha, "seed": seed}
        data = {"image_size": card.image_size, "classes": card.classes}
        sizes = {"float32": len(float32), **{path.name: path.stat().st_size for path in temporary.iterdir()}}
        about = {
            **names,
            "budget": budget,
            "calibration_images": images,
            **data,
            "layers": _layers(server, bits),
            "bytes": sizes,
        }
        about |= _compared(runs, setup.dataset, differing)
        write_json(temporary / "model.json", about)
    return about


def _layers(server: Federation, bits: Bits) -> list[dict[str, Any]]:
    layout = server.layout
    shapes = zip(layout.layers, layout.weights.values(), bits or [FULL_PRECISION] * len(layout.sizes), strict=True)
    return [{"name": name, "shape": list(shape), "bits": b} for name, shape, b in shapes]


def _onnx_runtime(path: Path) -> Run:
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error
    return lambda images: session.run(None, {"images": images})[0]


def _compared(runs: dict[str, Run], data: Dataset, allowed: int | None) -> dict[str, Any]:
    labels, said, milliseconds = data.test_labels, {}, {}
    for name, run in runs.items():
        started = time.perf_counter()
        logits = [run(np.array(data.test_images[start : start + BATCH])) for start in range(0, len(labels), BATCH)]
        milliseconds[name] = round(1000 * (time.perf_counter() - started) / len(labels), 3)
        said[name] = np.concatenate(logits).argmax(1)
    accuracy = {name: float((classes == labels).mean()) for name, classes in said.items()}
    compared = {"accuracy": accuracy, "milliseconds": milliseconds}
    if "ONNX Runtime" in said:
        compared["differing"] = differing = int((said["ONNX Runtime"] != said["PyTorch"]).sum())
        allowed = max(1, int(DIFFERING * len(labels))) if allowed is None else allowed
        if differing > allowed:
            raise UserError(
                f"ONNX Runtime agrees with PyTorch on {1 - differing / len(labels):.2%} of the test images:"
                f" {differing} differ, {allowed} may (--differing allows more); nothing is written"
            )
    return compared
