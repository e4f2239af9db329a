import logging
import pickle
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from fedmpq.data.batches import normalize
from fedmpq.data.partition import Partition
from fedmpq.errors import UserError
from fedmpq.federated.messages import Kind, Message, decode, encode
from fedmpq.federated.tasks import EvaluateTask, TaskFailed, TrainTask
from fedmpq.federated.worker import Worker
from fedmpq.models import build_model
from fedmpq.quantization.codes import FULL_RANGE


class Server:
    """The other side of a worker."""

    def __init__(self, setup):
        model, self.layout, _ = setup.build_model()
        self.flat = self.layout.flatten(model)

    def scales(self, bits):
        return torch.stack([FULL_RANGE.scale(weights, bits) for weights in self.flat.weights.split(self.layout.sizes)])

    def message(self, bits=None, round=1, client=0):
        """The model, all layers at `bits`."""
        widths, scales = (bits and (bits,) * len(self.layout.layers)), bits and self.scales(bits)
        return encode(Message(Kind.DOWNLINK, round, client, 0, 0.0, widths, scales, self.flat), self.layout)

    def task(self, bits=None, round=1, client=0):
        return TrainTask(round, client, self.message(bits, round, client), cost=1)

    def read(self, answer, round=1, client=0):
        return decode(answer, self.layout, Kind.UPLINK, round, client)


def fedmpq(**changes):
    return {"lambda": 0.1, "epsilon": 0.03, "min_bits": 1, **changes}


@pytest.mark.parametrize("model", ["resnet8", "user_models:perceptron", "user_models:normed", "user_models:linear"])
@pytest.mark.parametrize("bits", [None, 8, 4, 2, 1])
def test_training_longer_lowers_the_loss_and_moves_the_model_further(data, model, bits):
    def answer(epochs):
        setup = tiny.setup(data, "aqfl" if bits else "fp32", network=model, local_epochs=epochs, lr=0.05)
        server = Server(setup)
        read = server.read(Worker(setup).train(server.task(bits, client=2)), client=2)
        assert read.samples == len(setup.partition.client(2))
        assert read.bits == (bits and (bits,) * len(server.layout.layers))
        return read.loss, float((read.model.weights - server.flat.weights).norm())

    (first_loss, first_move), (loss, move) = answer(1), answer(6)
    assert loss < 0.85 * first_loss
    assert move > first_move


def test_bits_that_are_sparse_are_pruned_in_the_answer(data):
    setup = tiny.setup(data, "fedmpq", fedmpq=fedmpq(**{"lambda": 3.0}), local_epochs=5)
    worker, server = Worker(setup), Server(setup)
    answer = server.read(worker.train(server.task(8)))
    assert min(answer.bits) < 8
    assert all(1 <= b <= 8 for b in answer.bits)


def test_activations_are_quantized_while_training_and_their_ranges_travel(data):
    setup = tiny.setup(data, "aqfl", activation_bits=2)
    worker, server = Worker(setup), Server(setup)
    levels = []
    worker.model[2].register_forward_hook(lambda _m, _i, output: levels.append(len(output.unique())))
    answer = server.read(worker.train(server.task(4)))
    assert max(levels) <= 4
    ranges = dict(server.layout.split(answer.model.remainder, server.layout.remainder))
    assert ranges["2.activation_maximum"] > 0


def test_ranges_of_activations_begin_anew_in_each_round(data):
    setup = tiny.setup(data, "aqfl", activation_bits=4)
    worker, server = Worker(setup), Server(setup)
    expected = server.read(worker.train(server.task(4)))
    ranges = dict(server.layout.split(server.flat.remainder, server.layout.remainder))
    ranges["2.activation_maximum"].fill_(1000)
    assert torch.equal(server.read(worker.train(server.task(4))).model.remainder, expected.model.remainder)


def test_scales_of_the_answer_cover_the_weights_after_the_last_step(data):
    setup = tiny.setup(data, "aqfl", lr=1.0, batch_size=100)
    worker, server = Worker(setup), Server(setup)
    answer = server.read(worker.train(server.task(4)))
    trained = server.layout.flatten(worker.model).weights.split(server.layout.sizes)
    assert torch.equal(answer.scales, torch.stack([FULL_RANGE.scale(weights, 4) for weights in trained]))
    assert (answer.scales > server.scales(4)).all()


