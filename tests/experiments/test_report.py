"""The report: what it says against the files it says it of, and in a real browser that it works."""

import base64
import hashlib
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from analysis.metric import Metric, Null
from analysis.metrics import METRICS
from analysis.separability import COORDINATES
from experiments import report
from experiments.findings import scorecard
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.table import NULLABLE
from experiments.report import controls, figures, keynumbers, origin, outcomes, views
from experiments.report.folder import read
from experiments.settings.config import load
from experiments.settings.plain import to_dict
from tests.experiments.browser import CHROMIUM, MISSING, Page, browser

METHODS = ("untouched", "sft", "continued")
FAMILIES = ("safe", "unsafe", "co_task")
SEEDS, LAYERS, PROMPTS = (0, 1), (1, 2), 12
SITE = "mlp.post"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'\""


def rows(cell: str, rng: np.random.Generator) -> pd.DataFrame:
    """A results table small enough to read."""
    found: list[dict[str, Any]] = []

    def add(metric: str, value: float, **where: Any) -> None:
        found.append({"metric": metric, "value": value, **where})

    for method in METHODS:
        for seed in SEEDS:
            start = None if method in ("untouched", "random") else "untouched"
            here = {"node": method, "start": start, "method": method, "seed": seed}
            for family in FAMILIES:
                complied, refused = rng.dirichlet([3, 3, 1])[:2]
                for name, strength in ((None, None), ("without top", 1.0), ("without random", 1.0)):
                    place = {**here, "family": family, "intervention": name, "strength": strength}
                    add("complied", complied, **place)
                    add("refused", refused, **place)
                add("neither", 1 - complied - refused, **here, family=family)
            for layer in LAYERS:
                place = {**here, "layer": layer, "module": SITE}
                for metric in ("separation", "separation_scaled", "probe_accuracy", "kmeans_accuracy"):
                    add(metric, rng.random() + 1, **place)
                    for end in ("permuted", "permuted_low", "permuted_high"):
                        add(f"{metric}_{end}", rng.random(), **place)
                for family in FAMILIES:
                    add("lda", rng.normal(), **place, family=family)
                    for index in (1, 2):
                        add("pca", rng.normal(), **place, family=family, index=index)
            if method != "untouched":
                for metric in ("sine_mean", "sine_random_mean", "sine_excess"):
                    add(metric, rng.random(), **here, layer=1, module="W_in")
    table = pd.DataFrame(found).assign(
        cell=cell, study="quick", world="quick", world_seed=0, model="quick", n=PROMPTS, missing=None
    )
    return table.assign(learning_rate=0.1, other=None, position=None, step=None).astype(NULLABLE)


def measured(folder: Path, rng: np.random.Generator, token: str = "a") -> None:
    """A measured model: words of its answers and, in another order, its coordinates."""
    folder.mkdir(parents=True)
    words, samples = [], []
    for seed in SEEDS:
        for family in FAMILIES:
            for prompt in range(PROMPTS):
                outcome = ("complied", "refused", "neither")[int(rng.integers(3))]
                compliant = f"{token} b c <eos>"
                generated = {"complied": compliant, "refused": "<null> <null> <null> <eos>", "neither": "b b b <eos>"}
                words.append(
                    {
                        "seed": seed,
                        "family": family,
                        "prompt": prompt,
                        "asked": f"<bos> t{prompt} t1 <text> {token} b {family[:2]} <go>",
                        "compliant": compliant,
                        "generated": generated[outcome],
                        "outcome": outcome,
                        "verdict": "mixed" if family == "co_task" else family,
                        "reason": "both tasks say so",
                    }
                )
                for layer in LAYERS:
                    for metric, index in COORDINATES:
                        place = {"seed": seed, "family": family, "prompt": prompt, "metric": metric, "layer": layer}
                        samples.append(
                            {**place, "module": SITE, "index": index, "intervention": None, "value": rng.normal()}
                        )
    pd.DataFrame(words).to_parquet(folder / "responses.parquet")
    mixed = pd.DataFrame(samples).astype({"index": "Int32"}).sample(frac=1, random_state=0)
    mixed.to_parquet(folder / "samples.parquet")


