"""The federated round loop (section 6 of the specification)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedmpq.errors import UserError
from fedmpq.federated.allocation import Consensus, agree
from fedmpq.federated.executors import Executor, Failure
from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import Kind, Message, RejectedMessage, decode, encode
from fedmpq.federated.worker import EVALUATION_CHUNK, EvaluateTask, Setup, TrainTask
from fedmpq.quantization.codes import scale_of
from fedmpq.seeding import numpy_generator

Bits = tuple[int, ...] | None


@dataclass(frozen=True)
class ServerState:
    """What the server carries from round to round."""

    round: int
    """Rounds completed."""
    model: FlatModel
    """The global model, full precision."""
    consensus: Consensus | None = None


@dataclass(frozen=True)
class ClientRecord:
    """What one client was given in a round and what it sent back."""

    client: int
    budget: float
    given: Bits
    left: Bits


@dataclass(frozen=True)
class RoundRecord:
    """What happened in a round. Accuracies are 0 .. 1, bytes and seconds are of this round alone."""

    round: int
    accuracy: float
    loss: float
    train_loss: float
    uplink_bytes: int
    downlink_bytes: int
    nominal_bits: float
    """Bits x parameters that the answers' bit-widths stand for."""
    seconds: float
    clients: list[ClientRecord]
    state: ServerState
    device_accuracy: float | None = None
    """Mean over clients of the model re-quantized to their bit-widths; None where not asked for."""
    failures: dict[int, str] = field(default_factory=dict)
    """Clients without an accepted answer, and why."""