@pytest.mark.parametrize(("quantized", "most"), [(True, 4), (False, 10_000)])
def test_activations_in_evaluation_as_asked_for(data, quantized, most):
    setup = tiny.setup(data, "aqfl", activation_bits=2)
    worker, server = Worker(setup), Server(setup)
    server.flat = server.read(worker.train(server.task(8))).model
    levels = []
    worker.model[2].register_forward_hook(lambda _m, _i, output: levels.append(len(output.unique())))
    worker.evaluate(EvaluateTask(1, server.message(), 0, quantized))
    assert len(levels) == 1
    assert (levels[0] <= 4) == quantized
    assert levels[0] <= most


def test_full_precision_has_no_quantized_activations(data):
    setup = tiny.setup(data, "fp32", activation_bits=2)
    assert Worker(setup).activations is None


def test_evaluation_counts_what_the_model_gets_right(data):
    setup = tiny.setup(data, "fp32")
    server = Server(setup)
    model = build_model(setup.experiment.model.network, tiny.CLASSES, 8, setup.seed).eval()
    dataset = setup.dataset
    statistics = torch.tensor(dataset.mean), torch.tensor(dataset.std)
    logits = model(normalize(torch.from_numpy(dataset.test_images.copy()), *statistics))
    labels = torch.from_numpy(dataset.test_labels.copy())
    correct, loss = Worker(setup).evaluate(EvaluateTask(1, server.message(), 0, False))
    assert correct == (logits.argmax(1) == labels).sum()
    assert loss == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-5)


def test_held_out_training_images_can_be_evaluated_instead(data):
    setup = tiny.setup(data, "fp32")
    held_out = type(setup)(**{**vars(setup), "held_out": np.array([1, 4, 7])})
    correct, _ = Worker(held_out).evaluate(EvaluateTask(1, Server(setup).message(), 0, False))
    assert correct in range(4)
    assert held_out.evaluation_images[0] == "train"
    assert setup.evaluation_images[1].tolist() == list(range(tiny.TEST))


def test_a_subset_of_the_test_images_is_the_same_for_all_seeds_and_stratified(data):
    setups = [tiny.setup(data, "fp32", seed, test_samples=9) for seed in (0, 1)]
    (part, chosen), other = (setup.evaluation_images for setup in setups)
    assert part == "test"
    assert chosen.tolist() == other[1].tolist()
    assert np.bincount(setups[0].dataset.test_labels[chosen]).tolist() == [3, 3, 3]
    with pytest.raises(UserError, match=r"data\.test_samples: 31 is not allowed; allowed: 1 to 30, the test images"):
        _ = tiny.setup(data, "fp32", test_samples=31).evaluation_images


@pytest.mark.parametrize("model", ["resnet8", "user_models:dropped", "user_models:normed", "user_models:cumulative"])
def test_an_answer_depends_on_its_task_alone(data, model):
    """Not on what the worker did before, nor on the global generators."""
    setup = tiny.setup(data, "fedmpq", network=model, flip=True, crop_padding=1)
    server = Server(setup)
    first = Worker(setup).train(server.task(4))
    worker = Worker(setup)
    worker.train(server.task(8, round=2, client=1))
    worker.evaluate(EvaluateTask(1, server.message(), 0, True))
    torch.manual_seed(99)
    assert worker.train(server.task(4)) == first


def test_training_disturbs_no_global_generator_or_logger(data):
    setup = tiny.setup(data, "fp32", network="user_models:dropped")
    server, worker = Server(setup), Worker(setup)
    torch.manual_seed(5)
    state, level = torch.random.get_rng_state(), logging.getLogger("lightning.pytorch").level
    worker.train(server.task())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert logging.getLogger("lightning.pytorch").level == level


