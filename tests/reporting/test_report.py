import json
import re

import numpy as np
import pytest
from PIL import Image

from fedmpq.reporting import figures, report
from fedmpq.reporting.claims import evaluate
from fedmpq.reporting.results import load
from fedmpq.reporting.summary import summarize
from pipeline import command
from pipeline import report as stage


@pytest.fixture(scope="module")
def written(tmp_path_factory, project_class):
    """A project whose report the stage has written; two cells of eight are there."""
    project = project_class(tmp_path_factory.mktemp("project"), **{"digits.training.rounds": 6})
    project.cell("aqfl", 0.1, [0.5, 0.6])
    project.cell("fedmpq", 0.1, [0.7, 0.8], wobble=0.02)
    for alpha in (0.1, 0.5, 5):
        project.partition(alpha, np.arange(100).reshape(10, 10))
    folder = project.root / "reports/digits"
    (folder / "tuning").mkdir(parents=True)
    (folder / "tuning/trials.csv").write_text("kept")
    (folder / "figures").mkdir()
    (folder / "figures/stale.png").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "ROOT", project.root)
        patch.setattr(command, "parameters", lambda: project.parameters)
        stage.main(["--experiment", "digits"])
    return project


def as_markdown(project):
    """The text of a report without figures."""
    results = load(project.root, project.parameters, project.experiment)
    return report.as_markdown(results, [], summarize(results), evaluate(results))


@pytest.fixture(scope="module")
def folder(written):
    return written.root / "reports/digits"


def test_html_needs_no_other_file(folder):
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == len(list((folder / "figures").iterdir()))
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    assert "url(" not in page


def test_html_says_what_markdown_says(folder):
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == re.findall(r"^## (.*)$", text, re.M)
    assert page.count("<table>") == 3
    assert '<td class="holds">holds</td>' in page


def test_markdown_shows_every_figure_and_no_other(folder):
    shown = re.findall(r"!\[.+?\]\((.*?)\)", (folder / "report.md").read_text())
    assert sorted(shown) == sorted(f"figures/{path.name}" for path in (folder / "figures").iterdir())
    assert len(shown) == 5


def test_figures_are_pictures(folder):
    for path in (folder / "figures").iterdir():
        with Image.open(path) as image:
            assert image.width == 1296
            assert image.height > 400
            assert np.asarray(image.convert("L")).std() > 10
            assert "Software" not in image.info


def test_figure_bytes_depend_on_results_alone(written, folder, tmp_path):
    results = load(written.root, written.parameters, "digits")
    with figures.mpl.rc_context(figures.STYLE):
        figures.save(figures.average_bits(results), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (folder / "figures/average-bits.png").read_bytes()


def test_missing_cells_are_named(folder):
    text = (folder / "report.md").read_text()
    assert "**Missing:** FP32 at alpha 0.1, FPQ8 at alpha 0.1, FP32 at alpha 0.5" in text
    assert len(json.loads((folder / "summary.json").read_text())["missing"]) == 6


def test_claims_are_those_of_the_page(folder):
    text = (folder / "report.md").read_text()
    for entry in json.loads((folder / "claims.json").read_text()):
        assert f"| {entry['claim']} | {entry['source']} | {entry['found']} | {entry['verdict']} |" in text


def test_parameters_show_where_algorithms_differ(folder):
    text = (folder / "report.md").read_text()
    assert "| `training.rounds` | 6 |" in text
    assert "| `aggregation` | weights |" in text
    assert "| `lambda` | 0.1 (FedMPQ) |" in text
    assert "`alpha`" not in text
    assert "algorithms: [fp32, fpq8, aqfl, fedmpq]" in text


def test_tuning_is_left_alone_and_stale_figures_go(folder):
    assert (folder / "tuning/trials.csv").read_text() == "kept"
    assert not (folder / "figures/stale.png").exists()


def test_nothing_is_touched_without_results(project, monkeypatch, capsys):
    monkeypatch.setattr(command, "ROOT", project.root)
    monkeypatch.setattr(command, "parameters", lambda: project.parameters)
    with pytest.raises(SystemExit, match="1"):
        stage.main(["--experiment", "digits"])
    assert capsys.readouterr().err.count("\n") == 1
    assert not (project.root / "reports").exists()


def test_algorithms_of_ones_own_get_a_look_of_their_own():
    names = (*figures.LOOKS, *map(str, range(12)))
    looks = [figures.look(name, names) for name in names]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(names)


def test_mixed_lengths_are_said(make_project):
    for rounds, name in ((10, "fp32"), (7, "aqfl")):
        project = make_project(**{"digits.training.rounds": rounds})
        project.cell(name, 0.1, [0.5])
    text = as_markdown(project)
    assert "**Mixed:**" in text
    assert "for 7 or 10 rounds" in text


def test_seeds_that_differ_are_said_and_within_an_alpha_a_fault(make_project):
    project = make_project()
    project.cell("fp32", 0.1, [0.5])
    project.cell("fp32", 0.5, [0.5, 0.6])
    text = as_markdown(project)
    assert "with seed 0 at alpha 0.1; seeds 0, 1 at alpha 0.5." in text
    assert "**Mixed:**" not in text
    project.cell("aqfl", 0.1, [0.5, 0.6])
    assert "**Mixed:**" in as_markdown(project)


@pytest.mark.parametrize(
    ("rounds", "said"),
    [(1, "that of the only round"), (2, "the mean of all 2 rounds"), (5, "the mean of the last 5 rounds")],
)
def test_what_was_averaged_is_said(make_project, rounds, said):
    project = make_project(**{"digits.training.rounds": rounds})
    project.cell("fedmpq", 0.1, [0.5])
    assert f"Final accuracy is {said}," in as_markdown(project)
