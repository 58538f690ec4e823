"""The scorecard: what a study says of each of a paper's claims, and what it says of placebos.

Effect is compared with control within each seed, for each method that the claim is about on its own. The unit of
replication is the world: of several seeds of a world the mean counts once, and where there is one world the seeds do,
and the verdict is about that world. Tests are Student's t over replicates. A method's verdict is

- "supported": the contrast has the claimed sign (one-sided test);
- "opposite": it has the other sign (one-sided test);
- "no effect": it lies within the margin of none (two one-sided tests), whatever its sign;
- "undecided": none of these can be told;
- "untestable": there is nothing to compare: no rows, or both numbers at the floor or ceiling of
  what can be measured.

A claim that two things are the same is supported if the contrast lies within the margin, and
opposite if it lies beyond it. Errors are controlled on both sides: over the claims of a family (those of an observation
of a paper; those derived from it) and their methods, the chance of any false "supported" is at most 5 %, and so is that
of any false "opposite" or "no effect" (Holm's correction each). A claim's verdict is the one on which all its methods
agree: being an intersection of tests it needs no further correction. Where a method is decided in another way than the
next it "differs", and is read by method.

Every claim is also judged of every placebo, by the same rule. A claim that a placebo supports as
well is "unspecific": as claimed, but not by safety.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.stats import paired_test, seeds_needed, variance_shares
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import MissingError, Reading
from experiments.findings.claims.units import UNITS
from experiments.findings.judging import LEVEL, Compared, Evidence, judge, weigh
from experiments.findings.results import select, unchanged
from experiments.findings.table import swept
from experiments.findings.verdicts import (
    DIFFERS,
    NONE,
    SUPPORTED,
    UNDECIDED,
    UNSPECIFIC,
    UNTESTABLE,
    Judged,
    Pairs,
    Verdict,
)
from experiments.settings.names import UNTOUCHED

RATE = "tuning.learning_rate"
"""The setting by which claims on learning rates compare cells."""

Of = Mapping[tuple[str, str], Compared]
"""By claim and model."""


def scorecard(table: pd.DataFrame, paper: Paper) -> list[Verdict]:
    """A verdict on each of the paper's claims, in their order, from the results of one cell."""
    paper = paper.among(table["node"])
    return _verdicts(paper, _compare_all(paper, _read(table, paper)))


def of_cells(table: pd.DataFrame, papers: Iterable[Paper]) -> dict[str, list[Verdict]]:
    """The scorecards of every cell of a study, in the order of the table, one after the other for each paper.

    Claims on learning rates are judged for a cell beside those that differ from it in nothing but a lower one;
    every other claim as if the cell were alone.
    """
    found: dict[str, list[Verdict]] = {str(name): [] for name in table["cell"].unique()}
    for paper in (one.among(table["node"]) for one in papers):
        across = _across(table, paper)
        for name, rows in table.groupby("cell", sort=False, observed=True):
            compared = _compare_all(paper, _read(rows, paper))
            verdicts = _verdicts(paper, compared)
            if name in across:
                beside = _verdicts(paper, {**compared, **across[name]})
                changed = {claim for claim, _ in across[name]}
                verdicts = [two if one.claim in changed else one for one, two in zip(verdicts, beside, strict=True)]
            found[str(name)] += verdicts
    return found


def _across(table: pd.DataFrame, paper: Paper) -> dict[object, dict[tuple[str, str], Compared]]:
    """Claims on learning rates in every cell that has others like it at a lower one, of the models that are in both."""
    found: dict[object, dict[tuple[str, str], Compared]] = {}
    if RATE not in table:
        return found
    for claim, one in paper.claims.items():
        if not one.across:
            continue
        rows = unchanged(select(table[table["node"] != UNTOUCHED], metric=one.across))
        settings = [rows[name].astype(object).fillna("") for name in swept(table) if name != RATE]
        for _, alike in rows.groupby(settings or np.zeros(len(rows)), sort=False):
            for name, own in alike.groupby("cell", sort=False, observed=True):
                # Not by learning_rate: a model may have one of its own, the same in all cells.
                slower = alike[(alike[RATE] < own[RATE].max()) & alike["node"].isin(own["node"])]
                # Of cells that are the same but for their name, one.
                slower = slower[slower["cell"].isin(slower.drop_duplicates(RATE)["cell"])]
                if len(slower):
                    results = Reading(pd.concat([own, slower]), paper.conventions)
                    compared = {(claim, model): _compare(results, one, model) for model in paper.models(claim)}
                    found.setdefault(name, {}).update(compared)
    return found


