import pytest
import tiny
import torch
import torch.nn.functional as F

from fedmpq.data.arrays import Dataset
from fedmpq.data.batches import Batches
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.client import LocalTraining
from fedmpq.federated.layout import Layout
from fedmpq.models import build_model
from fedmpq.quantization.codes import FULL_RANGE, QUANTIZERS
from fedmpq.quantization.sparsity import bit_plane_lasso

MODELS = ["user_models:perceptron", "user_models:normed", "user_models:convolutional", "user_models:linear"]


class Client:
    """A model whose training a test takes step by step."""

    def __init__(
        self, data, name, width=None, regularization=0.0, activation_bits=None, quantizer=FULL_RANGE, **changes
    ):
        dataset = Dataset.load(data)
        self.model = build_model(name, tiny.CLASSES, dataset.image_size)
        if activation_bits:
            ActivationQuantizer(self.model, activation_bits)
        self.layout = Layout.of(self.model)
        self.settings = tiny.experiment(**changes).training
        bits = width and ((width,) * len(self.layout.layers) if isinstance(width, int) else width)
        scales = bits and torch.stack([FULL_RANGE.scale(w, b) for w, b in zip(self.weights(), bits, strict=True)])
        self.training = LocalTraining(self.model, self.layout, self.settings, quantizer, bits, scales, regularization)
        self.optimizer = self.training.configure_optimizers()
        images, labels = (torch.from_numpy(array.copy()) for array in (dataset.train_images, dataset.train_labels))
        statistics = torch.tensor(dataset.mean), torch.tensor(dataset.std)
        self.batches = Batches(images, labels, self.settings.batch_size, *statistics, ("test",))

    def weights(self):
        return [self.model.get_parameter(key).detach().clone() for key in self.layout.weights]

    def step(self, batch):
        self.optimizer.zero_grad()
        loss = self.training.training_step(batch, 0)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epochs(self, count):
        """Mean cross entropy of each epoch."""
        losses = []
        for _ in range(count):
            self.training.total_loss, self.training.samples = 0.0, 0
            for batch in self.batches:
                self.step(batch)
            losses.append(self.training.mean_loss)
        return losses


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("width", [None, 8, 4, 2, 1])
def test_training_lowers_the_loss(data, name, width):
    losses = Client(data, name, width).epochs(6)
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("name", ["resnet8", *MODELS[:3]])
def test_training_lowers_the_loss_at_mixed_bits_with_lasso_and_activations(data, name):
    layers = len(Layout.of(build_model(name, tiny.CLASSES, 8)).layers)
    losses = Client(data, name, (8, *(3,) * (layers - 2), 4), regularization=0.01, activation_bits=4, lr=0.01).epochs(6)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_the_gradient_at_the_quantized_weights_reaches_the_shadow(data, width):
    client = Client(data, "user_models:convolutional", width)
    images, labels = batch = next(iter(client.batches))
    before = client.weights()

    other = build_model("user_models:convolutional", tiny.CLASSES, 8)
    for key, weights in zip(client.layout.weights, before, strict=True):
        grid = FULL_RANGE.grid(torch.tensor(width), FULL_RANGE.scale(weights, width))
        other.get_parameter(key).data.copy_(grid.decode(grid.encode(weights)))
    expected = F.cross_entropy(other(images), labels)
    expected.backward()

    loss = client.training.training_step(batch, 0)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, parameter in client.model.named_parameters():
        torch.testing.assert_close(parameter.grad, other.get_parameter(key).grad, rtol=1e-4, atol=1e-6)
        assert parameter.grad.any()
    assert all(torch.equal(old, new) for old, new in zip(before, client.weights(), strict=True))


