"""Stages depend on the families that they ask for, and pretraining on its own alone."""

import pytest

from experiments.settings.config import load
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.stages.stage import Stage
from experiments.store import provenance
from experiments.study.plan import Plan, plan
from synth import families
from synth.families import FAMILIES
from tests.experiments.test_study import TINY

ALL = (*TINY, "methods=[sft,continued]", "random_model=true")
FEW = "analysis.families=[safe,unsafe,co_task]"


def planned(*overrides: str) -> Plan:
    return plan(load([*ALL, *overrides]))


def keys(needed: Plan) -> dict[str, str]:
    """By a name of each stage, its key; the names of trained weights are those of their models."""
    found: dict[str, Stage] = dict(needed.weights)
    found |= {f"{model} {one.label}": one for model, of in needed.measured.items() for one in of}
    return {name: one.recipe.key for name, one in (found | {"paths": needed.paths}).items() if one}


def test_pretraining_reaches_no_family_but_its_own_and_nothing_they_are_made_of() -> None:
    start = f"{families.__name__}."
    for stage in ("initial", "pretrain"):
        reached = provenance.reachable(f"experiments.stages.{stage}")
        of_families = {name for name in reached if name.startswith(start)}
        assert of_families == ({"synth.families.pretraining"} if stage == "pretrain" else set())
        assert reached.isdisjoint({"synth.judged", "synth.reserved", "synth.tuning_data", "synth.trees"})


def test_a_family_more_changes_what_asks_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, few = keys(planned()), keys(planned(FEW))
    monkeypatch.setitem(FAMILIES, "another", FAMILIES["unsafe"])
    after, few_after = keys(planned()), keys(planned(FEW))
    begun = {UNTOUCHED, RANDOM}
    # Tunings look at all families, and what is made of them changes with them.
    tuned = {name for name in before if name.split()[0] not in begun}
    assert {name for name in few if few[name] != few_after[name]} == tuned
    assert {name for name in before if before[name] != after[name]} == before.keys() - begun


def test_a_family_that_the_world_cannot_have_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = "world.tasks.aliases=0"
    before = keys(planned(lone))
    monkeypatch.setitem(FAMILIES, "another", FAMILIES["misgen_task"])
    assert keys(planned(lone)) == before


def test_code_of_a_family_changes_what_asks_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    code = provenance._code

    def edited(module: str, *overrides: str) -> set[str]:
        """The stages whose keys are others when this module has other code."""
        before = keys(planned(*overrides))
        with monkeypatch.context() as patch:
            provenance.code_version.cache_clear()
            patch.setattr(provenance, "_code", lambda name: code(name) + "edited" * (name == module))
            after = keys(planned(*overrides))
        provenance.code_version.cache_clear()
        return {name for name in before if before[name] != after[name]}

    every, begun = keys(planned()).keys(), {UNTOUCHED, RANDOM}
    tuned = {name for name in every if name.split()[0] not in begun}
    assert edited("synth.families") == set()
    assert edited("synth.families.co_text") == every - begun
    assert edited("synth.families.co_text", FEW) == tuned
    assert edited("synth.families.co_task", FEW) == edited("synth.judged", FEW) == every - begun
    assert edited("synth.families.pretraining") == {name for name in every if name.split()[0] != RANDOM}
