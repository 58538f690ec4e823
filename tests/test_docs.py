"""What the documentation shows works as written."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.command import command, named
from experiments.settings.commands import CompareConfig, DataConfig, ExportConfig, FiguresConfig, StoreConfig
from experiments.settings.config import load
from experiments.settings.schema import StudyConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "experiments.run": (StudyConfig, ()),
    "experiments.data": (DataConfig, ()),
    "experiments.export": (ExportConfig, ()),
    "experiments.store": (StoreConfig, ("do", "key")),
    "experiments.compare": (CompareConfig, ("a", "b")),
    "experiments.figures": (FiguresConfig, ()),
}
"""Of each command the settings, and those of them that may stand without their names."""


def commands() -> list[tuple[str, list[str]]]:
    """Each `python -m MODULE arguments` of a code block, by module and arguments."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        found += [shlex.split(line)[2:] for line in lines if line.startswith(".venv/bin/python -m ")]
    return [(words[0], words[1:]) for words in found]


@pytest.mark.parametrize(("module", "arguments"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_has_settings_that_can_be_used(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    given = [argument for argument in arguments if not argument.startswith("--")]
    if any(argument.startswith("resume=") for argument in given):
        pytest.skip("needs a study's folder")
    kind, words = KINDS[module]
    load(named(given, words), kind)


@pytest.mark.usefixtures("with_optax")
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            exec(compile(block, page.name, "exec"), {})


def test_examples_are_what_the_page_shows() -> None:
    page = (ROOT / "docs" / "worlds.md").read_text()
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for block, name in zip(shown, ("workshop.grammar.yaml", "workshop.yaml"), strict=True):
        text = (ROOT / "docs" / "examples" / name).read_text()
        assert block == text.partition("\n")[2]


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).is_file(), f"{page.name}: {link}"


def test_help_says_what_a_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("experiments.data", "Prompts of a world.", DataConfig, lambda config, reporter: None, ["--help"])
    assert "Prompts of a world." in capsys.readouterr().out
