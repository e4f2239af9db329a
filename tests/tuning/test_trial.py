import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedmpq.data.dirichlet import training_samples
from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.federated.messages import Kind, Message, encode
from fedmpq.federated.tasks import TrainTask
from fedmpq.quantization.codes import Grid
from fedmpq.seeding import torch_generator
from fedmpq.tuning import trial
from fedmpq.tuning.lanes import SEQUENTIAL, Ended, Processes, events
from fedmpq.tuning.planes import top_planes


class Forbidden:
    """An array that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} of a test array")

    def __getitem__(self, key):
        raise AssertionError("a test array was read")

    def __len__(self):
        raise AssertionError("a test array was measured")


@pytest.fixture
def plan(project):
    return trial.Plan.of(project.root / "data/prepared/digits", "fedmpq", 0.5, "cpu")


@pytest.fixture
def experiment(project):
    return project.space().experiment({"fedmpq.lambda": 0.3, "fedmpq.epsilon": 0.05})


def without_times(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("train_samples", [None, 60])
def test_validation_images_train_nobody(plan, experiment, train_samples):
    experiment = experiment.model_copy(update={"train_samples": train_samples})
    for setup in plan.setups(experiment):
        trained, held_out = setup.partition.indices, setup.held_out
        assert not set(trained) & set(held_out)
        used = training_samples(setup.dataset.train_labels, train_samples, setup.seed)
        assert sorted([*trained, *held_out]) == used.tolist()
        assert len(held_out) == round(0.2 * len(used))
        assert setup.evaluation_images[0] == "train"
        np.testing.assert_array_equal(setup.evaluation_images[1], held_out)
    first, second = plan.setups(experiment)
    assert set(first.held_out) != set(second.held_out)


def test_test_images_are_never_read(plan, experiment, monkeypatch):
    expected = list(trial.run(plan, experiment, SEQUENTIAL))

    class Guarded(trial.Plan):
        def setups(self, experiment):
            for setup in (setups := super().setups(experiment)):
                forbidden = {name: Forbidden() for name in ("test_images", "test_labels")}
                setup.__dict__["dataset"] = dataclasses.replace(setup.dataset, **forbidden)
            return setups

    guarded = Guarded(**dataclasses.asdict(plan))
    assert without_times(trial.run(guarded, experiment, SEQUENTIAL)) == without_times(expected)


def test_rows_are_means_over_seeds(plan, experiment):
    rows = list(trial.run(plan, experiment, SEQUENTIAL))
    alone = [
        list(trial.run(plan, experiment.model_copy(update={"seeds": [seed]}), SEQUENTIAL)) for seed in experiment.seeds
    ]
    for row, first, second in zip(rows, *alone, strict=True):
        assert row["accuracies"] == first["accuracies"] | second["accuracies"]
        for name in ("accuracy", "loss", "given", "left", "uplink_bytes"):
            assert row[name] == pytest.approx((first[name] + second[name]) / 2)
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert rows[0]["by_budget"].keys() == {"2", "4", "8"}
    assert max(rows[0]["by_budget"]["2"].values()) <= 2


def test_summary_counts_the_last_rounds(plan, experiment):
    rows = list(trial.run(plan, experiment, SEQUENTIAL))
    found = trial.summarize(rows, 2)
    assert found["accuracy"] == pytest.approx((rows[1]["accuracy"] + rows[2]["accuracy"]) / 2)
    assert found["bits_pruned"] == pytest.approx(found["bits_given"] - found["bits_left"])
    assert found["uplink_bytes"] == pytest.approx(sum(row["uplink_bytes"] for row in rows) / 3)
    assert trial.summarize(rows[:1], 2)["rounds"] == 1
    assert trial.summarize(rows[:1], 2)["accuracy"] == rows[0]["accuracy"]


def test_lambda_empties_planes(plan, experiment):
    def share(strength):
        settings = experiment.fedmpq.model_copy(update={"lambda_": strength})
        rows = list(trial.run(plan, experiment.model_copy(update={"fedmpq": settings, "rounds": 6}), SEQUENTIAL))
        return trial.summarize(rows, 2)["top_plane"]

    shares = [share(strength) for strength in (0.0, 1.0, 10.0)]
    assert all(more > less for more, less in pairwise(shares))


def test_full_precision_has_no_planes(plan, experiment):
    whole = dataclasses.replace(plan, algorithm="fp32")
    rows = list(
        trial.run(whole, experiment.model_copy(update={"rounds": 1, "model": "user_models:linear"}), SEQUENTIAL)
    )
    assert rows[0]["top_plane"] is None
    assert trial.summarize(rows, 1)["bits_left"] == 32


def test_training_that_diverges_is_a_failure(plan, experiment):
    *_, last = events(plan, experiment.model_copy(update={"lr": 1e30}), SEQUENTIAL)
    assert last.failure.startswith("round 1: fewer than 1 clients")
    assert "diverged" in last.failure
    assert "\n" not in last.failure


def test_fault_of_the_program_is_a_failure_with_its_kind(plan, experiment):
    *_, last = events(plan, experiment.model_copy(update={"model": "user_models:broken"}), SEQUENTIAL)
    assert "ArithmeticError: a fault of the program" in last.failure


def test_want_of_memory_is_a_failure_that_says_so(plan, experiment, monkeypatch):
    def exhausting(*_):
        return torch.empty(2**60)

    monkeypatch.setattr("user_models.perceptron", exhausting)
    *_, last = events(plan, experiment, SEQUENTIAL)
    assert last.failure.startswith("out of memory (")


def test_lanes_are_processes_that_may_die(plan, experiment):
    expected = list(events(plan, experiment, SEQUENTIAL))
    with Processes(plan, "cpu", 2) as lanes:
        lanes.start(0, experiment)
        lanes.start(1, experiment.model_copy(update={"rounds": 1000}))
        assert not lanes.free
        rows, killed, early = [], None, None
        while killed is None or not rows or not isinstance(rows[-1], Ended):
            number, event = lanes.next()
            if number == 0:
                rows.append(event)
            elif isinstance(event, Ended):
                killed = event
            elif event["round"] == 2:
                lanes.busy[1][0].kill()
            if not isinstance(event, Ended):
                lanes.answer(number, True)
        assert without_times(rows[:-1]) == without_times(expected[:-1])
        assert rows[-1] == expected[-1] == Ended()
        assert killed.failure == "its process was killed, perhaps for want of memory"
        for number in (2, 3):  # a trial that is given up leaves its lane for another one
            lanes.start(number, experiment)
            early = lanes.next()
            assert (early[0], early[1]["round"]) == (number, 1)
            lanes.answer(number, False)
        assert lanes.free


def uplink(layout, bits, weights):
    """The answer of client 0 in round 1, with scale 2, and its task."""
    scales = torch.full((len(bits),), 2.0)
    message = Message(Kind.UPLINK, 1, 0, 5, 0.5, bits, scales, FlatModel(weights, torch.zeros(0)))
    return TrainTask(1, 0, b"", 0), encode(message, layout)


def test_top_planes_are_counted_in_codes():
    network = torch.nn.Sequential(*[torch.nn.Linear(4, 4, bias=False) for _ in range(3)])
    layout = Layout.of(network)
    weights = torch.rand(48, generator=torch_generator(0)) * 2 - 1
    task, data = uplink(layout, (4, 3, 1), weights)
    given = [4, 4, 1]  # the second layer has lost a bit, the third one has a sign only
    bits = [{"client": 0, "bits_given": b} for b in given]
    offsets = Grid.of(torch.tensor(4), torch.tensor(2.0)).encode(weights[:16]) - 8
    assert top_planes([(task, data)], bits, layout) == (int((offsets.abs() >= 4).sum()), 32)
    assert top_planes([(task, data)], [{"client": 1, "bits_given": 4}], layout) == (0, 0)
    assert top_planes([(task, data[:-1] + b"x")], bits, layout) == (0, 0)