def test_other_rounds_clients_and_seeds_train_in_another_order(data):
    def answer(seed=0, round=1, client=0):
        setup = tiny.setup(data, "fp32", seed=seed)
        server = Server(tiny.setup(data, "fp32", seed=0))
        read = server.read(Worker(setup).train(server.task(round=round, client=client)), round, client)
        return read.model.weights.numpy().tobytes()

    assert len({answer(), answer(seed=1), answer(round=2), answer(client=1)}) == 4
    assert answer() == answer()


@pytest.mark.parametrize("algorithm", ["fp32", "aqfl", "fedmpq"])
@pytest.mark.parametrize("model", ["user_models:perceptron", "user_models:convolutional", "user_models:linear"])
@pytest.mark.parametrize("lr", [1e10, 1e20, 1e37])
def test_a_client_that_diverges_fails_by_itself(data, algorithm, model, lr):
    setup = tiny.setup(data, algorithm, network=model, lr=lr, local_epochs=5)
    worker, server = Worker(setup), Server(setup)
    task = server.task(None if algorithm == "fp32" else 4, client=2)
    with suppress(TaskFailed):
        assert server.read(worker.train(task), client=2).model.is_finite()


def test_divergence_is_the_reason_given_and_leaves_no_trace(data):
    setup = tiny.setup(data, "fp32", lr=1e30, local_epochs=3)
    worker, server = Worker(setup), Server(setup)
    with pytest.raises(TaskFailed, match="diverged"):
        worker.train(server.task())
    # The worker is as good as new.
    calm = tiny.setup(data, "fp32")
    worker.setup = calm
    assert worker.train(server.task()) == Worker(calm).train(server.task())


def test_a_setup_travels_without_the_arrays(data):
    setup = tiny.setup(data, "fp32")
    assert len(setup.dataset.train_labels) == tiny.TRAIN
    assert not setup.algorithm.quantizes_activations
    sent = pickle.dumps(setup)
    assert len(sent) < 10_000
    received = pickle.loads(sent)
    assert received.experiment == setup.experiment
    assert isinstance(received.dataset.train_images, np.memmap)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_of_training(data, precision):
    setup = tiny.setup(data, "aqfl", network="user_models:convolutional", activation_bits=4)
    setup = type(setup)(**{**vars(setup), "precision": precision})
    worker, server = Worker(setup), Server(setup)
    kinds = set()
    worker.model[0].register_forward_hook(lambda _m, _i, output: kinds.add(output.dtype))
    answer = server.read(worker.train(server.task(4)))
    assert kinds == {getattr(torch, precision)}
    assert answer.model.is_finite()
    assert np.isfinite(answer.loss)


@pytest.mark.parametrize(("images", "changes"), [(1, {}), (3, {"batch_size": 1}), (4, {"batch_size": 1, "flip": True})])
@pytest.mark.parametrize("model", ["user_models:normed", "user_models:cumulative"])
def test_a_batch_of_one_image_and_batch_norm_do_not_go_together(data, images, changes, model):
    setup = alone(tiny.setup(data, "fedmpq", network=model, **changes), images)
    said = "client 1: the model cannot train on a batch of one image, .* training.batch_size above 1"
    worker, server = Worker(setup), Server(setup)
    with pytest.raises(UserError, match=f"^{said}$"):
        worker.train(server.task(4, client=1))


def alone(setup, images):
    """The setup with so many images for client 1, and the others for clients 0 and 2."""
    order, rest = np.arange(tiny.TRAIN), (tiny.TRAIN - images) // 2
    return replace(setup, partition=Partition(order, np.array([0, rest, rest + images, tiny.TRAIN])))


@pytest.mark.parametrize("images", [1, 9, 17])
@pytest.mark.parametrize("model", ["user_models:perceptron", "user_models:convolutional", "resnet8"])
def test_a_single_image_is_enough_where_a_model_can_train_on_it(data, images, model):
    setup = alone(tiny.setup(data, "fedmpq", network=model), images)
    answer = Server(setup).read(Worker(setup).train(Server(setup).task(4, client=1)), client=1)
    assert answer.samples == images
    assert answer.model.is_finite()