def test_the_penalty_is_lambda_times_the_weighted_lasso_of_all_layers(data):
    bits, strength = (2, 4), 0.3
    plain, penalized = (Client(data, "user_models:convolutional", bits, value) for value in (0.0, strength))
    batch = next(iter(plain.batches))
    losses = [client.training.training_step(batch, 0) for client in (plain, penalized)]
    for loss in losses:
        loss.backward()

    penalty, sizes = 0.0, plain.layout.sizes
    for key, weights, b, size in zip(plain.layout.weights, plain.weights(), bits, sizes, strict=True):
        flat = weights.flatten().requires_grad_()
        scalar = FULL_RANGE.grid(torch.tensor(b), FULL_RANGE.scale(weights, b))
        grid, layer = scalar.expand(torch.tensor(size)), torch.zeros(size, dtype=torch.int64)
        lasso = bit_plane_lasso(flat, scalar.encode(flat.detach()), grid, layer, torch.tensor([size * b / sum(sizes)]))
        lasso.backward()
        penalty += strength * lasso.item()
        difference = penalized.model.get_parameter(key).grad - plain.model.get_parameter(key).grad
        torch.testing.assert_close(difference.flatten(), strength * flat.grad, rtol=1e-3, atol=1e-5)
    assert losses[1].item() - losses[0].item() == pytest.approx(penalty, rel=1e-4)
    # What is reported as the training loss is the cross entropy alone.
    assert penalized.training.mean_loss == pytest.approx(plain.training.mean_loss)


def test_a_strong_lasso_makes_the_top_planes_sparse(data):
    def top_share(strength):
        client = Client(data, "user_models:perceptron", 4, strength)
        client.epochs(5)
        weights = torch.cat([w.flatten() for w in client.weights()])
        grid = FULL_RANGE.grid(torch.tensor([4, 4]), client.training.scales).expand(torch.tensor(client.layout.sizes))
        return ((grid.encode(weights) - grid.zero).abs() >= 4).float().mean()

    assert top_share(1.0) < 0.1 * top_share(0.0)


@pytest.mark.parametrize("width", [2, 4, 8])
def test_scales_only_grow(data, width):
    client = Client(data, "user_models:convolutional", width, regularization=0.3, lr=0.2)
    scales = [client.training.scales]
    for batch in client.batches:
        client.step(batch)
        client.training.follow_scales(client.weights())
        scales.append(client.training.scales)
        found = torch.stack([FULL_RANGE.scale(weights, width) for weights in client.weights()])
        assert torch.equal(scales[-1], torch.maximum(scales[-2], found))
    assert (scales[-1] > scales[0]).any()


def test_the_scale_of_one_bit_follows_the_mean_magnitude_both_ways(data):
    client = Client(data, "user_models:convolutional", (1, 4))
    first, second = client.weights()
    for factor in (3.0, 0.1, 1.0):
        client.training.follow_scales([factor * first, factor * second])
        assert client.training.scales[0] == 2 * (factor * first).abs().mean()
    assert client.training.scales[1] == 2 * (3 * second).abs().max()


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_scales_are_found_by_the_quantizer_that_is_asked_for(data, quantizer):
    client = Client(data, "user_models:convolutional", 4, quantizer=quantizer)
    grown = [10 * weights for weights in client.weights()]
    client.training.follow_scales(grown)
    assert torch.equal(client.training.scales, quantizer.scales(grown, [4] * len(grown)))


def test_settings_of_the_optimizer(data):
    optimizer = Client(data, MODELS[0], lr=0.3, momentum=0.5, weight_decay=0.01).optimizer
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.5, 0.01)
    assert len(group["params"]) == 4


def test_mean_loss_is_over_images_not_batches(data):
    client = Client(data, "user_models:linear", lr=1e-12, batch_size=50)
    expected = 0.0
    for images, labels in client.batches:
        expected += F.cross_entropy(client.model(images), labels, reduction="sum").item() / tiny.TRAIN
        client.step((images, labels))
    assert client.training.mean_loss == pytest.approx(expected, rel=1e-5)
    assert LocalTraining(client.model, client.layout, client.settings, FULL_RANGE).mean_loss == 0


def test_layers_that_share_their_weights_train_as_one(data):
    client = Client(data, "user_models:tied", 4)
    assert client.layout.layers.count("3") == 1
    losses = client.epochs(6)
    assert losses[-1] < 0.8 * losses[0]
    assert client.model[3].weight is client.model[5].weight