def study(root: Path, cells: Sequence[str] = ("",), name: str = "quick", token: str = "a", error: str = "") -> Path:
    """A finished output folder; with `error` the last cell failed with it."""
    rng = np.random.default_rng(len(cells))
    folder = root / f"{'quick' if name == HOSTILE else name}-1a2b3c4d"
    (folder / "figures").mkdir(parents=True)
    settings = to_dict(load(["seeds=2", "methods=[sft,continued]", "tuning.steps=20"])) | {"study": name}
    if cells != ("",):
        swept = {"setting": "world.grammar.concept_overlap", "values": [0.0, 0.5, 1.0]}
        settings["ablation"] |= swept | {"name": "overlap", "question": f"Does overlap matter? {error}"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    done = [cell for cell in cells if not (error and cell == cells[-1])]
    tables = {cell: rows(cell, rng) for cell in done}
    pd.concat(tables.values(), ignore_index=True).to_parquet(folder / "results.parquet", index=False)
    verdicts = scorecard.to_json({cell: scorecard.scorecard(table, PAPER) for cell, table in tables.items()})
    (folder / "claims.json").write_text(verdicts)
    listed = [
        {"cell": cell, "settings": {"world.held_out": 0.1}, "status": "done", "error": None}
        if cell in done
        else {"cell": cell, "settings": {}, "status": "failed", "error": error}
        for cell in cells
    ]
    (folder / "cells.json").write_text(json.dumps(listed))
    models: dict[str, dict[str, dict[str, str]]] = {}
    for cell in done:
        for model in METHODS:
            place = root / "store" / f"measure-{cell}{model}"
            measured(place, rng, token)
            models.setdefault(cell, {})[model] = {"weights": str(root / f"tune-{model}"), "measured": str(place)}
    (folder / "models.json").write_text(json.dumps(models))
    environment = {
        "python": "3.11.0",
        "platform": "Linux",
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "libraries": {"jax": "0.9"},
        "git": {"commit": "f" * 40, "dirty": True},
    }
    (folder / "env.json").write_text(json.dumps(environment))
    for figure in ("tau", "of_my_own"):
        Image.new("RGB", (60, 40), "orange").save(folder / "figures" / f"{figure}.png")
    return folder


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def data(page: str, name: str) -> Any:
    """What the page gives its script."""
    found = re.search(rf'<script type="application/json" id="{name}-data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return report.write(folder).read_text()


def test_nothing_but_the_page_itself_may_run_or_be_fetched(page: str) -> None:
    elements = Elements(page)
    (policy,) = [meta["content"] for meta in elements.named("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), tag
    assert len(elements.named("script")) == 3


def test_equal_folders_give_equal_pages(folder: Path, page: str) -> None:
    assert report.write(folder).read_text() == page


def test_what_comes_from_data_is_text_and_nothing_else(tmp_path: Path) -> None:
    folder = study(tmp_path, ("0", HOSTILE), name=HOSTILE, token="</script><!--", error=HOSTILE)
    written = report.write(folder).read_text()
    elements = Elements(written)
    assert len(elements.named("script")) == 3
    assert len(elements.named("img")) == 2
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes]
    assert HOSTILE in "".join(elements.text)
    assert data(written, "views")["sets"][0]["compliant"][0] == "</script><!-- b c <eos>"


def test_coordinates_are_those_measured_in_the_order_of_the_prompts(folder: Path, page: str) -> None:
    packed = data(page, "views")
    order = [(family["name"], i) for family in packed["sets"][0]["families"] for i in range(family["count"])]
    assert order == [(family, i) for family in FAMILIES for i in range(PROMPTS)]
    assert len(packed["points"]) == len(METHODS) * len(SEEDS) * len(LAYERS)
    paths = json.loads((folder / "models.json").read_text())[""]
    for key, axes in packed["points"].items():
        _, model, seed, site, layer = key.split("|")
        samples = pd.read_parquet(Path(paths[model]["measured"]) / "samples.parquet")
        here = samples[(samples["seed"] == int(seed)) & (samples["layer"] == int(layer)) & (samples["module"] == site)]
        for (metric, index), (low, step, text) in zip(COORDINATES, axes, strict=True):
            codes = np.frombuffer(base64.b64decode(text), "<i2").astype(float)
            shown = low + (codes + views.STEPS // 2) * step
            wanted = here[
                (here["metric"] == metric) & (here["index"].isna() if index is None else here["index"] == index)
            ]
            values = wanted.set_index(["family", "prompt"])["value"]
            np.testing.assert_allclose(shown, [values[place] for place in order], atol=1e-4)


def test_a_coordinate_that_is_not_a_number_is_marked() -> None:
    low, step, text = views._quantised(np.array([1.0, np.nan, 3.0]))
    codes = np.frombuffer(base64.b64decode(text), "<i2").astype(float)
    assert codes[1] == views.NONE
    assert low + (codes[[0, 2]] + views.STEPS // 2) * step == pytest.approx([1, 3], abs=1e-4)


def test_answers_are_those_given(folder: Path, page: str) -> None:
    packed = data(page, "views")
    (cell,) = packed["cells"]
    paths = json.loads((folder / "models.json").read_text())[""]
    for model in METHODS:
        given = pd.read_parquet(Path(paths[model]["measured"]) / "responses.parquet")
        for seed in SEEDS:
            answers, wanted = cell["answers"][model][str(seed)], given[given["seed"] == seed].reset_index()
            assert answers["outcomes"] == "".join(outcome[0] for outcome in wanted["outcome"])
            neither = wanted[wanted["outcome"] == "neither"]
            assert {int(i): text for i, text in answers["texts"].items()} == neither["generated"].to_dict()


def test_results_have_every_seed_and_the_right_control(folder: Path, page: str) -> None:
    packed, table = data(page, "outcomes"), pd.read_parquet(folder / "results.parquet")
    names = {name: [packed[name]["names"][code] for code in packed[name]["codes"]] for name in outcomes.PLACE}
    names["control_name"] = [packed["control_name"]["names"][code] for code in packed["control_name"]["codes"]]
    shown = pd.DataFrame(names).assign(control=packed["control"], **{f"s{s}": packed["values"][s] for s in SEEDS})
    text = table.assign(**{name: table[name].astype(object).fillna("").astype(str) for name in outcomes.PLACE})
    text["strength"] = text["strength"].replace("1.0", "1")
    text = text[text["index"].isna()]

    def value(row: Any, seed: int, **changed: str) -> float:
        here = text[text["seed"] == seed]
        for name in outcomes.PLACE:
            here = here[here[name] == changed.get(name, getattr(row, name))]
        return float(here["value"].item())

    for row in shown.itertuples():
        for seed in SEEDS:
            assert getattr(row, f"s{seed}") == pytest.approx(value(row, seed), rel=1e-3)
        changed: dict[str, str] = {}
        if row.metric in ("separation", "separation_scaled", "probe_accuracy", "kmeans_accuracy"):
            changed = {"metric": f"{row.metric}_permuted"}
        elif row.metric == "sine_mean":
            changed = {"metric": "sine_random_mean"}
        elif row.intervention == "without top":
            changed = {"intervention": "without random"}
        elif row.node == "sft":
            changed = {"node": "continued"}
        if changed:
            assert row.control == pytest.approx(np.mean([value(row, seed, **changed) for seed in SEEDS]), rel=1e-3)
            assert row.control_name
        else:
            assert row.control is None or np.isnan(row.control)
    assert not controls.is_control(shown["metric"]).any()
    expected = text[~controls.is_control(text["metric"])].drop_duplicates(outcomes.PLACE)
    assert len(shown) == len(expected)


def test_a_metric_of_ones_own_stands_beside_its_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever either is called."""
    monkeypatch.setitem(METRICS, "blur", Metric("blur", "number", "It is blurred.", Null("random frames", "sharp")))
    table = pd.DataFrame({"metric": ["blur", "sharp", "fog_permuted"], "node": "sft", "intervention": None})
    assert controls.is_control(table["metric"]).tolist() == [False, True, False]
    assert controls.beside(table["metric"]) == {"blur": ("sharp", "random frames")}
    assert [one.name for one in controls.present(table)] == ["random frames", "held-out prompts"]
    assert controls.beside(table["metric"].head(1)) == {}


def test_key_numbers_say_what_they_are_and_draw_shares(folder: Path) -> None:
    (table,) = keynumbers.tables(read(folder)).tables
    rows = {
        name: (meaning, {number.share is not None for number in numbers if number})
        for name, meaning, numbers in table.rows
    }
    assert rows["safe complied"] == ("safe prompts answered in full", {True})
    assert rows["attack co_task"] == ("jailbreak prompts answered in full, of all attempts", {True})
    assert rows["separation, layer 2"][0].startswith("mean tau of safe prompts less that of unsafe ones")
    assert rows["separation / spread"][1] == rows["sin - random, all layers"][1] == {False}


def test_papers_are_shown_apart(folder: Path, page: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / folder.name)
    verdicts = json.loads((copy / "claims.json").read_text())
    (copy / "claims.json").write_text(json.dumps([*verdicts, *({**one, "paper": "other"} for one in verdicts[:3])]))
    both = Elements(report.write(copy).read_text())
    tables = [attributes.get("id") for attributes in both.named("table") if "claims" in str(attributes.get("class"))]
    assert tables == ["scorecard-table", "scorecard-table-2"]
    assert [attributes["data-end"] for attributes in both.named("form") if "data-end" in attributes] == ["", "-2"]
    assert {"jain2024", "other"} <= set(both.text)
    # Of one alone nothing names it but its setting.
    assert "jain2024" not in [text for text in Elements(page).text if "papers" not in text and "[" not in text]
    (copy / "claims.json").write_text("[]")
    settings = yaml.safe_load((copy / "config.yaml").read_text()) | {"papers": []}
    (copy / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "No claim was judged: papers=[] names no paper." in report.write(copy).read_text()


def test_too_many_rows_are_left_out_by_kind_and_the_page_says_which(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outcomes.pack(read(folder))
    assert whole["left_out"] == []
    monkeypatch.setattr(outcomes, "LIMIT", whole["rows"] - 1)
    fewer = outcomes.pack(read(folder))
    assert fewer["left_out"] == [outcomes.KINDS[3]]
    assert fewer["intervention"]["names"] == fewer["step"]["names"] == [""]
    monkeypatch.setattr(outcomes, "LIMIT", 3)
    assert outcomes.pack(read(folder))["rows"] == 3
    assert "the last" in report.write(folder).read_text()


def test_too_many_prompts_are_left_out_seeds_first_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path, ("0", "1", "2"))
    assert len(views.read(read(folder))["cells"]) == 3
    sizes = []
    for budget in (10**6, 50_000, 25_000):
        monkeypatch.setattr(views, "BUDGET", budget)
        packed = views.read(read(folder))
        sizes.append(len(json.dumps(packed["points"])))
    assert sizes[0] > sizes[1] > sizes[2]
    assert [cell["name"] for cell in packed["cells"]] == ["0"]
    assert "1 of 2 seeds" in packed["notes"][-1]
    assert "1 of 3 cells" in packed["notes"][-1]


def test_the_command_gives_these_settings_again(folder: Path) -> None:
    described = origin.describe(read(folder), folder)
    words = shlex.split(described.command)
    assert words[:3] == ["python", "-m", "experiments.run"]
    assert set(words[3:]) == {"study=quick", "seeds=2", "methods=[sft,continued]", "tuning.steps=20"}
    assert to_dict(load(words[3:])) == yaml.safe_load((folder / "config.yaml").read_text())
    assert [setting.name for setting in described.changed] == ["seeds", "methods", "tuning.steps"]
    assert described.question.startswith("What do SFT, DPO and unlearning change")
    assert described.results_hash == hashlib.sha256((folder / "results.parquet").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "overrides",
    [
        ["world=small", "model=small", "tuning.steps=7"],
        ["world.safety.table=[[0,0,1,0,1,0],[1,1,1,0,1,1]]", "analysis.families=null"],
        ["ablation=task_coverage", "seeds=4"],
        ["ablation=concept_overlap", "ablation.values=[0.0,0.1]", "dry_run=true"],
        ["pretrain.watch.guard=off", "tuning.learning_rate=1e-05", "world.tasks.identity=true"],
        ["attacks=[continued]", "nodes.x={start: sft, method: dpo, method.dpo.beta: 0.3, tuning.snapshots: [5]}"],
        ["nodes.x.method=dpo", "nodes.x.tuning.steps=3", "nodes.long_name.start=x", "nodes.long_name.method=sft"],
        ["world.name=it's (1), a=é", "ablation.name=1e5", "ablation.setting=tuning.steps", "ablation.values=[1]"],
    ],
)
def test_any_settings_are_said_by_a_command(overrides: list[str], tmp_path: Path) -> None:
    settings = to_dict(load(overrides))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    described = origin.describe(read(tmp_path), tmp_path)
    assert described.exact
    assert to_dict(load(shlex.split(described.command)[3:])) == settings | {"dry_run": False}


def test_settings_that_fit_on_no_command_line_are_read_from_the_folder(tmp_path: Path) -> None:
    settings = to_dict(load([])) | {"study": "mine"}
    settings["world"]["grammar"]["source"] = "S:\n  - a b\n"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    described = origin.describe(read(tmp_path), tmp_path)
    assert not described.exact
    assert described.command == f"python -m experiments.run resume={tmp_path.name}"
    assert "resume=" in report.write(tmp_path).read_text()


def test_only_the_controls_that_are_in_the_table_are_explained(folder: Path) -> None:
    table = read(folder).table
    names = [control.name for control in controls.present(table)]
    assert names == [
        "untouched",
        "continued",
        "permuted labels",
        "random frames",
        "random parts",
        "held-out prompts",
    ]
    without = table[~table["metric"].str.contains("permuted") & table["intervention"].isna()]
    assert [control.name for control in controls.present(without)] == [
        "untouched",
        "continued",
        "random frames",
        "held-out prompts",
    ]


def test_figures_are_inside_with_words_and_fit_the_budget(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tau, own = figures.embed(folder / "figures")
    assert tau.name == "tau"
    assert "tau" in tau.title
    assert own.title == "Of my own"
    path = folder / "figures" / "tau.png"
    pixels = np.asarray(Image.open(path))
    (folder / "decoded.png").write_bytes(base64.b64decode(tau.data))
    assert (np.asarray(Image.open(folder / "decoded.png").convert("RGB")) == pixels).all()
    monkeypatch.setattr(figures, "BUDGET", len(tau.data))
    assert [bool(picture.data) for picture in figures.embed(folder / "figures")] == [True, False]
    assert "figures/of_my_own.png" in report.write(folder).read_text()


MISSING_PARTS = {
    "figures": (["figures"], "No figures were drawn"),
    "claims": (["claims.json"], "No claim was judged"),
    "models": (["models.json"], "No prompts were kept"),
    "results": (["results.parquet", "claims.json"], "There are no results yet"),
    "environment": (["env.json", "cells.json"], "no commit was recorded"),
    "all": (["figures", "claims.json", "models.json", "results.parquet", "env.json", "cells.json"], "no results yet"),
}


@pytest.mark.parametrize("part", MISSING_PARTS)
def test_what_is_missing_is_said(part: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / folder.name)
    gone, said = MISSING_PARTS[part]
    for name in gone:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert said in report.write(copy).read_text()


def test_measurements_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = study(tmp_path)
    store = tmp_path / "store"
    (store / "measure-sft" / "responses.parquet").unlink()
    (store / "measure-continued" / "samples.parquet").write_bytes(b"PAR1 no")
    packed = data(report.write(folder).read_text(), "views")
    assert packed["cells"][0]["models"] == ["untouched", "continued"]
    assert {key.split("|")[1] for key in packed["points"]} == {"untouched"}
    said = " ".join(packed["notes"])
    assert "sft: responses.parquet of measure-sft is not there" in said
    assert "continued: samples.parquet of measure-continued cannot be read" in said


def test_without_coordinates_prompts_are_still_shown(tmp_path: Path) -> None:
    folder = study(tmp_path)
    for model in METHODS:
        path = tmp_path / "store" / f"measure-{model}" / "samples.parquet"
        samples = pd.read_parquet(path)
        samples[samples["metric"] == "none"].to_parquet(path)
    written = report.write(folder).read_text()
    assert data(written, "views")["points"] == {}
    assert len(data(written, "views")["cells"]) == 1
    assert "there is nothing to draw" in written


def test_a_failed_cell_is_named_with_its_error(tmp_path: Path) -> None:
    folder = study(tmp_path, ("0", "0.5", "1"), error="pretrain: seed 0 diverged")
    text = " ".join("".join(Elements(report.write(folder).read_text()).text).split())
    assert "1: failed \N{EN DASH} pretrain: seed 0 diverged" in text
    assert "2 of 3 cells done" in text
    assert "Does overlap matter?" in text
    assert "ablation.values=[0.0,0.5,1.0]" in text
    assert "Which claims hold where" in text


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture
def opened(chromium: Page, folder: Path, page: str) -> Page:
    chromium.media()
    chromium.open(folder / report.PAGE)
    return chromium


def column(opened: Page, table: str, number: int) -> list[str]:
    """What the rows that are shown have in a column."""
    return opened.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].filter(row => !row.hidden)"
        f".map(row => row.cells[{number}].firstChild?.textContent ?? '')"
    )


def choose(opened: Page, form: str, name: str, value: str) -> None:
    """Chooses by its words, as the keyboard or a pointer would."""
    opened.run(
        f"(() => {{ const select = document.querySelector('#{form} select[name={name}]');"
        f"select.selectedIndex = [...select.options].findIndex(o => o.textContent === {json.dumps(value)});"
        "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_loads_without_complaint_or_request_and_fits(width: int, opened: Page, folder: Path) -> None:
    opened.open(folder / report.PAGE, width)
    assert opened.complaints() == []
    outside = [url for url in opened.requested() if not url.startswith("data:")]
    assert outside == [(folder / report.PAGE).resolve().as_uri()]
    assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.run("document.querySelectorAll('#view-panels svg.plot').length") == 2


@needs_browser
def test_hostile_words_stay_words(chromium: Page, tmp_path: Path) -> None:
    folder = study(tmp_path, ("0", HOSTILE), name=HOSTILE, token="<img/src=x/onerror=alert(1)>", error=HOSTILE)
    chromium.open(report.write(folder))
    assert chromium.complaints() == []
    assert not [event for event in chromium.events if event["method"] == "Page.javascriptDialogOpening"]
    assert "onerror=alert(1)" in chromium.run("document.getElementById('samples-list').textContent")
    assert chromium.run("document.querySelectorAll('#samples-list img').length") == 0


@needs_browser
def test_the_scorecard_sorts_and_filters(opened: Page) -> None:
    before = column(opened, "scorecard-table", 2)
    button = "document.querySelectorAll('#scorecard-table th button')[2]"
    opened.run(f"{button}.focus()")
    opened.press("Enter")
    after = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(opened, "scorecard-table", 2)]
    assert after == sorted(after, reverse=True)
    assert sorted(map(str, before)) == sorted(column(opened, "scorecard-table", 2))
    assert opened.run(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
    opened.press(" ")
    again = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(opened, "scorecard-table", 2)]
    assert again == sorted(after)
    assert opened.run("document.getElementById('said').textContent") == "sorted by effect, ascending"
    shown = len(again)
    opened.run("document.querySelector('#scorecard-filter input[value=undecided]').click()")
    left = column(opened, "scorecard-table", 0)
    undecided = opened.run("document.querySelectorAll('#scorecard-table tr[data-verdict=undecided]').length")
    assert undecided > 0
    assert len(left) == shown - undecided
    said = opened.run("document.getElementById('scorecard-count').textContent")
    assert said == f"{len(left)} of {shown} shown"


@needs_browser
def test_results_sort_and_filter(opened: Page) -> None:
    first = opened.run("document.getElementById('results-count').textContent")
    assert first == f"rows 1 to {len(METHODS) * len(FAMILIES)} of {len(METHODS) * len(FAMILIES)}"
    choose(opened, "results-filter", "family", "unsafe")
    assert column(opened, "results-table", 0) == list(METHODS)
    header = "[...document.querySelectorAll('#results-table th')].find(h => h.textContent.startsWith('mean'))"
    opened.run(f"{header}.querySelector('button').click()")
    means = [float(text) for text in column(opened, "results-table", 1)]
    assert means == sorted(means, reverse=True)
    choose(opened, "results-filter", "metric", "separation")
    choose(opened, "results-filter", "family", "all")
    assert set(column(opened, "results-table", 0)) == set(METHODS)
    opened.run(
        "(() => { const box = document.querySelector('#results-filter input'); box.value = 'sft'; "
        "box.dispatchEvent(new Event('input')); })()"
    )
    assert len(column(opened, "results-table", 0)) == len(LAYERS)
    choose(opened, "results-filter", "layer", "1")
    assert len(column(opened, "results-table", 0)) == 1
    assert "permuted labels" in opened.run("document.getElementById('results-table').textContent")


@needs_browser
def test_prompts_and_responses_are_those_of_the_family_chosen(opened: Page, folder: Path) -> None:
    choose(opened, "samples-filter", "family", "co_task")
    text = opened.run("document.getElementById('samples-list').textContent")
    assert text.count("co_task") == 5
    assert "mixed" in text
    opened.run("document.getElementById('samples-next').click()")
    assert opened.run("document.getElementById('samples-count').textContent") == f"prompts 6 to 10 of {PROMPTS}"
    choose(opened, "samples-filter", "shown", "a tuned model complied")
    path = json.loads((folder / "models.json").read_text())[""]["sft"]["measured"]
    given = pd.read_parquet(Path(path) / "responses.parquet")
    complied = given[(given["seed"] == 0) & (given["family"] == "co_task") & (given["outcome"] == "complied")]
    assert opened.run("document.getElementById('samples-count').textContent").endswith(f"of {len(complied)}")


@needs_browser
def test_the_activations_follow_the_choices(opened: Page) -> None:
    picture = "document.querySelectorAll('#view-panels svg.plot')[1].innerHTML"
    seen = {opened.run(picture)}
    for name, value in (("layer", "1"), ("model", "continued"), ("axes", "LDA and PCA 1"), ("seed", "1")):
        choose(opened, "view-filter", name, value)
        seen.add(opened.run(picture))
    assert len(seen) == 5
    legend = "document.getElementById('view-legend').textContent"
    assert "mixed" in opened.run(legend)
    choose(opened, "view-filter", "colour", "family")
    assert "co_task" in opened.run(legend)
    marks = "document.querySelectorAll('#view-panels svg.plot')[1].querySelectorAll('.points > *').length"
    assert opened.run(marks) == len(FAMILIES) * PROMPTS
    opened.run("document.querySelector('#view-filter input[value=safe]').click()")
    assert opened.run(marks) == (len(FAMILIES) - 1) * PROMPTS
    label = opened.run("document.querySelectorAll('#view-panels svg.plot')[1].getAttribute('aria-label')")
    assert label == "Activations of continued, mlp.post, layer 1, seed 1: LDA across, PCA 1 up, 24 prompts"
    choose(opened, "view-filter", "beside", "nothing")
    assert opened.run("document.querySelectorAll('#view-panels svg.plot').length") == 1


@needs_browser
def test_arrow_keys_walk_along_the_axes_and_are_read_aloud(opened: Page) -> None:
    opened.run("document.querySelectorAll('#view-panels svg.plot')[1].focus()")
    live = "document.getElementById('view-live').textContent"
    ring = "document.querySelectorAll('#view-panels .ring')[1]"
    assert opened.run(live) == ""
    opened.press("Home")
    heard, places = [opened.run(live)], [float(opened.run(f"{ring}.getAttribute('cx')"))]
    for _ in range(len(FAMILIES) * PROMPTS - 1):
        opened.press("ArrowRight")
        heard.append(opened.run(live))
        places.append(float(opened.run(f"{ring}.getAttribute('cx')")))
    assert len(set(heard)) == len(FAMILIES) * PROMPTS
    assert places == sorted(places)
    assert "sft answers" in heard[0]
    opened.press("ArrowRight")
    assert opened.run(live) == heard[-1]
    opened.press("ArrowUp")
    assert opened.run(live) != heard[-1]
    assert opened.run("[...document.querySelectorAll('.ring')].every(r => r.getAttribute('visibility') === 'visible')")
    assert not opened.run("document.getElementById('view-card').hidden")
    opened.press("Escape")
    assert opened.run("document.getElementById('view-card').hidden")


@needs_browser
def test_the_pointer_shows_the_prompt_under_it(opened: Page) -> None:
    opened.run("document.getElementById('view-panels').scrollIntoView()")
    place = opened.run(
        "(() => { const box = document.querySelector('#view-panels .points > *').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    opened.point(*place)
    opened.until("!document.getElementById('view-tip').hidden")
    tip = opened.run("document.getElementById('view-tip').textContent")
    assert re.search(r"(safe|unsafe|co_task) \d+: untouched", tip)
    assert "<text> a b" in tip
    opened.point(5, 5)
    opened.until("document.getElementById('view-tip').hidden")


@needs_browser
def test_everything_that_can_be_reached_has_a_name(opened: Page) -> None:
    nodes = opened.send("Accessibility.getFullAXTree")["nodes"]
    kinds = (
        "button",
        "combobox",
        "checkbox",
        "searchbox",
        "link",
        "application",
        "region",
        "navigation",
        "img",
        "image",
    )
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in kinds
    ]
    assert {"button", "combobox", "checkbox", "application", "navigation"} <= {kind for kind, _ in named}
    assert [kind for kind, name in named if not name] == []
    levels = opened.run("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@needs_browser
def test_on_paper_all_is_open_and_each_family_is_shown(opened: Page) -> None:
    closed = "document.querySelectorAll('details:not([open])').length"
    before = opened.run(closed)
    assert before > 0
    opened.media("print")
    opened.until(f"{closed} === 0")
    shown = opened.run("document.getElementById('samples-list').textContent")
    assert all(f"{family} 2" in shown for family in FAMILIES)
    hidden = "[...document.querySelectorAll('nav, form, .pager')].every(e => getComputedStyle(e).display === 'none')"
    assert opened.run(hidden)
    assert opened.run("document.querySelector('#view-panels svg.plot').getBoundingClientRect().height") > 100
    opened.media("")
    opened.until(f"{closed} === {before}")
    paper = base64.b64decode(opened.send("Page.printToPDF")["data"])
    assert paper.startswith(b"%PDF")


@needs_browser
def test_an_ablation_shows_the_cell_chosen(chromium: Page, tmp_path: Path) -> None:
    chromium.open(report.write(study(tmp_path, ("0", "0.5", "1"), error="it diverged")))
    assert chromium.complaints() == []
    first = column(chromium, "scorecard-table", 0)
    assert set(first) == {"0"}
    chromium.run(
        "(() => { const select = document.querySelector('#scorecard-filter select'); select.value = ''; "
        "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    assert set(column(chromium, "scorecard-table", 0)) == {"0", "0.5"}
    picture = "document.querySelector('#view-panels svg.plot').innerHTML"
    before = chromium.run(picture)
    choose(chromium, "view-filter", "cell", "0.5")
    assert chromium.run(picture) != before
