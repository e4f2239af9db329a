"""What a process that trains clients holds, and how it carries out its tasks."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedmpq.data.arrays import Dataset
from fedmpq.data.batches import Batches, normalize
from fedmpq.errors import UserError
from fedmpq.federated import calibration
from fedmpq.federated.client import LocalTraining
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Kind, Message, decode, encode
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import EVALUATION_CHUNK, CalibrateTask, EvaluateTask, Task, TaskFailed, TrainTask
from fedmpq.federated.trainer import trainer
from fedmpq.seeding import forked_rng

EVALUATION_BATCH = 100
"""Images of a chunk that pass through the model together: more would only take more memory."""


class Worker:
    """A model, built once, and access to the data. Results depend on the task alone."""

    def __init__(self, setup: Setup):
        torch.set_num_threads(1)  # Other numbers of threads take sums in another order.
        self.setup = setup
        model, self.layout, self.activations = setup.build_model()
        self.model = model.to(setup.device, memory_format=torch.channels_last)
        # Counters of batches and the like: they do not travel, and start from here for each client.
        self.counters = {k: t.clone() for k, t in self.model.state_dict().items() if not t.is_floating_point()}
        self.mean, self.std = (
            torch.tensor(values, device=setup.device) for values in (setup.dataset.mean, setup.dataset.std)
        )

    def run(self, task: Task) -> bytes | tuple[int, float]:
        """The result of `task`; see `train`, `evaluate` and `calibrate`."""
        does = {TrainTask: self.train, EvaluateTask: self.evaluate, CalibrateTask: self.calibrate}
        return does[type(task)](task)

    def train(self, task: TrainTask) -> bytes:
        """Train the client of `task` and encode its answer.

        Raises:
            TaskFailed: the loss or a weight is not finite.
            UserError: the model cannot train on a batch of one image, and the client has no other.
        """
        setup, key = self.setup, (task.round, task.client)
        received = self._load(task.downlink, *key)
        if self.activations:
            self.activations.enabled = True
            self.activations.reset()
        self.model.train()  # The trainer leaves modules in the mode in which it finds them.
        training = LocalTraining(
            self.model,
            self.layout,
            setup.experiment.training,
            setup.quantizer,
            received.bits,
            received.scales,
            setup.algorithm.regularization(),
        )
        self._fit(training, key)
        trained = self.layout.flatten(self.model)
        if not (math.isfinite(training.mean_loss) and trained.is_finite()):
            raise TaskFailed(f"training diverged: mean loss {training.mean_loss}")
        return encode(self._answer(training, trained, received), self.layout, setup.answer_coder(*key))

    def _fit(self, training: LocalTraining, key: tuple[int, int]) -> None:
        setup, epochs = self.setup, self.setup.experiment.training.local_epochs
        with forked_rng(setup.seed, "training", *key):
            try:
                trainer(setup.device, setup.precision, epochs).fit(training, self._batches(key))
            except FloatingPointError as error:
                raise TaskFailed(f"training diverged: {error}") from error
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UserError(
                    f"client {key[1]}: the model cannot train on a batch of one image, since batch norm has no"
                    " deviation of one value; set partition.min_samples and training.batch_size above 1"
                ) from error
            except SystemExit as end:
                if isinstance(end.__context__, KeyboardInterrupt):  # Of which Lightning has made an exit.
                    raise KeyboardInterrupt from end
                raise
            finally:
                self.model.to(setup.device)  # The trainer leaves it on the CPU.

    def _answer(self, training: LocalTraining, trained: FlatModel, received: Message) -> Message:
        client, sizes, algorithm = received.client, self.layout.sizes, self.setup.algorithm
        layers, scales = list(trained.weights.split(sizes)), None
        if received.bits is not None:
            training.follow_scales([layer.to(self.setup.device) for layer in layers])
            scales = training.scales.cpu()
        most = algorithm.answer_bits(received.bits, len(sizes), self.setup.experiment.model.budgets[client])
        answer = algorithm.answer(layers, list(received.model.weights.split(sizes)), most, scales)
        samples, values = (
            len(self.setup.partition.client(client)),
            FlatModel(torch.cat(answer.values), trained.remainder),
        )
        about = (Kind.UPLINK, received.round, client, samples, training.mean_loss)
        return Message(*about, answer.bits, answer.scales, values)

    def evaluate(self, task: EvaluateTask) -> tuple[int, float]:
        """Correct predictions and sum of the losses on the images of `task`, in evaluation mode."""
        self._load(task.model, task.round, 0)
        if self.activations:
            self.activations.enabled = task.quantized_activations
        images, labels = self._images(*self._evaluated(task))
        self.model.eval()
        with torch.inference_mode():
            batches = (normalize(batch, self.mean, self.std) for batch in images.split(EVALUATION_BATCH))
            logits = torch.cat([self.model(batch).float() for batch in batches])
            loss = F.cross_entropy(logits, labels, reduction="sum")
        return int((logits.argmax(1) == labels).sum()), float(loss)

    def calibrate(self, task: CalibrateTask) -> bytes:
        """What `calibration.measure` says."""
        self._load(task.model, task.round, task.client)
        setup = self.setup
        if self.activations:
            self.activations.enabled = task.quantized_activations
        parts = calibration.chosen(setup.partition, task.client, task.cost, setup.seed, task.round)
        images = (self._images("train", part)[0] for part in parts)
        return calibration.measure(self.model, (normalize(batch, self.mean, self.std) for batch in images))

    def _evaluated(self, task: EvaluateTask) -> tuple[str, NDArray[np.int64]]:
        part, indices = self.setup.evaluation_images
        return part, indices[task.start : task.start + EVALUATION_CHUNK]

    def _load(self, data: bytes, round: int, client: int) -> Message:
        message = decode(data, self.layout, Kind.DOWNLINK, round, client, self.setup.coder)
        self.layout.load(message.model, self.model)
        self.model.load_state_dict(self.counters, strict=False)
        return message

    def _batches(self, key: tuple[int, int]) -> Batches:
        setup, experiment = self.setup, self.setup.experiment
        return Batches(
            *self._images("train", setup.partition.client(key[1])),
            experiment.training.batch_size,
            self.mean,
            self.std,
            (setup.seed, "batches", *key),
            experiment.data.flip,
            experiment.data.crop_padding,
        )

    def _images(self, part: str, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (N, S, S, 3), uint8, and labels (N,) of the `train` or `test` part, on the device."""
        # Opened anew, for pages stay mapped as long as an array: those of all clients that ever trained.
        dataset = Dataset.load(self.setup.data)
        arrays = (getattr(dataset, f"{part}_{kind}")[indices] for kind in ("images", "labels"))
        return tuple(torch.from_numpy(array).to(self.setup.device) for array in arrays)
