"""Stages depend on the styles of their world, and on no other."""

from collections.abc import Iterator

import pytest

from experiments.findings.results import RANDOM, UNTOUCHED
from experiments.settings.config import load
from experiments.store import provenance
from experiments.study.plan import plan
from synth.styles import STYLES
from tests.experiments.test_stages_of_families import keys
from tests.experiments.test_study import TINY

LATE = ("world.styles.refuse=late_refusal", "model.context=40")
BEGUN = {UNTOUCHED, RANDOM}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    provenance.code_version.cache_clear()


def planned(*overrides: str) -> dict[str, str]:
    return keys(plan(load([*TINY, "methods=[sft,continued]", "random_model=true", "model.context=40", *overrides])))


def edited(monkeypatch: pytest.MonkeyPatch, module: str, *overrides: str) -> set[str]:
    """The stages whose keys are others when this module has other code."""
    before, code = planned(*overrides), provenance._code
    with monkeypatch.context() as patch:
        provenance.code_version.cache_clear()
        patch.setattr(provenance, "_code", lambda name: code(name) + "edited" * (name == module))
        after = planned(*overrides)
    provenance.code_version.cache_clear()
    return {name for name in before if before[name] != after[name]}


def test_a_style_more_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned()
    monkeypatch.setitem(STYLES, "another", STYLES["refuse"])
    assert planned() == before


def test_how_a_world_refuses_is_nothing_to_what_is_pretrained() -> None:
    before, after = planned(), planned(*LATE)
    assert {name for name in before if before[name] == after[name]} == BEGUN


def test_code_of_a_style_changes_what_uses_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    every = set(planned())
    assert edited(monkeypatch, "synth.styles") == edited(monkeypatch, "synth.styles.late_refusal") == set()
    assert edited(monkeypatch, "synth.styles.late_refusal", *LATE) == every - BEGUN
    assert edited(monkeypatch, "synth.styles.comply") == every - {RANDOM}
