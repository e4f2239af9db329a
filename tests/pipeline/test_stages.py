from pathlib import Path

import pytest
from fedmpq.engine.training import CODE
from ruamel.yaml import YAML

from fedmpq.config import ALGORITHM_NAMES, Experiment

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
SECTION = "${item.experiment}."


def keys(stage):
    """The keys of an experiment's section on which a stage depends."""
    return {name.removeprefix(SECTION) for name in STAGES[stage]["params"] if name.startswith(SECTION)}


def test_every_parameter_of_an_experiment_makes_something_stale():
    used = keys("prepare") | keys("partition") | keys("train")
    of_algorithms = {"${item.algorithm}"}
    assert used - of_algorithms == Experiment.model_fields.keys() - {*ALGORITHM_NAMES, "validation"}


def test_only_the_seeds_concern_several_stages():
    assert keys("prepare") & (keys("partition") | keys("train")) == set()
    assert keys("partition") & keys("train") == {"seeds"}


def test_train_depends_on_the_code_that_its_fingerprint_covers():
    code = {name for name in STAGES["train"]["deps"] if not name.startswith("data/")}
    assert code == {f"src/fedmpq/{name}" for name in CODE}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "check"])
def test_code_that_stages_depend_on_exists(stage):
    code = [name for name in STAGES[stage]["deps"] if name.startswith(("src/", "pipeline/"))]
    assert all((ROOT / name).exists() for name in code)


def test_results_and_reports_are_kept_in_git_not_in_the_cache():
    outputs = [
        o
        for s in ("train", "curves", "report")
        for kind in ("outs", "metrics", "plots")
        for o in STAGES[s].get(kind, [])
    ]
    assert all(settings["cache"] is False for output in outputs for settings in output.values())


def test_trainings_use_the_run_cache():
    assert "outs" not in STAGES["train"]  # `cache: false` there would turn it off
