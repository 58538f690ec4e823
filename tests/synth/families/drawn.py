"""Worlds to draw prompts in, and prompts judged and counted in plain Python."""

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from scipy.stats import chisquare

from synth.coverage import CoverageConfig, Scope
from synth.families import FAMILIES
from synth.grammar import Grammar
from synth.keys import batch_keys
from synth.likelihood import log_probability
from synth.lookup import sample_batch, sampler
from synth.prompts import TEST, TRAIN, VALIDATION, Prompt
from synth.random_grammar import GrammarConfig
from synth.safety import MIXED, SAFE, UNSAFE, SafetyConfig
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig

Batches = dict[tuple[str, bool], Prompt]

COUNT = 300

ATTEMPTS = 1000

JUDGED = [name for name, row in FAMILIES.items() if row.kind != "any"]
"""Families that promise a verdict"""


SMALL = GrammarConfig(
    count=2,
    alphabet=6,
    levels=3,
    symbols=(4,),
    productions=(2,),
    branching=((2, 3), (1, 2)),
    leaf_length=(1, 2),
)

WITHOUT_START = GrammarConfig(
    alphabet=6, levels=2, concept_level=1, symbols=(4,), productions=(2,), branching=((1, 2),), leaf_length=(1, 2)
)

WORLDS = {
    "any": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=3),
        safety=SafetyConfig(unsafe_tasks=(1, 2), rule="any"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "xor": WorldConfig(
        grammar=WITHOUT_START,
        tasks=TasksConfig(count=4, aliases=3),
        safety=SafetyConfig(unsafe_tasks=(2, 3), rule="xor"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "concept_only": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=1),
        safety=SafetyConfig(unsafe_tasks=(1, 3), rule="concept_only"),
        coverage=CoverageConfig(productions=0.5),
    ),
    "task_only": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, composed=3),
        safety=SafetyConfig(unsafe_tasks=(1, 2), rule="task_only"),
        coverage=CoverageConfig(productions=0.5),
    ),
    # No table of counts gives these sets: neither is in the other.
    "table": WorldConfig(
        grammar=SMALL,
        tasks=TasksConfig(count=4, aliases=1),
        safety=SafetyConfig(table=((1, 0, 1, 0), (0, 1, 1, 0))),
        coverage=CoverageConfig(productions=0.5),
    ),
}


def small(**changed: Any) -> WorldConfig:
    defaults: dict[str, Any] = {
        "grammar": SMALL,
        "tasks": TasksConfig(count=4),
        "safety": SafetyConfig(unsafe_tasks=(1, 3)),
    }
    return WorldConfig(**{**defaults, **changed})


def sample_prompts(world: World, name: str, key: jax.Array, side: int = TRAIN) -> Prompt:
    return jax.tree.map(np.asarray, sample_batch(world, name, side, key, COUNT, 0))


def draw_batches(world: World, key: jax.Array) -> Batches:
    """A batch of each family, by name and side of the division."""
    wanted = [(name, TRAIN) for name in FAMILIES] + [("unsafe", VALIDATION), ("unsafe", TEST)]
    # Most of the time goes to compilation, which two threads can share.
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(lambda of: sample_prompts(world, of[0], key, of[1]), wanted), strict=True))


def attempts(world: World, name: str, key: jax.Array) -> Prompt:
    """The accepted ones of ATTEMPTS prompts, from both sides of the division.

    Not compiled as a whole, so that worlds of equal shapes have their operations compiled once.
    """
    sample_one = sampler(world, name)
    prompts, accepted = jax.vmap(lambda k: sample_one(world, k))(batch_keys(key, ATTEMPTS))
    return jax.tree.map(lambda a: np.asarray(a)[np.asarray(accepted)], prompts)


def each(prompts: Prompt, number: int = COUNT) -> list[Prompt]:
    """The first prompts, one by one."""
    size = min(number, len(prompts.length))
    whole: Prompt = jax.tree.map(np.asarray, prompts)
    return [jax.tree.map(lambda part, i=i: part[i], whole) for i in range(size)]


def letters(prompt: Prompt) -> tuple[int, ...]:
    assert not prompt.text[int(prompt.length) :].any()
    return tuple(prompt.text[: int(prompt.length)].tolist())


def content(prompt: Prompt) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(prompt.tasks.tolist()), letters(prompt)


