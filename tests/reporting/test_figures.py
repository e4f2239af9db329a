import html
import re
import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from networks import transformer

from fedmpq.engine.results import BITS, read_table
from fedmpq.reporting import figures, report
from fedmpq.reporting.results import load
from fedmpq.reporting.summary import summarize


def ends(label, axis):
    """Where a tick label begins and ends along its axis, pixels; a turned one is as wide as its font is high."""
    box = label.get_window_extent()
    if label.get_rotation() % 180 == 0:
        return (box.x0, box.x1) if axis == "x" else (box.y0, box.y1)
    middle, half = (box.x0 + box.x1) / 2, label.get_fontsize() / 72 * label.figure.dpi / 2
    return middle - half, middle + half


def assert_readable(figure):
    """Nothing reaches out of `figure`, no panel collapses, and no tick label lies on its neighbour."""
    figure.set_dpi(90)
    with warnings.catch_warnings(action="error"):
        FigureCanvasAgg(figure).draw()
    inches = figure.get_tightbbox()
    assert min(inches.x0, inches.y0) > -0.02
    assert inches.x1 < figure.bbox_inches.x1 + 0.02
    assert inches.y1 < figure.bbox_inches.y1 + 0.02
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_visible()]
            labels = [label for label in labels if label.get_text() and shown(axis, label)]
            spans = sorted(ends(label, axis.axis_name) for label in labels)
            assert all(before[1] <= after[0] for before, after in pairwise(spans)), [x.get_text() for x in labels]


def shown(axis, label):
    low, high = sorted(axis.get_view_interval())
    place = label.get_position()[axis.axis_name == "y"]
    return low <= place <= high


KINDS = {
    "a transformer of 100 clients, 100 classes, 1 round": {
        "sizes": transformer(12),
        "digits.training.rounds": 1,
        "digits.partition.clients": 100,
        "digits.model.budgets": [2.0, 4.0, 6.0, 8.0] * 25,
        "alphas": [0.5],
    },
    "2 rounds": {"digits.training.rounds": 2, "alphas": [0.5]},
    "large updates at 3 alphas": {
        "sizes": {"0": 10**9, "5": 10**10},
        "digits.training.rounds": 50,
        "alphas": [0.1, 0.5, 1.0],
    },
    "one layer": {"sizes": {"fc": 640}, "digits.training.rounds": 1, "alphas": [0.5]},
    "a long name": {"sizes": {"block." * 50: 9, "fc": 640}, "digits.training.rounds": 3, "alphas": [0.5]},
}


@pytest.fixture(scope="module", params=KINDS)
def drawn(request, project_class, tmp_path_factory):
    """All figures of a result, and its heat map."""
    project = project_class(tmp_path_factory.mktemp("project"), **KINDS[request.param])
    clients = project.settings.partition.clients
    for alpha in project.parameters.alphas:
        for name in ("fp32", "fedmpq"):
            folder = project.cell(name, alpha, [0.5])
        project.partition(alpha, np.arange(clients * clients).reshape(clients, clients))
    project.meta([f"class number {number}" for number in range(clients)])
    pictures = figures.draw_all(load(project.root, project.parameters, "digits"))
    return pictures | {"heat map": figures.bits_heat_map(read_table(folder / "bits.csv", BITS))}


def test_no_label_is_cut_or_lies_on_another(drawn):
    assert len(drawn) >= 6
    for figure in drawn.values():
        assert_readable(figure)


def test_every_layer_is_named(drawn):
    for figure in (drawn["heat map"], next(f for name, f in drawn.items() if name.startswith("bits-per-layer"))):
        names = [label.get_text().split("  ")[0] for label in figure.axes[0].get_yticklabels()]
        assert len(set(names)) == len(names)
        assert not [name for name in names if "…" in name and "block.block." not in name]


def test_the_last_round_is_marked_and_no_marker_clipped(drawn):
    for name in ("accuracy-over-rounds", "accuracy-over-bytes"):
        lines = [line for axes in drawn[name].axes for line in axes.lines if line.get_marker() != "None"]
        assert lines
        for line in lines:
            assert max(line.get_markevery()) == len(line.get_xdata()) - 1
            assert not line.get_clip_on()


def labelled(make_project, names):
    """The tick labels that a partition of these classes gets, drawn with every warning an error; and the results."""
    project = make_project(alphas=[0.5])
    project.cell("fedmpq", 0.5, [0.5])
    project.partition(0.5, np.ones((10, len(names)), int))
    project.meta(names)
    results = load(project.root, project.parameters, "digits")
    with warnings.catch_warnings(action="error"):
        figure = figures.draw_all(results)["partitions"]
        FigureCanvasAgg(figure).draw()
    return figure.axes[0].get_xticklabels(), results


def test_names_are_drawn_as_they_are(make_project):
    names = ["$1_$x^", r"$\frac{", r"a\$b$c$", "{}", "<b>|`*_", "قطة", "\N{GRINNING FACE}", "é", "%s", "a&b"]
    labels, _ = labelled(make_project, names)
    assert [label.get_text() for label in labels] == names


def test_names_that_the_font_cannot_draw_are_numbered_and_listed(make_project):
    names = ["cat", "猫", "قطة", "\N{UNICORN FACE}", "a\nb", "देवनागरी"]
    labels, results = labelled(make_project, names)
    assert [label.get_text() for label in labels] == ["cat", "1", "قطة", "3", "4", "5"]
    text = report.as_markdown(results, ["partitions"], summarize(results), [])
    assert '1 = "猫"; 3 = "\N{UNICORN FACE}"; 4 = "a&#92;nb"; 5 = "देवनागरी".' in text


def test_bits_of_either_rule_are_drawn(make_project):
    project = make_project(alphas=[0.5], algorithms=["aqfl", "fedmpq", "fedmpq_plus"])
    for algorithm in project.parameters.algorithms:
        project.cell(algorithm, 0.5, [0.5])
    drawn = figures.draw_all(load(project.root, project.parameters, "digits"))
    named = [name for name in drawn if name.startswith("bits-per-layer")]
    assert named == ["bits-per-layer-alpha-0.5", "bits-per-layer-plus-alpha-0.5"]
    assert [drawn[name].get_suptitle()[:8] for name in named] == ["FedMPQ, ", "FedMPQ+,"]


def test_layers_in_other_scripts_are_escaped(make_project):
    project = make_project(sizes={"卷积": 432, "$x$_": 640}, alphas=[0.5])
    project.cell("fedmpq", 0.5, [0.5])
    with warnings.catch_warnings(action="error"):
        pictures = figures.draw_all(load(project.root, project.parameters, "digits"))
        FigureCanvasAgg(pictures["bits-per-layer-alpha-0.5"]).draw()
    names = [label.get_text() for label in pictures["bits-per-layer-alpha-0.5"].axes[0].get_yticklabels()]
    assert names == [r"\u5377\u79ef  432", "$x$_  640"]


def test_the_page_shows_names_as_they_are(make_project):
    network = "a__b__:<script>|*x*$y$&amp;[z](w)\\"
    project = make_project(sizes={"<i>|_0_": 10**6, "fc": 640}, **{"digits.model.network": network})
    project.cell("fedmpq", 0.5, [0.5])
    report.write(project.root, project.parameters, "digits")
    page = (project.root / "reports/digits/report.html").read_text()
    assert "<script" not in page
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", page)]
    assert network in cells
    assert any("in <i>|_0_ at alpha" in cell for cell in cells)
