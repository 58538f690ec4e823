"""A family of prompts is one file: here unsafe ones that say one task in every slot, behind two earlier turns."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import behaviour
from analysis.rows import Samples
from experiments.settings.config import load
from experiments.stages.measure import Asked, prompts_of, subject
from models.transformer import ModelConfig, init
from synth import sequences
from synth.coverage import Scope
from synth.evaluation import drawn
from synth.families import FAMILIES, safe, unsafe
from synth.family import Family
from synth.grammar_source import Grammars
from synth.keys import fold
from synth.lookup import existing, modules, sample_batch, sampler, size
from synth.prompts import TEST, TRAIN, Attempt, codes, side_of
from synth.segments import CONTEXT, START, TASK
from synth.settings import SettingError, UserError, require
from synth.world import World, build_world


def same_task(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """Behind a safe prompt that was complied with and an unsafe one that was refused."""
    complied = safe.FAMILY.sample(world, scope, fold(key, "complied"))
    refused = unsafe.FAMILY.sample(world, scope, fold(key, "refused"))
    prompt, accepted = unsafe.FAMILY.sample(world, scope, key)
    earlier = sequences.turn(world, complied.prompt, False) + sequences.turn(world, refused.prompt, True)
    same = jnp.all(prompt.tasks == prompt.tasks[0])
    return Attempt(prompt._replace(context=earlier), accepted & complied.accepted & refused.accepted & same)


def check(world: World, scope: Scope) -> None:
    composed = world.config.tasks.composed
    require(composed >= 2, "tasks.composed", composed, "same_task says a task again", "set 2")
    unsafe.FAMILY.check(world, scope)
    safe.FAMILY.check(world, scope)


FAMILY = Family(__name__, "attack", same_task, check, turns=2)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "same_task", FAMILY)


@pytest.mark.parametrize(("name", "grammar"), [("same_task", 0), ("same_task@grammars", 1)])
def test_it_is_drawn_and_divided_as_any_row_is(name: str, grammar: int, world: World, key: jax.Array) -> None:
    found = {side: sample_batch(world, name, side, key, 64) for side in (TRAIN, TEST)}
    for side, prompts in found.items():
        assert np.asarray(jax.vmap(partial(side_of, world))(prompts)).tolist() == [side] * 64
        tasks = np.asarray(prompts.tasks)
        assert world.unsafe[world.group_of[np.asarray(prompts.concept)][:, None], tasks].all()
        assert (tasks == tasks[:, :1]).all()
        assert set(np.asarray(prompts.grammar).tolist()) == {grammar}
    train, held_out = ({tuple(code) for code in codes(prompts).tolist()} for prompts in found.values())
    assert not train & held_out


def test_its_earlier_turns_are_read_and_nothing_of_them_counts(world: World) -> None:
    for batch in drawn(world.config, "same_task", 8)[1]:
        for tokens, roles, go, scored in zip(*(np.asarray(x) for x in batch[:4]), strict=True):
            words = world.vocab.decode(tokens[: go + 1]).split()
            begun = len(words) - words[::-1].index("<eos>")
            first, second, none = " ".join(words[:begun]).split(" <eos>")
            assert ("<null>" in first, "<null>" in second, none) == (False, True, "")
            assert roles[: begun + 1].tolist() == [START, *[CONTEXT] * (begun - 1), TASK]
            assert tokens[begun] == tokens[begun + 1]
            assert np.flatnonzero(scored)[0] == go + 1


def test_models_are_asked_it_where_the_world_has_it(world: World, key: jax.Array) -> None:
    assert existing(world)[-1] == "same_task"
    assert modules(["same_task"]) == (__name__,)
    names = ("safe", "unsafe", "same_task")
    asked = Asked(Grammars(world.config), names, prompts=8, validation=8, window=2, prompts_before=4)
    prompts, whole = prompts_of(asked), size(world, names)
    assert {of.complying.tokens.shape for of in prompts.values()} == {(8, whole.whole)}
    model = ModelConfig(layers=1, heads=1, width=4, context=whole.whole)
    params = init(model, world.vocab.size, key)
    rows = behaviour.measure(subject(model, asked, params, params, prompts, 0))
    assert {row.family for row in rows if isinstance(row, Samples)} == set(names)
    with pytest.raises(UserError, match=r"^model.context=51: must hold the world's longest sequence, 52 tokens; "):
        load(["model.context=51"])
    load(["model.context=52"])
    alone = build_world(replace(world.config, tasks=replace(world.config.tasks, composed=1)))
    assert "same_task" not in existing(alone)
    with pytest.raises(SettingError, match=r"^tasks.composed=1: same_task says a task again; set 2$"):
        sampler(alone, "same_task")
