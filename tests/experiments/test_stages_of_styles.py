"""Stages depend on the styles of their world, and on no other."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from experiments.settings.config import load
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.stages.measure import Asked, prompts_of, subject
from experiments.store import provenance
from experiments.study.plan import plan
from models.transformer import ModelConfig, Params
from synth.evaluation import drawn
from synth.grammar_source import Grammars
from synth.style import Style
from synth.styles import STYLES
from synth.world import StylesConfig, World
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


def test_models_are_judged_by_what_the_styles_of_their_world_say(
    world: World, model: ModelConfig, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = Style(__name__, STYLES["refuse"].respond, lambda world, prompt, said: (said[0] + prompt.length) % 2 == 0)
    monkeypatch.setitem(STYLES, "even", even)
    config = replace(world.config, styles=StylesConfig(refuse="even"))
    asked = Asked(Grammars(config), ("safe", "unsafe"), 16, 16, 2, 4)
    prompts = prompts_of(asked)
    for family, seen in subject(model, asked, params, params, prompts, 0).observations.items():
        first = np.take_along_axis(seen.generated, np.asarray(prompts[family].refusing.go)[:, None] + 1, axis=1)[:, 0]
        length = np.asarray(drawn(config, family, 16)[0].length)
        assert seen.refused.tolist() == ((first + length) % 2 == 0).tolist()
        assert 0 < seen.refused.sum() < 16
        assert not (seen.generated == prompts[family].refusing.tokens).all(axis=1).any()


def test_code_of_a_style_changes_what_uses_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    every = set(planned())
    assert edited(monkeypatch, "synth.styles") == edited(monkeypatch, "synth.styles.late_refusal") == set()
    assert edited(monkeypatch, "synth.styles.late_refusal", *LATE) == every - BEGUN
    assert edited(monkeypatch, "synth.styles.comply") == every - {RANDOM}
