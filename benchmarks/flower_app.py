"""FedAvg in Flower's own simulation, as its documentation shows it: a ClientApp, a ServerApp, its FedAvg.

Runs in an environment of its own, which has nothing of this package but the network, and in a folder that
`project.make` has made: python flower_app.py ACTORS PARTITION. What is plain there is done well here: images are
normalized once in a training, the convolutions get channels-last tensors, a client has one thread and the server all.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")

import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.utils.data import DataLoader, TensorDataset

from fedmpq.models.resnet import ResNet

SETTINGS = json.loads(Path("params.yaml").read_text())["bench"]
TRAINING, CLIENTS = SETTINGS["training"], SETTINGS["partition"]["clients"]
DATA, PARTITION = Path("data/prepared/bench").resolve(), Path(sys.argv[2])
META = json.loads((DATA / "meta.json").read_text())
client_app, server_app = ClientApp(), ServerApp()


def network(arrays: ArrayRecord | None = None) -> torch.nn.Module:
    """The network, with the weights in `arrays` if there are any."""
    model = ResNet(int(SETTINGS["model"]["network"].removeprefix("resnet")), len(META["classes"]))
    if arrays:
        model.load_state_dict(arrays.to_torch_state_dict())
    return model.to(memory_format=torch.channels_last)


def batches(part: str, indices: np.ndarray | slice, size: int) -> DataLoader:
    """Normalized images and labels of the `train` or `test` part."""
    images, labels = (
        torch.from_numpy(np.load(DATA / f"{part}_{kind}.npy", mmap_mode="r")[indices].copy())
        for kind in ("images", "labels")
    )
    mean, std = torch.tensor(META["mean"]), torch.tensor(META["std"])
    normalized = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    return DataLoader(TensorDataset(normalized, labels), batch_size=size, shuffle=part == "train")


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the client's own images."""
    torch.set_num_threads(1)
    model = network(message.content["arrays"]).train()
    with np.load(PARTITION) as file:
        client = context.node_config["partition-id"]
        indices = file["indices"][file["offsets"][client] : file["offsets"][client + 1]]
    loader = batches("train", indices, TRAINING["batch_size"])
    optimizer = torch.optim.SGD(model.parameters(), lr=TRAINING["lr"], momentum=TRAINING["momentum"])
    for _ in range(TRAINING["local_epochs"]):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    answer = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(indices)})}
    return Message(content=RecordDict(answer), reply_to=message)


@torch.inference_mode()
def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the global model on the server."""
    model = network(arrays).eval()
    outcomes = [model(images).argmax(1) == labels for images, labels in batches("test", slice(None), 100)]
    accuracy = torch.cat(outcomes).float().mean().item()
    if number:
        print(f"round {number}, accuracy {accuracy:.3f}", flush=True)
    return MetricRecord({"accuracy": accuracy})


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds; every client trains in each."""
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=CLIENTS)
    start = ArrayRecord(network().state_dict())
    strategy.start(grid, initial_arrays=start, num_rounds=TRAINING["rounds"], evaluate_fn=evaluate)


if __name__ == "__main__":
    ray = {"num_cpus": int(sys.argv[1]), "address": "local"}  # Never a cluster that happens to run here.
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": ray}
    run_simulation(server_app, client_app, CLIENTS, backend_config=backend)
