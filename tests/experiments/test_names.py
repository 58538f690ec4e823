"""Names are printed and drawn as they are, whatever rich, matplotlib or a terminal's encoding would make of them."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from experiments import figures
from experiments.compare import _claims, _outcomes, _settings
from experiments.figures import exhibits
from experiments.findings import comparison, outcomes, scorecard, summary
from experiments.findings import printed as scorecard_printed
from experiments.findings.claims.jain2024 import PAPER
from experiments.findings.comparison import Changed
from experiments.progress import PlainConsole, Reporter
from tests.experiments.made_results import results, swept

ROOT = Path(__file__).parents[2]
NASTY = (
    "[/b] a/b",
    "[a] first",
    "$$",
    "a$b^$",
    "[bold]",
    ":smile:",
    "\\",
    "a\\[b]",
    "$\\frac{$",
    "<b>&amp;",
    "naïve, 数据",
)


def renamed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table, its cells or worlds, say, under names from NASTY."""
    known = list(dict.fromkeys(table[column]))
    return table.assign(**{column: table[column].map({name: NASTY[i % len(NASTY)] for i, name in enumerate(known)})})


def many() -> pd.DataFrame:
    """A sweep with a cell for each of NASTY."""
    one = swept()
    first = one[one["cell"] == one["cell"].iloc[0]]
    setting = outcomes.swept(one)[0]
    return pd.concat([first.assign(cell=name, **{setting: name}) for name in NASTY], ignore_index=True)


def printed(table: object) -> str:
    console = PlainConsole(file=io.StringIO(), width=400)
    Reporter(console).show(table)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_has_every_name_as_it_is() -> None:
    said = printed(summary.render(many()))
    assert [name for name in NASTY if f"  {name} " not in said] == []
    assert "[dim]" not in said


def test_the_scorecard_has_no_markup() -> None:
    said = printed(*scorecard_printed.render(scorecard.scorecard(results(seeds=5), PAPER)))
    assert "[/" not in said
    assert "undecided" in said


def test_a_comparison_has_every_name_as_it_is() -> None:
    finished = comparison.Finished(
        {},
        {},
        outcomes.values(many(), printed=True).rename(columns={"outcome": "statistic"}).assign(resolution=0.01),
        {},
        {},
    )
    shifted = finished._replace(outcomes=finished.outcomes.assign(value=finished.outcomes["value"] + 0.1))
    said = printed(_outcomes(comparison.outcomes(finished, shifted)))
    changed = [Changed(name, "setting", name, None, name) for name in NASTY]
    verdicts = [Changed(name, "claim", "supported", "undecided", name, name) for name in NASTY]
    for text in (said, printed(_settings(changed)), printed(_claims("Claims", verdicts, papers=True))):
        assert [name for name in NASTY if name not in text] == []
        assert "[dim]" not in text


def test_lines_titles_and_progress_are_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    assert isinstance(console.file, io.StringIO)
    reporter = Reporter(console)
    for name in NASTY:
        reporter.say(name)
        with reporter.stage(name, 2) as meter:
            meter.update(2, name)
        said = console.file.getvalue()
        assert said.count(name) >= 3, name
        console.file.seek(0)
        console.file.truncate()


def shown(figure: plt.Figure) -> set[str]:
    figure.canvas.draw()
    return {text.get_text() for text in figure.findobj(Text) if text.get_visible()}


@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
def test_figures_of_a_sweep_have_every_name_as_it_is() -> None:
    table = many()
    with plt.style.context([figures.STYLE, {"figure.figsize": (5.5, 3)}]):
        for exhibit in exhibits(table, ["behaviour", "claim_map"], NASTY):
            assert exhibit.draw
            texts = shown(exhibit.draw())
            assert [name for name in NASTY if not any(name in text for text in texts)] == [], exhibit.name
            plt.close("all")


@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
def test_no_figure_draws_a_formula_from_a_name_nor_a_formula_as_it_is_written() -> None:
    """Where text may be a formula it is one of ours; where it may not, it has none."""
    with plt.style.context([figures.STYLE, {"figure.figsize": (5.5, 3)}]):
        for exhibit in exhibits(results()):
            if exhibit.draw:
                figure = exhibit.draw()
                raw = {text.get_text() for text in figure.findobj(Text) if not text.get_parse_math()}
                assert [text for text in raw if "$" in text] == [], exhibit.name
                plt.close("all")


@pytest.mark.filterwarnings("error")
def test_letters_that_the_font_does_not_have_are_no_warning(tmp_path: Path) -> None:
    def draw() -> plt.Figure:
        figure, axes = figures.common.panels(["数据"], ["y"], "x")
        figures.common.note(figure, "a$b^$ 数据")
        axes[0, 0].plot([0, 1])
        return figure

    figures.save(draw, tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_every_text_file_is_said_to_be_utf8() -> None:
    """The lint rule knows those whose type it can tell; this one all that are written so."""
    found = []
    for package in ("synth", "models", "analysis", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                binary = any("b" in str(mode) for mode in modes)
                text = name in ("read_text", "write_text") or (name in ("open", "fdopen") and not binary)
                # Image.open and os.open are of no text.
                module = ast.unparse(node.func).split(".")[0]
                if text and module not in ("Image", "os") and "encoding" not in {one.arg for one in node.keywords}:
                    found.append(f"{path}:{node.lineno}")
    assert found == []


LATIN = """
import sys
from pathlib import Path
from experiments import figures
from experiments.store.files import read_file, write_whole
from experiments.progress import Reporter
from tests.experiments.made_results import results
folder = Path(sys.argv[1])
write_whole(folder / "text", "naïve, 数据")
assert read_file(folder / "text") == "naïve, 数据"
assert (folder / "text").read_bytes() == "naïve, 数据".encode()
figures.draw_all(results().assign(study="数据"), folder / "figures", only=["table_a1"])
assert "±".encode() in (folder / "figures" / "table_a1.md").read_bytes()
assert "数据".encode() in (folder / "figures" / "table_a1.csv").read_bytes()
Reporter().say("naïve, 数据")
"""


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_locale_that_is_not_utf8_changes_no_file_and_stops_no_print(encoding: str, tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": f"{encoding}:strict"}
    script = tmp_path / "script.py"
    script.write_text(LATIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, **plain, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    expected = "na\\xefve" if encoding == "ascii" else "naïve"
    assert done.stdout.decode(encoding) == f"{expected}, \\u6570\\u636e\n"
