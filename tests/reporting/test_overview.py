import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.reporting import overview
from fedmpq.reporting.results import load
from pipeline import command
from pipeline import report as stage

ROOT = Path(__file__).parents[2]
README = "# Title\n\n<!-- results -->\nold\n<!-- /results -->\n\nrest\n"


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, check=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory, project_class, write_export):
    """A project of three experiments, not all of whose cells are there, and what --all has made of them."""
    root = tmp_path_factory.mktemp("project")
    for experiment in ("cifar10-small", "cifar100-small", "cifar10-ablation", "digits"):
        project = project_class(root, experiment, **{f"{experiment}.training.rounds": 6})
        project.cell("fpq8", 0.5, [0.6, 0.7])
        project.cell("fedmpq", 0.5, [0.58, 0.66])
    small = project_class(root, "cifar10-small", **{"cifar10-small.training.rounds": 6})
    small.cell("fedmpq_plus", 0.5, [0.61])
    small.cell("aqfl", 1.0, [0.5, 0.5])
    small.partition(0.1, np.full((10, 10), 7))
    small.partition(5, np.full((10, 10), 7))
    for algorithm in ("fp32", "balanced-updates"):
        project_class(root, "cifar10-ablation").cell(algorithm, 0.5, [0.6, 0.6])
    write_export(root / "exports/cifar10-small", 4.0, **{"model.fmpq": 1500})
    (root / "README.md").write_text(README)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    small.cell("pruning", 0.1, [0.5])  # which is not in git
    write_export(root / "exports/cifar10-small", 6.0)  # nor is this
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "ROOT", root)
        patch.setattr(command, "parameters", lambda: small.parameters)
        stage.main(["--all"])
    return small


@pytest.fixture(scope="module")
def page(written):
    return (written.root / "reports/README.md").read_text()


@pytest.fixture(scope="module")
def block(written):
    return (written.root / "README.md").read_text()