def present(prompt: Prompt) -> set[int]:
    return set(np.flatnonzero(prompt.groups).tolist())


def judge(world: World, tasks: Iterable[int], groups: Iterable[int]) -> int:
    """The verdict, group by group."""
    found = set()
    for group in groups:
        unsafe = [bool(world.unsafe[group, task]) for task in tasks]
        decisive = any(unsafe) if world.config.safety.rule == "any" else all(unsafe)
        found.add(UNSAFE if decisive else MIXED if any(unsafe) else SAFE)
    return found.pop() if len(found) == 1 else MIXED if found else SAFE


def is_of(world: World, name: str, prompt: Prompt) -> bool:
    """Whether tasks and groups are what the family promises."""
    tasks, groups = prompt.tasks.tolist(), present(prompt)
    unsafe = [bool(world.unsafe[group, task]) for group in groups for task in tasks]
    aliases = sum(task >= world.config.tasks.count for task in tasks)
    if aliases != (name in ("misgen_task", "misgen_both")):
        return False
    if name == "co_text":
        kinds = {judge(world, tasks, [group]) for group in groups}
        return len(groups) >= 2 and {SAFE, UNSAFE} <= kinds
    if len(groups) != 1:
        return False
    if name == "safe":
        return not any(unsafe)
    if name == "co_task":
        return any(unsafe) and not all(unsafe) and judge(world, tasks, groups) == MIXED
    return judge(world, tasks, groups) == UNSAFE


def task_sequences(world: World, name: str, scope: Scope) -> dict[int, list[tuple[int, ...]]]:
    """By group, all task sequences of `safe`, `unsafe` or `co_task`, found one by one."""
    wanted = {"safe": SAFE, "unsafe": UNSAFE, "co_task": MIXED}[name]
    every = list(itertools.product(scope.tasks, repeat=world.config.tasks.composed))
    return {
        group: [tasks for tasks in every if judge(world, tasks, [group]) == wanted]
        for group in sorted({int(world.group_of[concept]) for concept in scope.concepts})
    }


def check_shares(found: Iterable[Hashable], shares: Mapping[Any, float]) -> None:
    """Asserts that a chi-square test does not reject `shares`, the rarest taken together."""
    counts = Counter(found)
    assert set(counts) <= {outcome for outcome, share in shares.items() if share > 0}
    total, whole = sum(counts.values()), sum(shares.values())
    observed, expected = [0.0], [0.0]
    for outcome, share in shares.items():
        mean = share / whole * total
        if mean < 5:
            observed[0] += counts[outcome]
            expected[0] += mean
        else:
            observed.append(counts[outcome])
            expected.append(mean)
    if expected[0] < 5:
        few, rare = observed.pop(0), expected.pop(0)
        observed[0] += few
        expected[0] += rare
    # One fixed key: the level is the chance that a right sampler fails here.
    assert len(observed) == 1 or chisquare(observed, expected).pvalue > 1e-3


def check_uniform_tasks(world: World, name: str, prompts: Prompt) -> None:
    """Asserts that groups that have such prompts are equally frequent, and so are a group's task sequences."""
    several = each(prompts, ATTEMPTS)
    found = [(min(present(prompt)), tuple(prompt.tasks.tolist())) for prompt in several]
    by_group = {group: every for group, every in task_sequences(world, name, world.covered).items() if every}
    check_shares(found, {(group, tasks): 1 / len(every) for group, every in by_group.items() for tasks in every})


def words(grammar: Grammar, prompts: Iterable[Prompt]) -> list[list[str]]:
    return [[grammar.letters[letter] for letter in letters(prompt)] for prompt in prompts]


def check_derived(world: World, grammars: tuple[Grammar, ...], prompts: Prompt, derivable: bool = True) -> None:
    """Asserts that the grammar and concept of each prompt derive its text, or that they do not."""
    by_origin: dict[tuple[int, int], list[Prompt]] = {}
    for prompt in each(prompts):
        by_origin.setdefault((int(prompt.grammar), int(prompt.concept)), []).append(prompt)
    for (number, concept), several in by_origin.items():
        grammar = grammars[number]
        found = log_probability(grammar, world.concepts[concept], words(grammar, several))
        assert (np.isfinite(found) == derivable).all()
