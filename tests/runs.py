"""Runs in this process, in which a test can stand between clients and server."""

import tiny

from fedmpq.engine.executors import Sequential
from fedmpq.federated.server import Federation
from fedmpq.federated.tasks import Failure, TrainTask


class Interfering:
    """An executor on whose way back an answer can be changed."""

    def __init__(self, setup, change):
        self.inner, self.change = Sequential(setup), change

    def run(self, tasks):
        for task, outcome in self.inner.run(tasks):
            yield task, self.change(task, outcome) if isinstance(task, TrainTask) else outcome


def federation(data, algorithm="fedmpq", change=None, **changes):
    setup = tiny.setup(data, algorithm, **changes)
    return Federation(setup, Interfering(setup, change) if change else Sequential(setup))


def content(state):
    return state.model.weights.numpy().tobytes(), state.model.remainder.numpy().tobytes(), state.consensus


def losing(client):
    """A change for `federation`: the answers of `client` are lost."""

    def change(task, outcome):
        return Failure("out of memory") if task.client == client else outcome

    return change
