"""Figures: which are drawn, that they show the table's numbers, and that they come out the same, in any width."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from experiments import figures
from experiments.figures import common, draw_all, exhibits, names, tau
from experiments.figures.registry import FIGURES, TABLES
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.results import select, unchanged
from experiments.findings.scorecard import evidence, scorecard, to_json
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.schema import StudyConfig
from models.training.methods import METHODS as ALL_METHODS
from synth.families import JAILBREAKS
from tests.experiments.conftest import KEYS
from tests.experiments.drawn import figure_of, style
from tests.experiments.made_results import METHODS, points, results, swept

__all__ = ["style"]

SHOWN = [*KEYS, "value", "n"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return results(steps=(50, 100))


@pytest.fixture(scope="module")
def drawn(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    draw_all(table, folder, points=points())
    return folder


def line(figure: Figure, title: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the labelled line in the first panel below a title that has one."""
    panels = [axis for axis in figure.axes if axis.get_visible()]
    column = next(_column(axis) for axis in panels if axis.get_title(loc="left") == title)
    lines = [one for axis in panels if _column(axis) == column for one in axis.get_lines() if one.get_label() == label]
    return np.asarray(lines[0].get_xdata(), float), np.asarray(lines[0].get_ydata(), float)


def _column(axis: Axes) -> int:
    place = axis.get_subplotspec()
    assert place
    return place.colspan.start


def test_all_that_the_table_has_rows_for_is_drawn_and_kept_with_these_rows(table: pd.DataFrame, drawn: Path) -> None:
    index = json.loads((drawn / figures.INDEX).read_text())
    assert {name.partition("-")[0] for name in index} | {"other_families_steps"} == {*names(sweep=False)}
    assert {name for name in index if name.startswith("jailbreaks-")} == {f"jailbreaks-{name}" for name in METHODS}
    assert {path.name for path in drawn.iterdir()} - {figures.INDEX} == {
        f for one in index.values() for f in one["files"]
    }
    assert all(path.stat().st_size > 100 for path in drawn.iterdir())
    known = set(table[SHOWN].astype(object).fillna("").itertuples(index=False, name=None))
    for name in index:
        rows = pd.read_csv(drawn / f"{name}.csv")
        assert len(rows) > 0
        if name in FIGURES and FIGURES[name].of_prompts:
            continue
        if not name.endswith("_steps") or "metric" in rows:
            rows = rows.astype(table.dtypes.to_dict())[SHOWN].astype(object).fillna("")
            assert set(rows.itertuples(index=False, name=None)) <= known
            assert set(rows["seed"]) == {0, 1, 2}


def test_what_has_no_rows_is_not_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    assert list(exhibits(table.head(0))) == []
    assert draw_all(table.head(0), tmp_path) == []
    finished = unchanged(table)
    of_metrics = {
        "tau": {"tau", "jailbreaks"},
        "sine_sorted": {"sines", "sines_out"},
        "projection_abs": {"projections", "projections_out", "projections_jailbreaks"},
        "lipschitz_quantile": set(),
        "lipschitz_ratio_quantile": {"sensitivity"},
        "activation_angle_mean": {"angles", "angles_jailbreaks"},
        "neuron_effect": {"neurons"},
        "neuron_sample": {"neurons_sample"},
        "outside_energy": {"energy"},
        "tau_group": {"tau_groups"},
        "covariance_sigma": {"spectra"},
        "mean_distance": {"distances", "distances_out"},
        "adv_complied": {"attacks"},
        "refusal_cosine": {"refusal_cosine"},
        "lowest_complied": {"cones"},
    }
    of_changed_models = {"interventions", "multiples", "parts", "patches", "between", "transfer"}
    of_changed_models |= {"refusal_edits", "refusal_rank", "landscape"}
    on_the_way = {"spectra_by_step", "sines_by_step", "projections_by_step"}
    absent = of_changed_models | on_the_way | set().union(*of_metrics.values())
    few = finished[~finished["metric"].isin(of_metrics)]
    there = {shown.name.partition("-")[0] for shown in exhibits(few, points=points())}
    assert there & absent == set()
    assert {*FIGURES, *TABLES} - absent <= there
    missing = finished.assign(value=finished["value"].where(finished["metric"] != "lipschitz_quantile"))
    missing = missing[missing["metric"].str.startswith("lipschitz_quantile")]
    assert list(exhibits(missing)) == []