def evidence(table: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """The rows of the table that the verdicts on a paper rest on; none where nothing can be tested."""
    paper = paper.among(table["node"])
    results = _read(table, paper)
    verdicts = _verdicts(paper, _compare_all(paper, results))
    return table[results.read & any(one.verdict != UNTESTABLE for one in verdicts)]


def _read(table: pd.DataFrame, paper: Paper) -> Reading:
    """Raises ValueError where a model was tuned twice in a world at one learning rate: no seeds of one."""
    runs = table[["study", "cell", "world", "world_seed", "model", "node", "learning_rate"]].drop_duplicates()
    again = runs[runs.duplicated(["world_seed", "node", "learning_rate"]) & (runs["node"] != UNTOUCHED)]
    if len(again):
        several = "is in the table from several cells, worlds or architectures: pass the rows of one at a time"
        raise ValueError(f"{again.iloc[0]['node']} {several}")
    return Reading(table, paper.conventions)


def _compare_all(paper: Paper, results: Reading) -> Of:
    return {
        (name, model): _compare(results, claim, model)
        for name, claim in paper.claims.items()
        for model in paper.models(name)
    }


def _compare(results: Reading, claim: Claim, model: str) -> Compared:
    before, results.read = results.read, np.zeros_like(results.read)
    try:
        effect, control = claim.measure(results, model)
        if isinstance(control, pd.Series):
            effect, control = effect.align(control, join="inner")
        seed = effect.index.to_numpy()
        both = [UNITS[claim.unit].scale(np.broadcast_to(x, seed.shape).astype(float)) for x in (effect, control)]
        there = np.isfinite(both).all(axis=0)  # Infinite is what was divided by nothing.
        pairs = Pairs(seed[there], results.world_of(seed[there]), *(x[there] for x in both))
        resolution = 1 / results.fewest() if claim.unit == "share" else UNITS[claim.unit].resolution
        found = Compared(pairs, "" if there.any() else "no seed has both effect and control", resolution)
    except MissingError as error:
        found = Compared(NONE, str(error))
    results.read |= before
    return found


def _verdicts(paper: Paper, compared: Of) -> list[Verdict]:
    claims, placebos = paper.claims, paper.conventions.placebos
    weighed = {key: weigh(claims[key[0]], one) for key, one in compared.items()}
    judged = _judge_families(claims, {key: one for key, one in weighed.items() if key[1] in paper.methods(key[0])})
    for placebo in placebos:
        # As if it were the method: its claims are corrected among themselves.
        judged |= _judge_families(claims, {key: one for key, one in weighed.items() if key[1] == placebo})
    return [
        _verdict(
            paper,
            name,
            [judged[name, model] for model in paper.methods(name)],
            [judged[name, model] for model in placebos],
            [compared[name, model].pairs for model in paper.methods(name)],
        )
        for name in claims
    ]


def _judge_families(
    claims: Mapping[str, Claim], weighed: Mapping[tuple[str, str], Evidence]
) -> dict[tuple[str, str], Judged]:
    found: dict[tuple[str, str], Judged] = {}
    for family in dict.fromkeys(claim.family for claim in claims.values()):
        keys = [key for key in weighed if claims[key[0]].family == family]
        verdicts = judge([(claims[name].expects, weighed[name, model]) for name, model in keys])
        tests = int(sum(not np.isnan(weighed[key].claimed) for key in keys))
        for key, (verdict, claimed, against) in zip(keys, verdicts, strict=True):
            found[key] = _judged(claims[key[0]], key[1], weighed[key], verdict, claimed, against, LEVEL / max(1, tests))
    return found


def _judged(
    claim: Claim, method: str, one: Evidence, verdict: str, claimed: float, against: float, level: float
) -> Judged:
    unit, test = UNITS[claim.unit], one.test
    numbers = [unit.back(value) for value in (*one.means, test.mean, test.low, test.high, one.margin)]
    effect, control, contrast, low, high, margin = numbers
    return Judged(
        method=method,
        verdict=verdict,
        effect=effect,
        control=control,
        contrast=contrast,
        low=low,
        high=high,
        margin=margin,
        n=test.n,
        p=one.claimed,
        p_holm=claimed,
        p_against=one.against,
        p_against_holm=against,
        note=one.untestable or (_why(one, level) if verdict == UNDECIDED else ""),
    )


def _why(one: Evidence, level: float) -> str:
    """Why replicates that have effect and control do not decide. `level` is for p if no other claim's is smaller."""
    if one.test.n == 1:
        return "one replicate has no spread"
    if np.isnan(one.claimed):
        return "equal in every replicate, so that their spread is not known"
    needed = seeds_needed(one.test, level) if one.claimed < LEVEL < one.against else None
    said = f"p = {one.claimed:.2g}"
    return f"{said}; {needed} replicates of this spread would tell" if needed else said


def agreed(judged: Sequence[Judged]) -> str:
    """The verdict that all models share; UNDECIDED where some are, DIFFERS where they are decided in different ways.

    Models of which nothing can be tested are left out where there are others.
    """
    found = list(dict.fromkeys(one.verdict for one in judged if one.verdict != UNTESTABLE)) or [UNTESTABLE]
    if len(found) == 1:
        return found[0]
    return UNDECIDED if len(set(found) - {UNDECIDED}) == 1 else DIFFERS


def _verdict(paper: Paper, name: str, judged: list[Judged], placebos: list[Judged], pairs: list[Pairs]) -> Verdict:
    claim = paper.claims[name]
    unit, verdict = UNITS[claim.unit], agreed(judged)
    if verdict == SUPPORTED and any(one.verdict == SUPPORTED for one in placebos):
        verdict = UNSPECIFIC
    pooled = _pooled([of_method for of_method in pairs if len(of_method.seed)])
    over = pooled.by_world()
    test = paired_test(over.contrast)
    numbers = (*over.means, test.mean, test.low, test.high)
    return Verdict(
        paper=paper.name,
        claim=name,
        source=claim.source,
        sentence=claim.sentence,
        family=claim.family,
        verdict=verdict,
        unit=claim.unit,
        expects=claim.expects,
        **dict(zip(("effect", "control", "contrast", "low", "high"), map(unit.back, numbers), strict=True)),
        margin=max(one.margin for one in judged),
        n=test.n,
        worlds=len(np.unique(pooled.world)),
        world_share=variance_shares(pooled.contrast, pooled.world)[0],
        methods=tuple(judged),
        placebos=tuple(placebos),
        note=_note(verdict, judged),
    )


def _pooled(pairs: list[Pairs]) -> Pairs:
    """The mean over models, of the seeds that all of them have."""
    if not pairs:
        return NONE
    seeds = functools.reduce(np.intersect1d, [one.seed for one in pairs])
    chosen = [Pairs(*(values[np.isin(one.seed, seeds)] for values in one)) for one in pairs]
    effect, control = (np.mean([getattr(one, name) for one in chosen], axis=0) for name in ("effect", "control"))
    return Pairs(seeds, chosen[0].world, effect, control)


def _note(verdict: str, judged: Sequence[Judged]) -> str:
    """What is to be said beside the verdict: of which models it is, or why there is none."""
    if verdict == UNTESTABLE:
        return judged[0].note
    absent = [one for one in judged if one.verdict == UNTESTABLE]
    if verdict in (UNDECIDED, DIFFERS):
        said = [f"{one.method} {one.verdict}" for one in judged]
        alone = len(judged) == 1 or all(one.verdict == UNDECIDED for one in judged)
        return judged[0].note if alone else ", ".join(said)
    if absent:
        there = ", ".join(one.method for one in judged if one not in absent)
        return f"of {there}; {absent[0].method} untestable: {absent[0].note}"
    return ""


def to_json(scorecards: Mapping[str, Iterable[Verdict]]) -> str:
    """A list of objects, one per verdict of a cell; null where there is no number. `scorecards` are by cell."""

    def plain(item: object) -> object:
        if isinstance(item, dict):
            return {key: plain(value) for key, value in item.items()}
        if isinstance(item, list | tuple):
            return [plain(value) for value in item]
        return None if isinstance(item, float) and not np.isfinite(item) else item

    said = [
        {"cell": cell, **asdict(one), "also": list(one.also)}
        for cell, verdicts in scorecards.items()
        for one in verdicts
    ]
    return json.dumps(plain(said), indent=1, allow_nan=False)
