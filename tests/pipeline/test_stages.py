from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import ALGORITHM_NAMES, GROUPS
from fedmpq.engine.method import SOURCE, method_files

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
SECTION = "${item.experiment}."
KEYS = {f"{group}.{key}" for group, keys in GROUPS.items() for key in keys.model_fields}


def keys(stage):
    """The keys of an experiment's groups on which a stage depends."""
    names = [name.removeprefix(SECTION) for name in STAGES[stage]["params"] if name.startswith(SECTION)]
    return {key for key in KEYS for name in names if key == name or key.startswith(f"{name}.")}


def test_every_parameter_of_an_experiment_makes_something_stale():
    assert keys("prepare") | keys("partition") | keys("train") == KEYS - {"data.validation"}
    assert f"{SECTION}${{item.algorithm}}" in STAGES["train"]["params"]


def test_only_the_seeds_concern_several_stages():
    assert keys("prepare") & (keys("partition") | keys("train")) == set()
    assert keys("partition") & keys("train") == {"partition.seeds"}


def test_no_stage_names_what_is_not_there():
    for stage in STAGES.values():
        for name in [name.removeprefix(SECTION) for name in stage.get("params", []) if name.startswith(SECTION)]:
            assert name == "${item.algorithm}" or name in KEYS | GROUPS.keys()


def test_dvc_watches_the_method():
    watched = [ROOT / name for name in STAGES["inputs"]["deps"]]
    for algorithm in ALGORITHM_NAMES:
        files = method_files(algorithm, "resnet8").values()
        assert not [file for file in files if not any(file.is_relative_to(place) for place in watched)]
    assert ROOT / "src" == SOURCE
    assert {ROOT / "data/raw", ROOT / "extensions"} <= {*watched}
    digests = "data/inputs/${item.experiment}"
    assert STAGES["inputs"]["outs"] == [digests]
    assert f"{digests}/${{item.algorithm}}.json" in STAGES["train"]["deps"]
    assert f"{digests}/raw.json" in STAGES["prepare"]["deps"]


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
