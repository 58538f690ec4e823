"""`report.html`: a finished study on one page that needs no network, and how to make it again."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.report import controls, figures, keynumbers, origin, outcomes, scorecard, views
from experiments.report.folder import read
from experiments.store.files import write_whole

PAGE = "report.html"

_HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.jinja", "page.css", "page.js"


def write(folder: Path) -> Path:
    """PAGE of an output folder, from the files of that folder and of the artifacts it names.

    What is not there is said on the page; equal folders give equal pages.
    """
    study = read(folder)
    measured = views.read(study)
    content: dict[str, Any] = {
        "study": study,
        "origin": origin.describe(study, folder),
        "key_numbers": keynumbers.tables(study),
        "scorecards": scorecard.describe(study),
        "figures": figures.embed(folder / "figures"),
        "controls": controls.present(study.table),
        "outcomes": outcomes.pack(study),
        "views": measured,
    }
    write_whole(folder / PAGE, _render(content))
    return folder / PAGE


def assets_version() -> str:
    """What the page looks like beside its code."""
    digest = hashlib.sha256()
    for name in (TEMPLATE, STYLE, SCRIPT):
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:8]


def _render(content: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    style, script = (Markup((_HERE / name).read_text(encoding="utf-8")) for name in (STYLE, SCRIPT))
    # Nothing but this very style and script is applied, and nothing is fetched.
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(TEMPLATE).render(content, style=style, script=script, policy=policy)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
