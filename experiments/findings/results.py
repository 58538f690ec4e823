"""The results table: picking rows and cells of it, and saying what they are a mean over."""

from collections.abc import Collection

import pandas as pd

from experiments.settings.names import RANDOM, UNTOUCHED
from models.training.methods import CONTROLS, SAFETY
from synth.settings import UserError


def select(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows where each named column equals the value, or one of a list of values."""
    for column, value in where.items():
        values = value if isinstance(value, list | tuple) else [value]
        table = table[table[column].isin(values)]
    return table


def unchanged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of finished models as they are: none of models changed before measuring, none of snapshots."""
    return table[table["intervention"].isna() & table["step"].isna()]


def changed(table: pd.DataFrame, intervention: str | list[str], **where: object) -> pd.DataFrame:
    """The rows of finished models changed in one of these ways before measuring; `where` is as in `select`."""
    return select(table[table["step"].isna()], intervention=intervention, **where)


def models(table: pd.DataFrame) -> list[str]:
    """The models in the order of the table, the untouched one first."""
    return list(dict.fromkeys(table["node"]))


def tuned(table: pd.DataFrame) -> list[str]:
    """The models that have a change of weights."""
    return [model for model in models(table) if model not in (UNTOUCHED, RANDOM)]


def untaught(table: pd.DataFrame) -> list[str]:
    """The controls among tuned models: those that a control's method made of the pretrained model."""
    return models(select(table, start=UNTOUCHED, method=CONTROLS))


def by_part(table: pd.DataFrame) -> dict[str, list[str]]:
    """The models that methods of safety make of the pretrained one, the placebos, and all others; of each the ones that
    there are, in the order of the table."""
    parts: dict[str, list[str]] = {"safety": [], "placebos": [], "others": []}
    for name in models(table):
        parts["safety" if name in SAFETY else "placebos" if name in CONTROLS else "others"].append(name)
    return {part: names for part, names in parts.items() if names}


def named_cell(cells: Collection[str], wanted: str) -> str:
    """The cell of that name or, where none has it, of that number in another notation. Raises UserError if none is."""
    number = _number(wanted)
    named = [cell for cell in cells if cell == wanted]
    named += [cell for cell in cells if number is not None and _number(cell) == number]
    if not named:
        known = ", ".join(filter(None, cells))
        fix = f"choose from {known}" if known else "this study is not swept, so leave it out"
        raise UserError(f"cell={wanted}: there is no such cell; {fix}")
    return named[0]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def sample_note(rows: pd.DataFrame, of: str) -> str:
    """How many seeds or worlds, and how many of what each value is a mean over."""
    counts = sorted(set(rows["n"].astype(int)))
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return f"{seed_note(rows)}, n = {number} {of} each"


def prompt_note(table: pd.DataFrame) -> str:
    """`sample_note` of the prompts that models as they are were asked, and how many of them are different ones."""
    rows = unchanged(table)
    counts = select(rows, metric="distinct")["value"].astype(int)
    few, many = (counts.min(), counts.max()) if len(counts) else (0, 0)
    different = f" ({few}-{many} different)" if few < many else f" ({few} different)" if few else ""
    return sample_note(select(rows, metric="complied"), "prompts") + different


def seed_note(rows: pd.DataFrame) -> str:
    """How many seeds, or worlds; of several seeds of several worlds both."""
    seeds, worlds = rows["seed"].nunique(), rows["world_seed"].nunique()
    said = f"{seeds} seed{'s' * (seeds != 1)}"
    if worlds < 2:
        return said
    return f"{worlds} worlds" if worlds == seeds else f"{said} of {worlds} worlds"
