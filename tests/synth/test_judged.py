"""Tests of `synth/judged.py`: how often each sequence of tasks comes, alone and in tuning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth.keys import batch_keys, fold
from synth.lookup import existing
from synth.tuning_data import tuning
from synth.world import build_world
from tests.synth.families.drawn import ATTEMPTS, WORLDS, attempts, check_uniform_tasks, each, is_of
from tests.synth.families.tagged import COVERAGE, check_scope, tagged


@pytest.mark.parametrize("rule", WORLDS)
def test_prompts_are_uniform_over_the_task_sequences_of_their_family(rule: str, key: jax.Array) -> None:
    world = build_world(WORLDS[rule])
    for name in {"safe", "unsafe", "co_task"} & set(existing(world)):
        check_uniform_tasks(world, name, attempts(world, name, fold(key, name)))


def test_tuning_draws_the_covered_prompts_of_both_kinds(key: jax.Array) -> None:
    world = tagged(coverage=COVERAGE)
    unsafe = np.arange(ATTEMPTS) % 3 == 0
    drawn = jax.vmap(lambda k, u: tuning(world, k, u))(batch_keys(key, ATTEMPTS), jnp.asarray(unsafe))
    assert np.asarray(drawn.accepted).all()
    for kind, name in ((False, "safe"), (True, "unsafe")):
        prompts = jax.tree.map(lambda a, kind=kind: np.asarray(a)[unsafe == kind], drawn.prompt)
        assert all(is_of(world, name, prompt) for prompt in each(prompts))
        check_scope(name, "", prompts)
        check_uniform_tasks(world, name, prompts)
