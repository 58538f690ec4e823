"""Tests of `experiments/stages/stage.py`: what changes the key of which stage, and what changes none."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from analysis import edits, suite
from analysis.edit import Kind
from analysis.suite import MEASUREMENTS, AnalysisConfig
from experiments.settings.config import load
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.stages.measure import Measure
from experiments.stages.stage import Stage
from experiments.store import provenance
from experiments.study.plan import Plan, plan
from models.training import methods
from models.training.methods import METHODS
from tests.experiments.test_study import TINY

ALL = (*TINY, "methods=[sft,dpo,continued]", "tuning.snapshots=[2]", "random_model=true")


def keys(needed: Plan) -> dict[str, str]:
    """By a name of each stage, its key."""
    found = {model: one.recipe.key for model, one in needed.weights.items()}
    for model, of in needed.measured.items():
        found |= {f"{model} {one.label} {one.step}": one.recipe.key for one in of}
    return found | ({"paths": needed.paths.recipe.key} if needed.paths else {})


def changed(*overrides: str) -> set[str]:
    """The stages whose keys are others with `overrides`."""
    before, after = (keys(plan(load([*ALL, *more]))) for more in ((), overrides))
    return {name for name in before if before[name] != after[name]}


@pytest.fixture(scope="module")
def needed() -> Plan:
    return plan(load([*ALL]))


def other(value: Any) -> Any:
    """The same kind of thing with another value somewhere."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        field = next((field for field in dataclasses.fields(value) if field.compare), None)
        if field is None:
            return "what has no settings has none to change"
        return _with(value, field.name, other(getattr(value, field.name)))
    if isinstance(value, Mapping):
        return {**value, "more": next(iter(value.values()), 1)}
    if isinstance(value, tuple | list):
        return (*value, "pretraining")
    return 7 if value is None else value + type(value)(1)


def _with(value: Any, name: str, content: Any) -> Any:
    """`value` with a field that is not checked, for a key is of whatever is there."""
    made = object.__new__(type(value))
    made.__dict__.update({**{f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, name: content})
    return made


def every_stage(needed: Plan) -> list[Stage]:
    assert needed.paths
    of_sft = needed.measured["sft"]
    return [*needed.weights.values(), of_sft[0], of_sft[1], of_sft[-1], needed.paths]


def test_each_field_of_each_stage_changes_its_key(needed: Plan) -> None:
    for stage in every_stage(needed):
        for field in dataclasses.fields(stage):
            value = getattr(stage, field.name)
            if field.name in ("measurement", "method"):
                continue  # A name of a row, below.
            changed = needed.weights["dpo"] if isinstance(value, Stage) else other(value)
            assert _with(stage, field.name, changed).recipe.key != stage.recipe.key, (stage.name, field.name)


def test_a_row_that_is_used_changes_the_key(needed: Plan) -> None:
    tuned, measured = needed.tuned["sft"], needed.measured["sft"][0]
    assert isinstance(measured, Measure)
    assert dataclasses.replace(tuned, method="continued").recipe.key != tuned.recipe.key
    assert dataclasses.replace(measured, measurement="clusters").recipe.key != measured.recipe.key


def test_settings_change_what_they_are_of_and_what_is_made_of_it() -> None:
    everything = set(keys(plan(load([*ALL]))))
    of_random = {name for name in everything if name.split()[0] == RANDOM}
    assert changed("pretrain.learning_rate=0.001") == everything - of_random
    of_pretrained = {name for name in everything if name.split()[0] in (RANDOM, UNTOUCHED)}
    assert changed("tuning.learning_rate=0.001") == everything - of_pretrained
    assert changed("method.dpo.beta=0.3") == {name for name in everything if name.split()[0] == "dpo"} | {"paths"}
    assert changed("paths.transfer=[0.25]") == {"paths"}
    clusters = {name for name in everything if " clusters " in name}
    assert changed("analysis.clusters.permutations=3") == clusters
    # Safety is nothing to what pretraining and random weights are made from.
    assert changed("world.safety.rule=any") == everything - {UNTOUCHED, RANDOM}
    # A label is nothing to anything.
    assert changed("world.name=another", "model.name=another") == set()
    # What is claimed of results is no part of them.
    assert changed("papers=[]") == set()


def test_what_is_kept_reads_as_the_settings(needed: Plan) -> None:
    for stage in every_stage(needed):
        recipe = stage.recipe
        assert json.loads(recipe.written) == recipe.settings
        assert recipe.written == json.dumps(recipe.settings, sort_keys=True)
        assert recipe.key == dataclasses.replace(recipe, written="").key
        assert list(recipe.parents) == [parent.recipe.key for parent in stage.parents]


def test_a_row_more_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(plan(load([*ALL])))
    monkeypatch.setitem(METHODS, "another", METHODS["sft"])
    monkeypatch.setitem(MEASUREMENTS, "another", MEASUREMENTS["clusters"])
    measured = ",".join([*AnalysisConfig().measurements, "another"])
    after = keys(plan(load([*ALL, f"analysis.measurements=[{measured}]"])))
    assert before == {name: after[name] for name in before}
    assert {name.split()[1] for name in after.keys() - before.keys()} == {"another"}


def test_an_edit_more_changes_the_key_of_the_measurement_that_tries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(plan(load([*ALL])))
    monkeypatch.setitem(edits.EDITS, "another", Kind(__name__, "paths", edits.mixtures.edits))
    after = keys(plan(load([*ALL])))
    assert {name for name in before if before[name] != after[name]} == {"paths"}


def test_code_of_a_row_changes_what_uses_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, code = keys(plan(load([*ALL]))), provenance._code

    def edited(*modules: str) -> set[str]:
        """The stages whose keys are others when these modules have other code."""
        provenance.code_version.cache_clear()
        monkeypatch.setattr(provenance, "_code", lambda name: code(name) + "edited" * (name in modules))
        after = keys(plan(load([*ALL])))
        provenance.code_version.cache_clear()
        return {name for name in before if before[name] != after[name]}

    of_dpo = {name for name in before if name.split()[0] == "dpo"} | {"paths"}
    assert edited("models.training.methods.dpo") == of_dpo
    assert edited("analysis.sensitivity") >= {name for name in before if " sensitivity " in name}
    assert edited("analysis.attacks") == {name for name in before if " attacks " in name}
    for kind in ("parts", "patches"):
        assert edited(f"analysis.edits.{kind}") == {name for name in before if " interventions " in name}
    assert edited("analysis.edits.multiples") == {name for name in before if " multiples " in name}
    assert edited("analysis.edits.mixtures") == {"paths"}
    registries = (
        methods.__name__,
        suite.__name__,
        edits.__name__,
        "experiments.progress",
        "experiments.store.artifacts",
    )
    of_results = ("experiments.findings.claims.jain2024", "experiments.figures", "analysis.stats", "analysis.metrics")
    assert edited(*registries, *of_results) == set()
