"""A family of prompts is one file: here unsafe ones that say one task in every slot."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stages import prompts
from synth.coverage import Scope
from synth.families import FAMILIES, unsafe
from synth.family import Family
from synth.lookup import existing, modules, sample_batch, sampler
from synth.prompts import TEST, TRAIN, Attempt, side_of
from synth.settings import SettingError, require
from synth.world import World, build_world


def same_task(world: World, scope: Scope, key: jax.Array) -> Attempt:
    prompt, accepted = unsafe.FAMILY.sample(world, scope, key)
    return Attempt(prompt, accepted & jnp.all(prompt.tasks == prompt.tasks[0]))


def check(world: World, scope: Scope) -> None:
    composed = world.config.tasks.composed
    require(composed >= 2, "tasks.composed", composed, "same_task says a task again", "set 2")
    unsafe.FAMILY.check(world, scope)


FAMILY = Family(__name__, "attack", same_task, check)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "same_task", FAMILY)


@pytest.mark.parametrize(("name", "grammar"), [("same_task", 0), ("same_task@grammars", 1)])
def test_it_is_drawn_and_divided_as_any_row_is(name: str, grammar: int, world: World, key: jax.Array) -> None:
    found: dict[int, set[tuple[int, ...]]] = {}
    for side in (TRAIN, TEST):
        drawn = sample_batch(world, name, side, key, 64)
        assert np.asarray(jax.vmap(partial(side_of, world))(drawn)).tolist() == [side] * 64
        tasks, text = np.asarray(drawn.tasks), np.asarray(drawn.text)
        assert world.unsafe[world.group_of[np.asarray(drawn.concept)][:, None], tasks].all()
        assert (tasks == tasks[:, :1]).all()
        assert set(np.asarray(drawn.grammar).tolist()) == {grammar}
        found[side] = {
            (*t, *x, n) for t, x, n in zip(tasks.tolist(), text.tolist(), drawn.length.tolist(), strict=True)
        }
    assert not found[TRAIN] & found[TEST]


def test_models_are_asked_it_where_the_world_has_it(world: World) -> None:
    assert existing(world)[-1] == "same_task"
    assert modules(["same_task"]) == (__name__,)
    asked, (complying, refusing) = prompts.drawn(world.config, "same_task", 8)
    assert len(set(complying.tokens[0, 1 : 1 + asked.tasks.shape[1]].tolist())) == 1
    assert (complying.go == refusing.go).all()
    alone = build_world(replace(world.config, tasks=replace(world.config.tasks, composed=1)))
    assert "same_task" not in existing(alone)
    with pytest.raises(SettingError, match=r"^tasks.composed=1: same_task says a task again; set 2$"):
        sampler(alone, "same_task")
