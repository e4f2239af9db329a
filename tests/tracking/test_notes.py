import json
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from fedmpq import tracking
from fedmpq.config import load_parameters, parse_overrides
from fedmpq.tracking.connection import connect
from fedmpq.tracking.notes import command, search_note
from fedmpq.tracking.run import experiment_of

PARAMETERS = Path(__file__).parents[2] / "params.yaml"
NOTE = "mlflow.note.content"


def test_an_experiment_and_its_runs_say_what_they_are(root, cell):
    with cell.start(root):
        pass
    cell.results(root, seeds=[1])
    tracking.replay(root / "results", root)
    for seed, run in enumerate(cell.runs(root)):
        said, _, made = run.data.tags[NOTE].rpartition("\n\n    ")
        assert said.startswith(f"A training by `fedmpq`, seed {seed}, ")
        assert made == "python -m pipeline.train --experiment digits --algorithm fedmpq --alpha 0.5"
    experiment = connect(root).client.get_experiment(run.info.experiment_id)
    assert experiment.tags[NOTE].startswith("Trainings of one network on `digits` by FedMPQ and its baselines")


def test_a_search_says_what_it_is(root):
    connection = connect(root)
    tags = connection.client.get_experiment(experiment_of(connection, "digits-tuning")).tags
    assert tags[NOTE] == search_note("digits")
    assert tags[NOTE].endswith("\n\n    make tune EXPERIMENT=digits")
    assert search_note("digits", 7).startswith("Trial 7 of a search for good parameters of `digits`")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.rounds": 3, "fedmpq.lambda": 0.3},
        {"model.network": "my.models:vit", "model.budgets": [1.5] * 10, "fedmpq.quantizer": "normal"},
        {"data.train_samples": 500, "model.activation_bits": None, "fedmpq.aggregation": "updates"},
    ],
)
def test_the_command_is_of_the_same_parameters(tmp_path, changes):
    shutil.copy(PARAMETERS, tmp_path)
    flat = load_parameters(PARAMETERS).varied("digits", changes).flat("fedmpq")
    given = {"algorithm": "fedmpq", "alpha": 0.5, **json.loads(json.dumps(flat))}  # as run.json has them
    words = shlex.split(command(tracking.Training("digits", "fedmpq", "0.5", 0, given), tmp_path))
    assert words[:9] == shlex.split("python -m pipeline.train --experiment digits --algorithm fedmpq --alpha 0.5")
    assert words[-2:] == ["--out", "results/again"] or not changes
    assignments = [word for before, word in pairwise(words) if before == "--set"]
    assert len(assignments) == len(changes)
    overrides = parse_overrides(assignments, "digits")
    assert load_parameters(PARAMETERS, overrides).experiment("digits").flat("fedmpq") == flat