def test_models_on_the_way_change_no_figure_of_the_finished_ones(table: pd.DataFrame) -> None:
    finished = table[table["step"].isna()]
    kept = {shown.name: shown.rows for shown in exhibits(finished)}
    for shown in exhibits(table):
        if shown.name in kept:
            pd.testing.assert_frame_equal(shown.rows, kept[shown.name])
    of_prompts = {name for name, drawing in FIGURES.items() if drawing.of_prompts}
    assert {*FIGURES, *TABLES} - of_prompts <= {
        *(name.partition("-")[0] for name in kept),
        "spectra_by_step",
        "sines_by_step",
        "projections_by_step",
    }


def test_a_figure_of_prompts_shows_each_of_them_once_a_model(drawn: Path) -> None:
    given = points()
    for name, module in (("activations", "mlp.post"), ("activations_resid", "resid_post_last")):
        rows = pd.read_csv(drawn / f"{name}.csv")
        shown = given[(given["module"] == module) & (given["layer"] == given["layer"].max())].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[shown.columns], shown, check_dtype=False)
    figure = FIGURES["activations"].draw(FIGURES["activations"].rows(given))
    models = list(dict.fromkeys(given["node"]))
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels[: len(models)]] == models
    deepest = given[given["layer"] == given["layer"].max()]
    for i, axis in enumerate(panels):
        place = {"node": models[i % len(models)], "module": "mlp.post", "family": "unsafe"}
        along = select(deepest, **place).pivot(index="prompt", columns=["metric", "index"], values="value")
        below = along["pca"][2] if i < len(models) else along["lda"].iloc[:, 0]
        expected = np.stack([along["pca"][1], below], axis=1)
        drawn_there = next(one for one in axis.collections if one.get_label() == "unsafe")
        np.testing.assert_array_equal(np.asarray(drawn_there.get_offsets()), expected)


@pytest.mark.parametrize("name", ["tau", "sensitivity", "separation"])
def test_drawn_twice_files_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    given = swept([0, 1]) if name == "separation" else results()
    for folder in ("a", "b"):
        assert draw_all(given.sample(frac=1, random_state=0).sort_index(), tmp_path / folder, only=[name]) == [name]
    for kind in (*figures.IMAGES, "csv"):
        assert (tmp_path / "a" / f"{name}.{kind}").read_bytes() == (tmp_path / "b" / f"{name}.{kind}").read_bytes()


