import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from ruamel.yaml import YAML

from fedmpq.data.arrays import Dataset
from fedmpq.data.partition import Partition
from pipeline import command, partition, prepare, report

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own; returns its folder and a function that sets parameters of `digits` by their keys."""
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def configure(alphas=(0.5, 1.0), **values):
        tree = YAML(typ="safe").load(PARAMS)
        tree.update(experiments=["digits"], alphas=list(alphas))
        for key, value in values.items():
            group, name = tiny.PLACES[key].split(".")
            tree["digits"][group][name] = value
        YAML().dump(tree, tmp_path / "params.yaml")

    configure()
    return tmp_path, configure


def run(stage):
    stage.main(["--experiment", "digits"])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(stage, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(stage)
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_both_stages_on_digits(project):
    root, configure = project
    configure(train_samples=300, seeds=[3, 4], min_samples=5)
    run(prepare)
    run(partition)
    dataset = Dataset.load(root / "data/prepared/digits")
    assert dataset.image_size == 16
    folder = root / "data/partitions/digits"
    assert {path.name for path in folder.iterdir()} == {"alpha-0.1", "alpha-0.5", "alpha-1.0", "alpha-5"}
    with (folder / "alpha-0.5/counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["seed", "client", *(f"label_{label}" for label in range(10))]
    assert [(row["seed"], row["client"]) for row in rows] == [(s, str(c)) for s in "34" for c in range(10)]
    for seed in (3, 4):
        divided = Partition.load(folder / f"alpha-0.5/seed-{seed}.npz", len(dataset.train_labels))
        assert len(divided.indices) == 300
        assert np.diff(divided.offsets).min() >= 5
        table = [[int(row[f"label_{label}"]) for label in range(10)] for row in rows if row["seed"] == str(seed)]
        assert (divided.counts(dataset.train_labels, 10) == table).all()


def test_the_same_parameters_give_the_same_bytes(project):
    root, _ = project
    run(prepare)
    run(partition)
    first = contents(root / "data")
    shutil.rmtree(root / "data/partitions")
    run(prepare)
    run(partition)
    assert contents(root / "data") == first


def test_more_seeds_leave_partitions_at_other_alphas_as_they_are(project):
    root, configure = project
    configure(alphas=[0.5, 1.0])
    run(prepare)
    run(partition)
    first = contents(root / "data/partitions")
    configure(alphas=[0.5, 1.0], more_seeds={0.5: [9]})
    run(partition)
    after = contents(root / "data/partitions")
    changed = {path for path in after if after[path] != first.get(path)}
    assert {path.parent.name for path in changed} == {"alpha-0.5"}
    assert {"seed-9.npz", "counts.csv"} <= {path.name for path in changed}


def test_a_minimum_is_not_asked_of_figures_alone(project, capsys):
    root, configure = project
    configure(alphas=[5], min_samples=100, max_redraws=100)
    run(prepare)
    run(partition)
    folder = root / "data/partitions/digits"
    files = {alpha: folder / f"alpha-{alpha}/seed-0.npz" for alpha in (0.1, 5)}
    smallest = {alpha: np.diff(Partition.load(file, 1438).offsets).min() for alpha, file in files.items()}
    assert smallest[0.1] < 100 <= smallest[5]
    before = contents(root / "data/partitions")
    configure(alphas=[0.1], min_samples=100, max_redraws=10)
    assert "alpha 0.1: in 11 draws none gave each of the 10 clients at least 100 images" in refused(partition, capsys)
    assert contents(root / "data/partitions") == before


def test_partition_before_prepare_makes_the_same_of_arrays_of_its_own(project, capsys):
    root, _ = project
    run(partition)
    assert "data/prepared/digits is not of these parameters: making checkpoints/inputs/" in capsys.readouterr().out
    first = contents(root / "data/partitions")
    run(prepare)
    run(partition)
    assert "making" not in capsys.readouterr().out
    assert contents(root / "data/partitions") == first


@pytest.mark.parametrize("alphas", [[0.5, 1.0], [5], [0.3]])
def test_only_what_was_asked_for_is_told_of(project, capsys, alphas):
    root, configure = project
    configure(alphas=alphas)
    run(prepare)
    capsys.readouterr()
    run(partition)
    assert re.findall(r"alpha (\S+):", capsys.readouterr().out) == [str(alpha) for alpha in alphas]
    drawn = {float(folder.name.removeprefix("alpha-")) for folder in (root / "data/partitions/digits").iterdir()}
    assert drawn == {*alphas, *partition.FIGURE_ALPHAS}


def test_an_unknown_experiment_is_refused(project, capsys):
    with pytest.raises(SystemExit):
        prepare.main(["--experiment", "nothing"])
    assert "unknown experiment 'nothing'" in capsys.readouterr().err


def test_raw_data_are_found_from_a_temporary_copy_of_the_repository(project, monkeypatch, tmp_path_factory, capsys):
    root, configure = project
    configure(source="mine", image_size=None)
    original = tmp_path_factory.mktemp("original")
    monkeypatch.setenv("DVC_ROOT", str(original))
    assert f"in {original}/data/raw/mine/" in refused(prepare, capsys)
    for path in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        (original / "data/raw/mine" / path).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(original / "data/raw/mine" / path)
    run(prepare)
    assert Dataset.load(root / "data/prepared/digits").classes == ["a", "b"]
    shutil.move(original / "data/raw/mine", root / "data/raw/mine")
    run(prepare)
    assert Dataset.load(root / "data/prepared/digits").classes == ["a", "b"]


def test_a_report_divides_its_images_at_its_own_alphas(project, capsys):
    root, configure = project
    configure(alphas=[0.5], source="mine", clients=2, budgets=[4.0, 4.0], min_samples=1)
    for path in (f"{part}/{label}/{number}.png" for part in ("train", "test") for label in "ab" for number in range(9)):
        (root / "data/raw/mine" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (int(path[-5]), 0, 0)).save(root / "data/raw/mine" / path)
    run(prepare)
    run(partition)
    parameters = command.parameters()
    report.make_inputs(parameters.model_copy(update={"alphas": [2.0]}), "digits")
    assert (root / "data/partitions/digits/alpha-2.0/seed-0.npz").is_file()
    (root / "data/raw/mine/train/a/0.png").write_bytes(b"")
    shutil.rmtree(root / "data/prepared")
    report.make_inputs(parameters, "digits")
    assert capsys.readouterr().err.startswith("the report on digits does without its data: ")
