"""The federated round loop (section 6 of the specification)."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fedmpq.errors import UserError
from fedmpq.federated import calibration
from fedmpq.federated.aggregation import Average
from fedmpq.federated.allocation import Consensus, View
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Bits, Kind, Message, RejectedMessage, decode, decode_answer, encode
from fedmpq.federated.participation import Participation
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import EVALUATION_CHUNK, CalibrateTask, EvaluateTask, Executor, Failure, TrainTask


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
    """What one client was given in a round and what it sent back; None is full precision."""

    client: int
    given: Bits
    left: Bits


@dataclass
class Exchange:
    """What went to and fro in a round, repeated attempts included."""

    counts: Counter[str] = field(default_factory=Counter)
    """Clients asked, answered, dropped, late, rejected and failed, and answers discarded with their attempt."""
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    simulated_seconds: float = 0.0
    """Until the last answer that was waited for, in each attempt; with a deadline, until then where one is missing."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why a client's answer was rejected, or there was none."""


@dataclass(frozen=True)
class RoundRecord:
    """What happened in a round. Accuracies are 0 .. 1, bytes and seconds are of this round alone."""

    state: ServerState
    accuracy: float
    loss: float
    train_loss: float
    exchange: Exchange
    clients: list[ClientRecord]
    """Those whose answers were accepted, ascending."""
    seconds: float
    device_accuracy: float | None = None
    """Mean over clients of the model re-quantized to their bit-widths; NaN before the rounds for which it is asked."""

    @property
    def round(self) -> int:
        """Number of the round, from 1."""
        return self.state.round


