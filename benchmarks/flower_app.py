"""FedAvg in Flower's own simulation, as its documentation shows it: a ClientApp, a ServerApp, its FedAvg.

Runs in an environment of its own, in which of this project only the network is used. What is plain there is
done well here: images are normalized once in a training, the convolutions get channels-last tensors, a client has
one thread and the server, which evaluates while no client runs, all of them.

usage: python flower_app.py '{"data": "data/prepared/bench", "clients": 10, ...}'; prints a line after each round.
"""

import json
import os
import sys
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.utils.data import DataLoader, TensorDataset

from fedmpq.models import build_model

SETTINGS = json.loads(sys.argv[1])
client_app = ClientApp()
server_app = ServerApp()


def network() -> torch.nn.Module:
    """The network."""
    model = build_model(SETTINGS["model"], SETTINGS["classes"], SETTINGS["image_size"])
    return model.to(memory_format=torch.channels_last)


def batches(part: str, indices: np.ndarray | slice, size: int, shuffle: bool) -> DataLoader:
    """Normalized images and labels of the `train` or `test` part."""
    folder = Path(SETTINGS["data"])
    images, labels = (
        torch.from_numpy(np.load(folder / f"{part}_{kind}.npy", mmap_mode="r")[indices].copy())
        for kind in ("images", "labels")
    )
    normalized = ((images / 255 - SETTINGS["mean"]) / SETTINGS["std"]).permute(0, 3, 1, 2)
    return DataLoader(TensorDataset(normalized, labels), batch_size=size, shuffle=shuffle)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the client's own images."""
    torch.set_num_threads(1)
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    with np.load(SETTINGS["partition"]) as file:
        client = context.node_config["partition-id"]
        indices = file["indices"][file["offsets"][client] : file["offsets"][client + 1]]
    loader = batches("train", indices, SETTINGS["batch_size"], shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=SETTINGS["lr"], momentum=SETTINGS["momentum"])
    total = 0.0
    model.train()
    for _ in range(SETTINGS["local_epochs"]):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
    metrics = {"train_loss": total / len(indices) / SETTINGS["local_epochs"], "num-examples": len(indices)}
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


@torch.inference_mode()
def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the global model on the server."""
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    model.eval()
    outcomes = [(model(images), labels) for images, labels in batches("test", slice(None), 100, shuffle=False)]
    logits, labels = (torch.cat(parts) for parts in zip(*outcomes, strict=True))
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    if number:
        print(f"round {number}, accuracy {accuracy:.3f}", flush=True)
    return MetricRecord({"accuracy": accuracy, "loss": F.cross_entropy(logits, labels).item()})


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds; every client trains in each."""
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=SETTINGS["clients"])
    start = ArrayRecord(network().state_dict())
    strategy.start(grid, initial_arrays=start, num_rounds=SETTINGS["rounds"], evaluate_fn=evaluate)


if __name__ == "__main__":
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": SETTINGS["cores"]}}
    run_simulation(server_app, client_app, SETTINGS["clients"], backend_config=backend)
