"""What is seen from outside of `pipeline.train`: how soon it begins, and how much memory it takes."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.measure import AT_MOST, Benchmark, Samples, alternate, excess, ratio
from benchmarks.project import Project, Scale, Workspace
from benchmarks.watch import watch
from fedmpq.models import build_model

START = Benchmark(
    "start", "start-up of pipeline.train to its first step", "import torch, lightning", excess, AT_MOST, 2, "s"
)
MEMORY = Benchmark("memory", "peak memory, 1,000 clients of which 10 train", "10 clients", ratio, AT_MOST, 1.1, "x")
FIRST_STEP = "FEDMPQ_FIRST_STEP"
"""Names the file that the first step makes."""
IMPORTS = "import torch, lightning, time; print(time.time())"


class Marked(nn.Module):
    """A network that leaves a mark when its first training step begins."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        mark = Path(os.environ[FIRST_STEP])
        if self.training and not mark.exists():
            mark.write_text(str(time.time()))
        return self.network(images)


def marked(classes: int, image_size: int) -> Marked:
    """Factory of the network of `start`."""
    return Marked(build_model(Scale.model, classes, image_size))


def start(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The row on the start-up."""
    project = workspace.project("start", model=f"{__name__}:marked", rounds=1, images=workspace.scale.batch)
    mark = project.root / "first-step"
    environment = project.environment(**{FIRST_STEP: str(mark)})

    def train() -> float:
        mark.unlink(missing_ok=True)
        seen = watch(project.training("fedmpq"), project.root, environment)
        return float(mark.read_text()) - seen.started

    def imports() -> float:
        seen = watch([sys.executable, "-c", IMPORTS], project.root, environment)
        return float(seen.lines[-1][1]) - seen.started

    ours, reference = alternate(train, imports, times=workspace.scale.repeats)
    yield START.result(Samples(ours, "s"), Samples(reference, "s"), "FedMPQ, MLflow's database is there")


def memory(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The row on memory: clients hold equally many images, so the data set grows with them."""
    scale = workspace.scale
    few = {"alike": True, "rounds": 2, "images": scale.batch}
    many = {**few, "clients": scale.many_clients, "participation": scale.clients / scale.many_clients}
    projects = [workspace.project("many-clients", **many), workspace.project("few-clients", **few)]

    def peak(project: Project) -> float:
        return watch(project.training("fedmpq"), project.root, project.environment()).peak / 2**20

    found = alternate(*(lambda project=project: peak(project) for project in projects), times=min(3, scale.repeats))
    note = f"all processes together; each client holds {scale.batch} images, 2 rounds"
    yield MEMORY.result(*(Samples(values, "MiB") for values in found), note)