class Federation:
    """One run: the server's side of it, on an executor that carries the clients."""

    def __init__(self, setup: Setup, executor: Executor | None):
        """Begin; without an executor nothing is trained or evaluated."""
        torch.set_num_threads(1)  # Other numbers of threads take sums in another order.
        self.setup, self.executor = setup, executor
        self.experiment, self.algorithm = setup.experiment, setup.algorithm
        self.participation = Participation(setup.experiment, setup.seed)
        self.model, self.layout, _ = setup.build_model()
        self.initial = ServerState(0, self.layout.flatten(self.model))

    def rounds(self, state: ServerState | None = None) -> Iterator[RoundRecord]:
        """Run the rounds that follow `state` (default: all of them) and yield each one's record.

        Raises:
            UserError: too few clients gave an answer, however often the round was repeated.
        """
        state = state or self.initial
        while state.round < self.experiment.training.rounds:
            record = self._round(state)
            state = record.state
            yield record

    def _round(self, state: ServerState) -> RoundRecord:
        started = time.perf_counter()
        number, exchange = state.round + 1, Exchange()
        average, clients = self._answers(state, number, exchange)
        state = self._calibrated(ServerState(number, average.model(), average.consensus()), clients, exchange)
        accuracy, loss = self.evaluate(state.model, number)
        seconds = time.perf_counter() - started
        devices = self._device_accuracy(state, clients)
        return RoundRecord(state, accuracy, loss, average.loss, exchange, clients, seconds, devices)

    def _answers(self, state: ServerState, number: int, exchange: Exchange) -> tuple[Average, list[ClientRecord]]:
        """The averages over enough answers, and who gave them; repeated with others where there are too few."""
        settings, tried, view = self.experiment.participation, set(), self.view(state)
        for attempt in range(settings.max_repeats + 1):
            asked = self.participation.choose(number, attempt, tried)
            tried.update(asked)
            exchange.counts["asked"] += len(asked)
            downlinks = {client: self.downlink(state, view, number, client) for client in asked}
            exchange.downlink_bytes += sum(map(len, downlinks.values()))
            present = [client for client in asked if not self.participation.drops_out(number, attempt, client)]
            exchange.counts["dropped"] += len(asked) - len(present)
            answers, waited = self._train(number, {client: downlinks[client] for client in present}, exchange)
            missing = settings.deadline is not None and len(answers) < len(asked)
            exchange.simulated_seconds += settings.deadline if missing else waited
            average = self._average(state)
            clients = [
                record
                for client in sorted(answers)
                if (record := self._accept(client, answers[client], downlinks[client], number, average, exchange))
            ]
            enough = len(clients) >= settings.min_answers
            exchange.counts["answered" if enough else "discarded"] += len(clients)
            if enough:
                return average, clients
        raise UserError(
            f"round {number}: fewer than {settings.min_answers} clients (min_answers) gave an answer in"
            f" {settings.max_repeats + 1} attempts: {dict(exchange.counts)}"
            + "".join(f"; client {client}: {reason}" for client, reason in list(exchange.reasons.items())[:3])
        )

    def _average(self, state: ServerState) -> Average:
        aggregation, experiment = self.algorithm.settings.aggregation, self.experiment
        return Average(state.model, aggregation, experiment.training.averaging, experiment.model.budgets)

    def view(self, state: ServerState) -> View:
        """What the algorithm may look at when it allocates bits."""
        sizes, quantizer = self.layout.sizes, self.setup.quantizer
        return View(sizes, list(state.model.weights.split(sizes)), quantizer, state.consensus)

    def downlink(self, state: ServerState, view: View, number: int, client: int) -> bytes:
        """The global model, encoded at the bit-widths that the algorithm allocates to `client`."""
        bits = self.algorithm.allocate(view, self.experiment.model.budgets[client])
        return self.encoded(state.model, bits, number, client)

    def encoded(self, model: FlatModel, bits: Bits, number: int, client: int) -> bytes:
        """`model` as it travels to `client` in round `number`, at `bits` a layer."""
        scales = None
        if bits is not None:
            scales = self.setup.quantizer.scales(model.weights.split(self.layout.sizes), bits)
        message = Message(Kind.DOWNLINK, number, client, 0, 0.0, bits, scales, model)
        return encode(message, self.layout, self.setup.coder)

    def _train(self, number: int, downlinks: dict[int, bytes], exchange: Exchange) -> tuple[dict[int, bytes], float]:
        """The answers that arrive in time, and when the last of them does, in simulated seconds."""
        partition, epochs = self.setup.partition, self.experiment.training.local_epochs
        images = {client: epochs * len(partition.client(client)) for client in downlinks}
        tasks = [TrainTask(number, client, data, cost=images[client]) for client, data in downlinks.items()]
        answers, waited = {}, 0.0
        for task, outcome in self.executor.run(tasks):
            if isinstance(outcome, Failure):
                exchange.counts["failed"] += 1
                exchange.reasons[task.client] = outcome.reason
                continue
            exchange.uplink_bytes += len(outcome)
            size = len(task.downlink) + len(outcome)
            seconds = self.participation.seconds(task.client, images[task.client], size)
            if self.participation.is_late(seconds):
                exchange.counts["late"] += 1
                continue
            answers[task.client], waited = outcome, max(waited, seconds)
        return answers, waited

    def _accept(
        self, client: int, answer: bytes, downlink: bytes, number: int, average: Average, exchange: Exchange
    ) -> ClientRecord | None:
        """Add the answer to the averages if it passes all checks."""
        sent = decode(downlink, self.layout, Kind.DOWNLINK, number, client, self.setup.coder)
        try:
            message = self._decoded(answer, sent)
        except RejectedMessage as error:
            exchange.counts["rejected"] += 1
            exchange.reasons[client] = f"rejected: {error}"
            return None
        average.add(message, sent)
        return ClientRecord(client, sent.bits, message.bits)

    def _decoded(self, answer: bytes, sent: Message) -> Message:
        """The answer to the message `sent`, with the client's model in it."""
        budget, layers = self.experiment.model.budgets[sent.client], len(self.layout.sizes)
        message = decode_answer(
            answer,
            self.layout,
            sent,
            len(self.setup.partition.indices),
            self.algorithm.answer_bits(sent.bits, layers, budget),
            self.setup.answer_coder(sent.round, sent.client),
        )
        if not self.algorithm.sends_updates:
            return message
        return replace(message, model=replace(message.model, weights=sent.model.weights + message.model.weights))

    def _calibrated(self, state: ServerState, clients: list[ClientRecord], exchange: Exchange) -> ServerState:
        """`state` with statistics of batch norm that `clients` measure, each for the model that it gets next.

        These models are sent anyway, but for those of the last round. Activations are in full precision, as in the
        global model: a forward pass keeps none of them, so that small devices can, too.
        """
        if not self.algorithm.calibration:
            return state
        view, budgets = self.view(state), self.experiment.model.budgets
        given = {record.client: self.algorithm.allocate(view, budgets[record.client]) for record in clients}
        model, down, up = self.calibrated(state.model, state.round, given, quantized_activations=False)
        exchange.uplink_bytes += up
        exchange.downlink_bytes += down * (state.round == self.experiment.training.rounds)
        return replace(state, model=model)

    def calibrated(
        self, model: FlatModel, number: int, given: dict[int, Bits], quantized_activations: bool
    ) -> tuple[FlatModel, int, int]:
        """`model` with statistics that clients measure of it at the bit-widths `given`; bytes sent to and by them.

        A client counts by its images and bits. The model stays as it is where nobody can measure any. Activations are
        to be those of the model that gets the statistics: a device's are quantized, the global model's are not.
        """
        sizes, images = self.layout.sizes, self.algorithm.calibration
        held = {client: len(self.setup.partition.client(client)) for client in given}
        weights = {k: float(held[k] * (np.dot(bits, sizes) if bits else 1)) for k, bits in given.items()}
        tasks = [
            CalibrateTask(number, k, self.encoded(model, bits, number, k), quantized_activations, min(images, held[k]))
            for k, bits in given.items()
            if held[k] > 1
        ]
        if not tasks or not calibration.norms(self.model):
            return model, 0, 0
        came = {task.client: came for task, came in self.executor.run(tasks) if not isinstance(came, Failure)}
        down, up = sum(len(task.model) for task in tasks), sum(map(len, came.values()))
        measured = {k: moments for k in sorted(came) if (moments := calibration.read(came[k], self.model)) is not None}
        if measured:
            self.layout.load(model, self.model)
            calibration.load(calibration.pool([weights[k] for k in measured], [*measured.values()]), self.model)
            model = self.layout.flatten(self.model)
        return model, down, up

    def evaluate(self, model: FlatModel, number: int, bits: Bits = None) -> tuple[float, float]:
        """Accuracy (0 .. 1) and mean loss of `model` on the evaluation images.

        With `bits` the model is what a device of these bit-widths runs: quantized weights and
        activations. Without, both are in full precision.
        """
        data, size = self.encoded(model, bits, number, 0), len(self.setup.evaluation_images[1])
        tasks = [EvaluateTask(number, data, start, bits is not None) for start in range(0, size, EVALUATION_CHUNK)]
        outcomes = {task.start: outcome for task, outcome in self.executor.run(tasks)}
        failed = [outcome.reason for outcome in outcomes.values() if isinstance(outcome, Failure)]
        if failed:
            raise UserError(f"round {number}: the global model could not be evaluated: {failed[0]}")
        correct, losses = zip(*(outcomes[task.start] for task in tasks), strict=True)
        return sum(correct) / size, sum(losses) / size

    def _device_accuracy(self, state: ServerState, clients: list[ClientRecord]) -> float | None:
        budgets, training, view = self.experiment.model.budgets, self.experiment.training, self.view(state)
        if not training.evaluate_quantized:
            return None
        if state.round <= training.rounds - training.evaluate_quantized:
            return math.nan
        allocated = {b: self.algorithm.allocate(view, b) for b in sorted(set(budgets), reverse=True)}
        accuracy = {}
        for bits, budget in {bits: b for b, bits in allocated.items()}.items():  # the smallest that has these bits
            model = state.model
            if self.algorithm.calibration:  # by clients that can hold it
                able = [record.client for record in clients if budgets[record.client] >= budget]
                model, *_ = self.calibrated(model, state.round, dict.fromkeys(able, bits), quantized_activations=True)
            accuracy[bits] = self.evaluate(model, state.round, bits)[0]
        return sum(accuracy[allocated[budget]] for budget in budgets) / len(budgets)