class Federation:
    """One run: the server's side of it, on an executor that carries the clients."""

    def __init__(self, setup: Setup, executor: Executor):
        self.setup, self.executor = setup, executor
        self.experiment, self.algorithm = setup.experiment, setup.algorithm
        model, _ = setup.build_model()
        self.layout = Layout.of(model)
        self.initial = ServerState(0, self.layout.flatten(model))

    def rounds(self, state: ServerState | None = None) -> Iterator[RoundRecord]:
        """Run the rounds that follow `state` (default: all of them) and yield each one's record.

        Raises:
            UserError: no client of a round gave an answer.
        """
        state = state or self.initial
        while state.round < self.experiment.rounds:
            record = self._round(state)
            state = record.state
            yield record

    def _round(self, state: ServerState) -> RoundRecord:
        started = time.perf_counter()
        number = state.round + 1
        asked = self.choose_clients(number)
        downlinks = {client: self.downlink(state, number, client) for client in asked}
        answers, failures = self._train(number, downlinks)
        if not answers:
            raise UserError(f"round {number}: no client gave an answer; the first reason: {min(failures.items())[1]}")
        uplink = sum(len(data) for data, _ in answers.values())
        messages = {client: message for client, (_, message) in sorted(answers.items())}
        sent = {client: self._decoded(downlinks[client], number, client) for client in messages}
        state = ServerState(number, self.aggregate(state, sent, messages), self.agree(state, sent, messages))
        correct, loss = self.evaluate(state.model, number)
        samples = sum(message.samples for message in messages.values())
        return RoundRecord(
            round=number,
            accuracy=correct,
            loss=loss,
            train_loss=sum(message.loss * message.samples for message in messages.values()) / samples,
            uplink_bytes=uplink,
            downlink_bytes=sum(map(len, downlinks.values())),
            nominal_bits=sum(self._nominal_bits(message.bits) for message in messages.values()),
            seconds=time.perf_counter() - started,
            clients=[
                ClientRecord(client, self.experiment.budgets[client], sent[client].bits, message.bits)
                for client, message in messages.items()
            ],
            state=state,
            device_accuracy=self._device_accuracy(state, number) if self.experiment.evaluate_quantized else None,
            failures=failures,
        )

    def choose_clients(self, number: int) -> list[int]:
        """The clients that take part in round `number`, ascending."""
        count = max(1, round(self.experiment.participation * self.experiment.clients))
        generator = numpy_generator(self.setup.seed, "participation", number)
        return sorted(generator.choice(self.experiment.clients, count, replace=False).tolist())

    def downlink(self, state: ServerState, number: int, client: int) -> bytes:
        """The global model, encoded at the bit-widths that the algorithm allocates to `client`."""
        bits = self.algorithm.allocate(self.layout.sizes, self.experiment.budgets[client], state.consensus)
        return self._encoded(state.model, bits, number, client)

    def _encoded(self, model: FlatModel, bits: Bits, number: int, client: int) -> bytes:
        scales = None
        if bits is not None:
            layers = zip(model.weights.split(self.layout.sizes), bits, strict=True)
            scales = torch.stack([scale_of(weights, b, self.experiment.quantizer) for weights, b in layers])
        return encode(Message(Kind.DOWNLINK, number, client, 0, 0.0, bits, scales, model), self.layout)

    def _decoded(self, downlink: bytes, number: int, client: int) -> Message:
        return decode(downlink, self.layout, Kind.DOWNLINK, number, client)

    def _train(self, number: int, downlinks: dict[int, bytes]) -> tuple[dict[int, tuple[bytes, Message]], dict]:
        epochs, partition = self.experiment.local_epochs, self.setup.partition
        tasks = [
            TrainTask(number, client, data, cost=epochs * len(partition.client(client)))
            for client, data in downlinks.items()
        ]
        answers, failures = {}, {}
        for task, outcome in self.executor.run(tasks):
            try:
                if isinstance(outcome, Failure):
                    raise RejectedMessage(outcome.reason)
                answers[task.client] = outcome, decode(outcome, self.layout, Kind.UPLINK, number, task.client)
            except RejectedMessage as error:
                failures[task.client] = str(error)
        return answers, failures

    def aggregate(self, state: ServerState, sent: dict[int, Message], received: dict[int, Message]) -> FlatModel:
        """The new global model.

        `weights`: average of the de-quantized models received. `updates`: the global model plus the
        average of (received - sent), so that the error of coarse codes does not enter it. Either is
        weighted by the clients' numbers of images, or uniformly where `averaging` says so.
        """
        share = {client: self._averaging_weight(message) for client, message in received.items()}
        total = sum(share.values())

        def average(part: str) -> Tensor:
            updates = self.algorithm.settings.aggregation == "updates"
            base = getattr(state.model, part).double()
            mean = torch.zeros_like(base)
            for client, message in received.items():
                value = getattr(message.model, part).double()
                mean += (value - getattr(sent[client].model, part) if updates else value) * (share[client] / total)
            return (base + mean if updates else mean).float()

        return FlatModel(average("weights"), average("remainder"))

    def _averaging_weight(self, message: Message) -> float:
        return message.samples if self.experiment.averaging == "samples" else 1

    def agree(self, state: ServerState, sent: dict[int, Message], received: dict[int, Message]) -> Consensus | None:
        """Average bit-widths and deltas of the clients, weighted by samples x budget."""
        if any(message.bits is None for message in received.values()):
            return None
        bits = [message.bits for message in received.values()]
        deltas = [
            tuple(given - left for given, left in zip(sent[client].bits, message.bits, strict=True))
            for client, message in received.items()
        ]
        weights = [m.samples * self.experiment.budgets[client] for client, m in received.items()]
        return agree(bits, deltas, weights)

    def evaluate(self, model: FlatModel, number: int, bits: Bits = None) -> tuple[float, float]:
        """Accuracy (0 .. 1) and mean loss of `model` on the evaluation images.

        With `bits` the model is what a device of these bit-widths runs: quantized weights and
        activations. Without, both are in full precision.
        """
        data, size = self._encoded(model, bits, number, 0), len(self.setup.evaluation_images[1])
        tasks = [EvaluateTask(number, data, start, bits is not None) for start in range(0, size, EVALUATION_CHUNK)]
        outcomes = {task.start: outcome for task, outcome in self.executor.run(tasks)}
        correct, losses = zip(*(outcomes[task.start] for task in tasks), strict=True)
        return sum(correct) / size, sum(losses) / size

    def _device_accuracy(self, state: ServerState, number: int) -> float:
        budgets = self.experiment.budgets
        allocated = {b: self.algorithm.allocate(self.layout.sizes, b, state.consensus) for b in set(budgets)}
        accuracy = {bits: self.evaluate(state.model, number, bits)[0] for bits in set(allocated.values())}
        return sum(accuracy[allocated[budget]] for budget in budgets) / len(budgets)

    def _nominal_bits(self, bits: Bits) -> float:
        widths = bits or (32,) * len(self.layout.sizes)
        return sum(size * b for size, b in zip(self.layout.sizes, widths, strict=True))