@pytest.mark.parametrize(("width", "expected"), [("column", 3.25), ("text", 5.5), ("page", 6.75), (4.2, 4.2)])
def test_a_figure_is_as_wide_as_asked_with_fonts_inside(
    width: str | float, expected: float, table: pd.DataFrame, tmp_path: Path
) -> None:
    draw_all(table, tmp_path, width, only=["tau"])
    with Image.open(tmp_path / "tau.png") as image:
        assert image.width == round(200 * expected)
    pdf = (tmp_path / "tau.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)
    assert box
    assert float(box[1]) == pytest.approx(72 * expected, abs=0.01)
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("width", ["column", "text", "page"])
@pytest.mark.parametrize(
    "name",
    [
        "behaviour",
        "tau",
        "separability",
        "jailbreaks",
        "scorecard",
        "interventions",
        "energy",
        "multiples",
        "tau_groups",
        "neurons_sample",
        "cones",
        "harmfulness",
        "shifts",
        "prefill",
        "depth",
        "landscape",
    ],
)
def test_nothing_is_cut_and_legends_fit(name: str, width: str, table: pd.DataFrame) -> None:
    with plt.rc_context({"figure.figsize": (figures.inches(width), 3)}):
        shown = next(exhibits(table, [name]))
        assert shown.draw
        figure = shown.draw()
        figure.draw_without_rendering()
        whole = figure.bbox
        box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert box.x0 >= -1
        assert box.x1 <= whole.width + 1
        assert box.y0 >= -1
        assert box.y1 <= whole.height + 1
        widths = [axis.get_window_extent().width for axis in figure.axes if axis.get_visible()]
        assert min(widths) > 0.5 * 200


def test_methods_and_families_are_told_apart_without_colour() -> None:
    methods = list(common.model_looks(ALL_METHODS).values())
    families = list(common.looks(["safe", "unsafe", *JAILBREAKS]).values())
    for looks in (methods, families):
        assert len({str(one.linestyle) for one in looks}) >= len(looks) - 1
        assert len({(str(one.linestyle), one.marker) for one in looks}) == len(looks)
        assert len({one.color for one in looks}) == len(looks)


def test_models_of_other_names_than_methods_are_told_apart_from_all_others() -> None:
    others = [f"{start}+{method}" for start in ("sft", "dpo", "x") for method in ("continued", "sft", "dpo", "npo")]
    looks = common.model_looks([UNTOUCHED, RANDOM, "x", *ALL_METHODS, *others])
    assert len({one.color for one in looks.values()} - {looks[name].color for name in ALL_METHODS}) >= 7
    assert len({(one.color, one.marker) for one in looks.values()}) == len(looks)
    assert len({(str(one.linestyle), one.marker) for one in looks.values()}) == len(looks)
    assert {name: looks[name] for name in ALL_METHODS} == common.model_looks(ALL_METHODS)


def test_titles_are_parted_between_the_words_of_names() -> None:
    _, axes = common.panels(["continued+continued", "unlearning_kl", "sft", "dpo", "npo"], [""], "layer")
    assert axes[0, 0].get_title(loc="left") == "continued+\ncontinued"
    assert axes[0, 1].get_title(loc="left") == "unlearning_kl"


@pytest.mark.parametrize("reach", [1.05, 1.5, 3, 3.5, 30, 3000])
def test_ticks_of_a_small_logarithmic_axis_are_few(reach: float) -> None:
    figure, axes = common.panels(["a", "b", "c"], [""], "x")
    axes[0, 0].plot([0.61, 0.61 * reach], [0, 1])
    common.logarithmic(axes[0, 0])
    figure.canvas.draw()
    left, right = axes[0, 0].get_xlim()
    boxes = [
        one.get_window_extent()
        for one in axes[0, 0].get_xticklabels()
        if one.get_text() and left <= one.get_position()[0] <= right
    ]
    assert len(boxes) >= 2
    assert all(one.x1 < next_.x0 for one, next_ in itertools.pairwise(boxes))


def test_a_model_looks_the_same_in_every_figure_of_a_table() -> None:
    table = results().replace({"node": {"dpo": "a"}, "other": {"dpo": "a"}})
    table = pd.concat([table, unchanged(results(key=1)).query("node == 'sft'").assign(node="b")])
    few = table[(table["node"] != "a") | (table["intervention"] == "between")]
    drawn = {name: figure_of(table, name) for name in ("distances", "between")}
    drawn["of one"] = figure_of(few.query("metric != 'mean_distance' or node == 'b'"), "distances")
    looks = {
        name: {
            str(one.get_label()).removeprefix("to "): one.get_color()
            for axis in figure.axes
            for one in axis.get_lines()
        }
        for name, figure in drawn.items()
    }
    assert looks["distances"]["a"] == looks["between"]["a"]
    assert looks["distances"]["b"] == looks["of one"]["b"]
    assert len({looks["distances"][name] for name in ("sft", "continued", "a", "b")}) == 4


def test_tau_shows_means_over_seeds_and_each_seed(table: pd.DataFrame) -> None:
    figure = figure_of(table, "tau")
    rows = select(unchanged(table), metric="tau", module="mlp.post", node="dpo", family="unsafe")
    x, y = line(figure, "dpo", "unsafe")
    assert x.tolist() == [1, 2]
    assert y == pytest.approx([rows[rows["layer"] == layer]["value"].mean() for layer in (1, 2)])
    panel = next(axis for axis in figure.axes if axis.get_title(loc="left") == "dpo")
    thin = [one.get_ydata() for one in panel.get_lines() if str(one.get_label()).startswith("_")]
    seeds = [rows[rows["seed"] == seed].sort_values("layer")["value"].tolist() for seed in range(3)]
    assert all(any(np.allclose(one, seed) for one in thin) for seed in seeds)


@pytest.mark.parametrize(
    ("name", "metric", "label", "where"),
    [
        ("projections", "projection_abs", "unsafe", {"module": "W_in", "family": "unsafe"}),
        ("projections_out", "projection_abs", "safe", {"module": "W_out", "family": "safe"}),
        ("projections_jailbreaks", "projection_abs", "co_task", {"module": "W_in", "family": "co_task"}),
        ("neurons", "neuron_effect", "safe", {"family": "safe"}),
        ("spectra", "covariance_sigma", "unsafe, tuned", {"module": "mlp.post", "family": "unsafe"}),
        ("projections_by_step", "projection_abs", "safe, tuned", {"module": "W_in", "family": "safe"}),
    ],
)
def test_lines_against_an_index_are_means_of_the_last_layer(
    name: str, metric: str, label: str, where: dict[str, str], table: pd.DataFrame
) -> None:
    rows = select(unchanged(table), metric=metric, node="sft", layer=2, **where)
    indices = sorted(rows["index"].unique())
    x, y = line(figure_of(table, name), "sft", label)
    assert x.tolist() == indices
    assert y == pytest.approx([rows[rows["index"] == i]["value"].mean() for i in indices])


def below(figure: Figure, title: str, line: int) -> Axes:
    """The panel of a column, by its place below the title."""
    shown = [axis for axis in figure.axes if axis.get_visible()]
    column = next(_column(axis) for axis in shown if axis.get_title(loc="left") == title)
    return [axis for axis in shown if _column(axis) == column][line]


def drawn_line(axis: Axes, label: str) -> tuple[list[float], list[float]]:
    one = next(one for one in axis.get_lines() if one.get_label() == label)
    return list(np.asarray(one.get_xdata(), float)), list(np.asarray(one.get_ydata(), float))


def test_energy_is_drawn_by_matrix_beside_the_matched_control_and_the_closed_form(table: pd.DataFrame) -> None:
    finished = unchanged(table)
    with_matched = pd.concat([finished, select(finished, node="continued").assign(node="irrelevant")])
    for given, control in ((finished, "continued"), (with_matched, "irrelevant")):
        figure = figure_of(given, "energy")
        for line, module in enumerate(("W_in", "W_out")):
            axis = below(figure, "dpo", line)
            expected = {
                "all of dW": ("dpo", "outside_energy"),
                "leading vectors, half of the energy": ("dpo", "outside_top"),
                "random matrix": ("dpo", "outside_energy_random"),
                f"all of it, {control}": (control, "outside_energy"),
            }
            for label, (method, metric) in expected.items():
                rows = select(given, node=method, metric=metric, module=module)
                x, y = drawn_line(axis, label)
                assert x == [1, 2]
                assert y == pytest.approx(list(rows.groupby("layer")["value"].mean()))
        assert not [one for one in below(figure, control, 0).get_lines() if one.get_label() == f"all of it, {control}"]


def test_multiples_are_drawn_against_alpha_in_the_last_layer(table: pd.DataFrame) -> None:
    figure = figure_of(table, "multiples")
    labels = {"separation_scaled": None, "fisher": None, "spectral_share": "unsafe", "lipschitz": "safe"}
    for metric, family in labels.items():
        rows = select(table, node="sft", metric=metric, intervention="alpha")
        rows = select(rows, family=family) if family else rows
        rows = rows if metric == "lipschitz" else select(rows, layer=2)
        place = ["separation_scaled", "fisher", "spectral_share", "activation_angle", "lipschitz"].index(metric)
        x, y = drawn_line(below(figure, "sft", place), family or "safe against unsafe")
        assert x == [0, 0.5, 1, 1.5]
        assert y == pytest.approx(list(rows.groupby("strength")["value"].mean()))


def test_tau_by_group_is_drawn_a_group_a_line(table: pd.DataFrame) -> None:
    figure = figure_of(table, "tau_groups")
    for group in (1, 2):
        rows = select(unchanged(table), metric="tau_group", index=group, module="mlp.post")
        rows = select(rows, node="untouched", family="co_task")
        x, y = drawn_line(below(figure, "untouched", group - 1), "co_task")
        assert x == [1, 2]
        assert y == pytest.approx(list(rows.groupby("layer")["value"].mean()))


def test_harmfulness_is_drawn_beside_refusal(table: pd.DataFrame) -> None:
    figure = figure_of(table, "harmfulness")
    own = select(unchanged(table), node="sft")
    for label, where in {
        "one with the other": {"metric": "harm_refuse_cosine_halves"},
        "refusal, EOT": {"metric": "halves_cosine", "position": 0},
    }.items():
        _, y = line(figure, "sft", label)
        np.testing.assert_allclose(y, select(own, **where).groupby("layer")["value"].mean())
    means = select(own, position=-1).groupby(["metric", "family"])["value"].mean()
    unsafe, safe, moved = (means["side_score", family] for family in ("unsafe", "safe", "co_task"))
    _, (drawn, *_) = drawn_line(below(figure, "sft", 1), "harmfulness, end of text")
    assert drawn == pytest.approx((unsafe - moved) / (unsafe - safe))
    steered = select(table, node="sft", intervention="steer harm own")["value"]
    points = [[*np.asarray(one.get_ydata(), float)] for one in below(figure, "sft", 2).get_lines()]
    assert points[4] == pytest.approx(list(steered))


def test_begun_responses_and_depth_are_a_line_for_each_model(table: pd.DataFrame) -> None:
    figure = figure_of(table, "prefill")
    own = select(unchanged(table), metric="prefill_complied")
    # A row each for methods of safety, placebos and all other models.
    for part, (model, column, families) in enumerate(
        [("sft", 0, ["unsafe"]), ("continued", 1, list(JAILBREAKS)), ("untouched", 0, ["unsafe"])]
    ):
        x, y = drawn_line(visible(figure)[5 * part + column], model)
        assert x == [0, 1, 2]
        np.testing.assert_allclose(y, select(own, node=model, family=families).groupby("index")["value"].mean())
    _, y = drawn_line(visible(figure)[4], "dpo")
    given = select(unchanged(table), node="dpo", metric="prefill_null_refused")
    np.testing.assert_allclose(y, given.groupby("index")["value"].mean())
    figure = figure_of(table, "depth")
    _, y = drawn_line(visible(figure)[1], "dpo")
    matched = select(unchanged(table), node="dpo", metric="token_kl_matched_comply", family="unsafe")
    np.testing.assert_allclose(y, matched.groupby("index")["value"].mean())


def visible(figure: Figure) -> list[Axes]:
    """Its panels, line after line."""
    return [axis for axis in figure.axes if axis.get_visible()]


def test_the_landscape_is_a_line_for_each_model_and_edit(table: pd.DataFrame) -> None:
    figure = figure_of(table, "landscape")
    for title, kind, model in (
        ("moved at random", "move", "untouched"),
        ("by tuning's change", "move by change", "sft"),
        ("disaligned", "disalign", "dpo"),
        ("disaligned, random", "disalign random", "continued"),
    ):
        own = select(table, node=model, intervention=kind)
        for row, (family, metric) in enumerate((("unsafe", "refused"), ("unsafe", "complied"), ("safe", "complied"))):
            x, y = drawn_line(below(figure, title, row), model)
            means = select(own, family=family, metric=metric).groupby("strength")["value"].mean()
            np.testing.assert_allclose(x, means.index)
            np.testing.assert_allclose(y, means)
    without = table[table["intervention"] != "disalign"]
    assert "disaligned" not in {axis.get_title(loc="left") for axis in figure_of(without, "landscape").axes}


@pytest.mark.parametrize("count", [3, 22])
def test_bars_of_many_models_are_as_high_as_those_of_few(count: int, table: pd.DataFrame) -> None:
    sft = select(unchanged(table), node="sft")
    many = pd.concat([sft.assign(node=f"sft+comply_constrained {i}") for i in range(count)])
    figure = figure_of(many, "behaviour")
    figure.draw_without_rendering()
    heights = [axis.get_window_extent().height / figure.dpi for axis in visible(figure)]
    assert len(heights) == select(sft, metric="complied")["family"].nunique()
    assert min(heights) > 0.35
    named = [axis for axis in visible(figure) if any(one.get_visible() for one in axis.get_xticklabels())]
    assert len(named) == (1 if count > 9 else len(heights))


def test_shifts_are_drawn_with_what_is_removed(table: pd.DataFrame) -> None:
    figure = figure_of(table, "shifts")
    own = select(unchanged(table), node="sft")
    _, y = line(figure, "sft", "shift")
    np.testing.assert_allclose(y, select(own, metric="shift_energy").groupby("layer")["value"].mean())
    overlaps = below(figure, "sft", 1)
    first = select(own, metric="change_overlap", module="W_out", index=1).groupby("layer")["value"].mean()
    assert drawn_line(overlaps, "dW of W_out, first")[1] == pytest.approx(list(first))
    removed = select(table, node="sft", intervention="ablate shift", metric="refused")
    points = [[*np.asarray(one.get_ydata(), float)] for one in below(figure, "sft", 2).get_lines()]
    for drawn, strength in zip(points, (0.0, 1.0), strict=False):
        assert drawn == pytest.approx(list(select(removed, strength=strength)["value"]))


def test_the_effect_on_one_prompt_has_its_sign_and_every_seed(table: pd.DataFrame) -> None:
    rows = select(unchanged(table), metric="neuron_sample", node="sft", layer=2, family="unsafe")
    axis = below(figure_of(table, "neurons_sample"), "sft", 1)
    marks = [np.asarray(one.get_ydata(), float) for one in axis.get_lines() if one.get_linestyle() == "None"]
    expected = [seed.sort_values("index")["value"].to_numpy() for _, seed in rows.groupby("seed")]
    assert len(marks) == len(expected) == 3
    for found, seed in zip(marks, expected, strict=True):
        np.testing.assert_array_equal(found, seed)
    assert min(map(np.min, marks)) < 0 < max(map(np.max, marks))


@pytest.mark.parametrize(
    ("world", "rate", "expected"),
    [("paper", 1e-4, 38.1), ("paper", 1e-5, 10.5), ("quick", 1e-4, None), ("paper", 3e-4, None)],
)
def test_published_values_are_marked_in_the_papers_world_alone(world: str, rate: float, expected: float | None) -> None:
    made = results(layers=6, world=world, rate=rate)
    figure = figure_of(made, "tau")
    marks = {}
    for axis in figure.axes:
        for one in axis.get_lines():
            if one.get_label() == "published":
                marks.setdefault(axis.get_title(loc="left"), []).append((list(one.get_xdata()), list(one.get_ydata())))
    assert "continued" not in marks
    if expected is None:
        assert set(marks) <= {"untouched"}
    else:
        assert marks["dpo"][0][0] == [4, 5, 6]
        assert marks["dpo"][0][1][2] == expected
    assert ("untouched" in marks) == (world == "paper")
    assert len(tau.PUBLISHED) == 6


def test_a_shallow_model_has_no_published_layers() -> None:
    figure = figure_of(results(layers=3, world="paper", rate=1e-4), "tau")
    assert not [one for axis in figure.axes for one in axis.get_lines() if one.get_label() == "published"]


def test_the_scorecard_rests_on_the_rows_it_keeps(table: pd.DataFrame) -> None:
    def numbers(rows: pd.DataFrame) -> list[Any]:
        """But for the notes, which name what is not there."""
        said = json.loads(to_json({"": scorecard(rows, PAPER)}))
        judged = [each for one in said for each in (one, *one["methods"], *one["placebos"])]
        return [{name: value for name, value in each.items() if not isinstance(value, list | str)} for each in judged]

    assert numbers(evidence(table, PAPER)) == numbers(table)


def test_the_tables_give_percent_with_spread(table: pd.DataFrame, drawn: Path) -> None:
    latex, markdown = ((drawn / f"table_a1.{kind}").read_text() for kind in ("tex", "md"))
    rows = select(unchanged(table), metric="refused", family="unsafe", node="dpo")
    mean, spread = 100 * rows["value"].mean(), 100 * rows["value"].std(ddof=1)
    assert rf"{mean:.1f} $\pm$ {spread:.1f}" in latex
    assert f"{mean:.1f} ± {spread:.1f}" in markdown
    for rule in ("toprule", "midrule", "bottomrule"):
        assert latex.count(rf"\{rule}") == 1
    body = [one for one in latex.splitlines() if one.endswith(r"\\")]
    assert len({one.count("&") for one in body}) == 1
    assert len(body) == 1 + 4
    assert "3 seeds, n = 64 prompts each" in latex
    assert "3 seeds, n = 64 prompts each" in markdown
    assert "JB-CO-Text" not in latex  # not in this table
    assert markdown.splitlines()[1].count("---") == markdown.splitlines()[0].count("|") - 1
    alone = next(exhibits(results(seeds=1), ["table_a2"])).texts
    assert "±" not in alone["md"].splitlines()[2]


def test_the_files_that_were_drawn_are_known(tmp_path: Path) -> None:
    assert figures.files(tmp_path) == [figures.INDEX]
    made = results()
    made = made[made["metric"].isin(["tau", "separation_permuted_high", "complied", "refused", "neither"])]
    assert draw_all(made, tmp_path, only=["tau", "sines", "table_a1"]) == ["tau", "table_a1"]
    assert sorted(figures.files(tmp_path)) == sorted(path.name for path in tmp_path.iterdir())


def shown(figure: Figure) -> list[Any]:
    """Where each title, label and tick's number of the panels is."""
    figure.draw_without_rendering()
    found = []
    for axis in (axis for axis in figure.axes if axis.get_visible()):
        found += [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label]  # type: ignore[attr-defined]
        for along in (axis.xaxis, axis.yaxis):
            low, high = sorted(along.get_view_interval())
            found += [tick.label1 for tick in along.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [text for text in found if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in texts]


@pytest.mark.parametrize("width", [3.25, 5.5, 6.75])
@pytest.mark.parametrize("name", ["neurons_sample", "separability"])
def test_no_text_of_a_panel_lies_on_another_where_there_are_many(table: pd.DataFrame, name: str, width: float) -> None:
    """Of as many methods as a study has by default."""
    methods = [*StudyConfig().methods[:7], "pretraining_more"]
    models = [table[table["node"].isin(["untouched"])]]
    models += [table[table["node"] == METHODS[i % 3]].assign(node=method) for i, method in enumerate(methods)]
    many = pd.concat(models, ignore_index=True)
    with plt.style.context([figures.STYLE, {"figure.figsize": (width, 3.0)}]):
        figure = FIGURES[name].draw(FIGURES[name].rows(many))
        for (one, here), (other, there) in itertools.combinations(shown(figure), 2):
            wide = min(here.x1, there.x1) - max(here.x0, there.x0)
            high = min(here.y1, there.y1) - max(here.y0, there.y0)
            assert wide <= 1 or high <= 1, (one, other)
        titles = {axis.get_title(loc="left").replace("\n", "") for axis in figure.axes if axis.get_visible()}
        assert {*methods} <= titles
        plt.close(figure)


def test_names_in_titles_are_parted_after_an_underscore() -> None:
    assert common._wrapped("pretraining_more", 12) == "pretraining_\nmore"
    assert common._wrapped("refuse_all", 12) == "refuse_all"
    assert common._wrapped("a cell of a sweep", 8) == "a cell\nof a\nsweep"