def row(text, start):
    """The cells of the table's row that starts so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_readme_and_page_are_those_of_the_committed_results():
    found = overview.read(ROOT, load_parameters(ROOT / "params.yaml"))
    for path, text in overview.texts(ROOT, found).items():
        assert path.read_text() == text, f"{path} is not of these results; run: python -m pipeline.report --all"


def test_experiments_are_those_whose_reports_are_in_git(written):
    found = overview.committed(written.root, written.parameters)
    assert list(found) == ["cifar10-small", "cifar100-small", "cifar10-ablation"]
    assert found["cifar10-small"].algorithms == ["fpq8", "aqfl", "fedmpq", "fedmpq_plus"]
    assert found["cifar10-small"].alphas == [0.5, 1]
    assert all(f"/reports/{name}/" in (ROOT / ".gitignore").read_text().split() for name in overview.LOCAL)
    assert not (written.root / "reports/digits").exists()


def test_claims_by_experiment(page):
    claim, small, other, _ = row(page, "FedMPQ ends close to FPQ8")
    assert claim == "FedMPQ ends close to FPQ8 at alpha 0.5 and 1.0"
    assert small == "[does not hold](cifar10-small/report.md#the-papers-claims): -3.0 ± 1.0 at 0.5"
    assert other.startswith("[does not hold](cifar100-small/")
    assert row(page, "Pruning-growing")[1] == "[not run](cifar10-small/report.md#the-papers-claims)"
    assert row(page, "FedMPQ trails FPQ8 in speed")[1].endswith("+0.0 and +0.0 rounds")  # compared with cifar100-small


def test_plus_is_compared_where_both_have_seeds(page):
    rows = [
        [cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| cifar10-small")
    ]
    assert [found[2:6] for found in rows[:3]] == [
        ["0.5", "FPQ8", "2", "65.0 ± 7.1"],
        ["0.5", "FedMPQ", "2", "62.0 ± 5.7"],
        ["0.5", "FedMPQ+", "1", "61.0"],
    ]
    assert rows[2][9:11] == ["+1.0", "+3.0"]
    assert [found[2:6] for found in rows[3:]] == [["1", name, "-", "missing"] for name in ("FPQ8", "FedMPQ", "FedMPQ+")]


def test_what_is_missing_is_said(page):
    assert "; missing: AQFL at alpha 0.5, FPQ8 at alpha 1, FedMPQ at alpha 1, FedMPQ+ at alpha 1" in page


def test_links_lead_to_files(written, page, block):
    for folder, text in (("reports", page), (".", block)):
        links = [link.partition("#")[0] for link in text.replace("](", "\0").split("\0")[1:]]
        paths = [link.partition(")")[0] for link in links]
        assert len(paths) > 3
        assert [path for path in paths if not (written.root / folder / path).exists()] == []


def test_ablation_says_what_variants_are_made_of(page, block):
    assert row(page, "0.5 | balanced-updates")[6:] == [
        "-5.0 ± 5.0",
        "FedMPQ+",
        "updates",
        "weights",
        "full-range",
        "0.1",
        "0",
    ]
    assert row(block, "0.5 | balanced-updates")[-1] == "-5.0 ± 5.0"


def test_block_has_the_picture_first_and_the_rest_stays(block):
    assert block.startswith("# Title\n\n<!-- results -->\n![Accuracy over rounds, cifar10-small](docs/accuracy.png)\n")
    assert block.endswith("\n\n</details>\n<!-- /results -->\n\nrest\n")
    assert "at alpha 0.5: 10,000 training and 2,500 test images of cifar10 (10 classes, 32 pixels a side)" in block
    assert row(block, "FedMPQ+ minus FPQ8, points")[1:] == ["+1.0 (1 seed) at 0.5", "not run", "not run"]
    assert row(block, "FedMPQ+ minus FPQ8, on devices, points")[1:] == ["not run"] * 3  # no device was evaluated
    assert row(block, "FedMPQ ends close to")[1] == "does not hold"
    assert row(block, "cifar10-small | 0.5 | FedMPQ+")[3:] == ["1", "61.0", "-", "5.00", "+1.0"]
    assert "| cifar10-ablation |" not in block
    assert "missing" not in block


def test_one_sentence_says_what_plus_brings(block):
    (line,) = [text for text in block.split("\n\n") if text.startswith("**FedMPQ+")]
    assert "in 1 of 1 pairs of data set and alpha: +3.0 to +3.0 points." in " ".join(line.split())
    assert line.endswith("it ends by +1.0 to +1.0.**")


def test_models_that_are_in_git_are_offered(block):
    folder = "exports/cifar10-small/fedmpq/alpha-0.5/seed-0/budget-4"
    (line,) = [line for line in block.splitlines() if "](exports/" in line]
    assert line == f"| FedMPQ | 0.5 | 0 | [4]({folder}) | - | 1,500 | 4,000 | 80.0% | 90.0% |"


def test_dvc_is_told_of_every_cell_and_curve(written):
    said = YAML(typ="safe").load(written.root / "reports/dvc.yaml")
    assert len(said["metrics"]) == 10
    assert all((written.root / "reports" / path).exists() for path in said["metrics"])
    (curves,) = [path for entry in said["plots"] for path in entry if "100" in path]
    assert pd.read_csv(written.root / "reports" / curves)["algorithm"].unique().tolist() == ["fpq8", "fedmpq"]


def test_texts_differ_once_a_result_does(written):
    found = overview.read(written.root, written.parameters)
    texts = overview.texts(written.root, found)
    assert all(path.read_text() == text for path, text in texts.items())
    run = found["cifar10-small"].cells["fedmpq_plus", 0.5].run
    run["final_accuracy"] |= {"mean": 0.55, "seed-0": 0.55}
    changed = overview.texts(written.root, found)
    assert [path.name for path in texts if texts[path] != changed[path]] == ["README.md", "README.md"]


def test_the_picture_is_at_the_alphas_with_most_algorithms(written):
    found = overview.read(written.root, written.parameters)
    small = found["cifar10-small"]
    assert overview.pictured(found).alphas == [0.5]  # At 1.0 there is one of the five.
    for algorithm in ("fpq8", "fedmpq"):
        small.cells[algorithm, 1.0] = small.cells["aqfl", 1.0]
    picture = overview.pictured(found)
    assert (picture.alphas, picture.algorithms) == ([0.5, 1.0], ["fpq8", "aqfl", "fedmpq", "fedmpq_plus"])


def test_without_cifar10_small_the_picture_is_of_the_most_cells(written):
    found = overview.read(written.root, written.parameters)
    del found["cifar10-small"]
    assert overview.pictured(found).experiment == "cifar10-ablation"
    assert overview.pictured({}) is None


def test_one_cell_alone_makes_a_page(make_project):
    project = make_project("cifar100-small")
    project.cell("aqfl", 0.1, [0.5])
    (project.root / "README.md").write_text(README)
    git(project.root, "init", "--quiet")
    found = {"cifar100-small": load(project.root, project.parameters, "cifar100-small")}
    page, readme, _ = overview.texts(project.root, found).values()
    assert "Not run: `cifar10-ablation`." in page
    assert row(page, "cifar100-small | 0.1 | FPQ8")[3:5] == ["-", "missing"]
    assert row(page, "5 to 7")[2] == "not run"  # no report has been written
    assert "cifar100-small at alpha 0.1: 10,000 training" in readme


def test_readme_without_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# Title\n")
    with pytest.raises(UserError, match="no lines <!-- results -->"):
        overview.texts(tmp_path, {})


def test_outside_git_nothing_is_committed(tmp_path, monkeypatch, project):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="git does not say"):
        overview.committed(tmp_path, project.parameters)
