"""Worlds and prompts in words, for people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from synth.families import FAMILIES
from synth.grammar import Grammar, depths
from synth.likelihood import derivation_entropy, mean_length
from synth.lookup import existing
from synth.prompts import Prompt, verdicts
from synth.safety import RULES, VERDICTS
from synth.world import World


def describe(world: World) -> str:
    """What a world consists of: a line for each of its parts."""
    config = world.config
    parts = {
        "world": [f"{config.name}, seed {config.seed}"],
        "grammars": _grammars(world),
        "text": _text(world),
        "tasks": _tasks(world),
        "concepts": [f"{group}: {', '.join(names)}" for group, names in world.grammars[0].groups.items()],
        "safety": _safety(world),
        "tuning covers": _coverage(world),
        "held out": [f"{config.held_out:.0%} of all prompts, from training of any kind"],
        "families": _families(world),
    }
    width = max(map(len, parts)) + 2
    lines = []
    for name, entries in parts.items():
        lines += [f"{name if i == 0 else '':<{width}}{entry}" for i, entry in enumerate(entries)]
    return "\n".join(lines)


def levels(grammar: Grammar) -> tuple[int, int]:
    """Levels of nonterminals from the top down, and the level of the concepts, from 1."""
    depth = depths(grammar)
    return max(depth.values()), min(depth[concept] for concept in grammar.concepts)


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _number(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{plural if count > 1 else ''}"


def _grammars(world: World) -> list[str]:
    config, first = world.config.grammar, world.grammars[0]
    count, (deep, concept) = len(world.grammars), levels(first)
    number = _number(count, "grammar")
    if count > 1 and not config.source:
        number += f" with the same rules but for the letters, of which {config.shared_leaves:.0%} are shared"
    productions = [len(rule) for rule in first.rules.values()]
    lengths = [len(p.symbols) for rule in first.rules.values() for p in rule]
    even = all(len({round(p.probability, 9) for p in rule}) == 1 for rule in first.rules.values())
    return [
        f"{number}; alphabet of {len(first.letters)}",
        f"trees of depth {deep}: {deep} levels of nonterminals above the letters, the concepts on level {concept}",
        f"{len(first.rules)} nonterminals, {_span(min(productions), max(productions))} productions each of "
        f"{_span(min(lengths), max(lengths))} symbols; probabilities {'uniform' if even else 'not uniform'}",
        *(
            []
            if config.source
            else [
                f"overlap of the concept groups {config.concept_overlap:.0%}, ambiguous letters {config.ambiguity:.0%}"
            ]
        ),
    ]


def _text(world: World) -> list[str]:
    low, high = world.text_lengths
    cropped = world.config.text.cropped_from
    before = (
        f"in pretraining a random window of a derivation of {_span(*cropped)} letters from {world.grammars[0].start}"
        if cropped
        else "in pretraining too"
    )
    first = world.grammars[0]
    means = [mean_length(first, concept) for concept in world.concepts]
    entropies = [derivation_entropy(first, c) / mean for c, mean in zip(world.concepts, means, strict=True)]
    return [
        f"{_span(low, high)} letters, derived from a concept; {before}",
        f"{np.mean(means):.1f} letters and {np.mean(entropies):.2f} nats a letter, in the mean of the concepts",
    ]


def _tasks(world: World) -> list[str]:
    tasks = world.config.tasks
    names = world.vocab.tasks
    lines = [
        f"{tasks.count + tasks.aliases} task tokens, {tasks.composed} in a prompt: {tasks.count} tasks "
        f"({names[0]} to {names[tasks.count - 1]})"
        + (
            f" and {_number(tasks.aliases, 'alias', 'es')} ({', '.join(names[tasks.count :])})" if tasks.aliases else ""
        ),
        "each a bijection of the alphabet" + (", another in each grammar" if len(world.grammars) > 1 else ""),
    ]
    if tasks.identity:
        lines.append(f"{names[0]} is the identity")
    if tasks.aliases:
        often = "as often as" if tasks.alias_frequency == 1 else f"{tasks.alias_frequency:g} times as often as"
        lines.append(f"an alias does what its twin does; pretraining shows it {often} a task")
    return lines


def _safety(world: World) -> list[str]:
    count = world.config.tasks.count
    lines = [f"rule {world.config.safety.rule}: {RULES[world.config.safety.rule]}"]
    for group, row in zip(world.groups, world.unsafe[:, :count], strict=True):
        unsafe, safe = (_names(world, np.flatnonzero(row == flag)) for flag in (True, False))
        lines.append(f"{group}: {len(unsafe)} unsafe ({' '.join(unsafe)}), {len(safe)} safe ({' '.join(safe)})")
    return lines


def _names(world: World, tasks: Any) -> list[str]:
    return [world.vocab.tasks[task] for task in tasks]


def _coverage(world: World) -> list[str]:
    scope = world.covered

    def part(numbers: Sequence[int], of: int, what: str, names: Sequence[str]) -> str:
        every = f"all {of} {what}s" if of > 1 else f"the {what}"
        chosen = f"{what}s" if len(numbers) > 1 else what
        return every if len(numbers) == of else f"{chosen} {', '.join(names[i] for i in numbers)} of {of}"

    first = world.grammars[0]
    kept = [len(world.covered_grammars[0].rules[c]) for c in world.concepts]
    productions = [len(first.rules[c]) for c in world.concepts]
    numbered = [str(i + 1) for i in range(len(world.grammars))]
    return [
        part(scope.grammars, len(world.grammars), "grammar", numbered),
        part(scope.tasks, world.config.tasks.count, "task", world.vocab.tasks) + ", no alias",
        part(scope.concepts, len(world.concepts), "concept", world.concepts),
        f"{_span(min(kept), max(kept))} of {_span(min(productions), max(productions))} productions of each concept",
    ]


def _families(world: World) -> list[str]:
    there = existing(world)
    absent = [name for name, row in FAMILIES.items() if row.kind != "any" and name not in there]
    return [", ".join(there), *([f"not in this world: {', '.join(absent)}"] if absent else [])]


def reason(world: World, prompt: Prompt) -> str:
    """The verdict of one prompt, of NumPy arrays, and why: "unsafe: both tasks are unsafe for concept B0"."""
    verdict = VERDICTS[int(verdicts(world, prompt))]
    present = np.flatnonzero(prompt.groups)
    if present.size == 0:
        return f"{verdict}: the text is of no concept"
    said = [_about(world, int(group), prompt) for group in present]
    return f"{verdict}: {'; '.join(said)}"


def _about(world: World, group: int, prompt: Prompt) -> str:
    unsafe = world.unsafe[group, prompt.tasks]
    concept = int(prompt.concept)
    whom = f"group {world.groups[group]}" if concept < 0 else f"concept {world.concepts[concept]}"
    count = len(unsafe)
    every = {1: "the task is", 2: "both tasks are"}.get(count, f"all {count} tasks are")
    if unsafe.all():
        return f"{every} unsafe for {whom}"
    if not unsafe.any():
        return f"{every} safe for {whom}"
    bad, good = (" and ".join(dict.fromkeys(_names(world, prompt.tasks[unsafe == flag]))) for flag in (True, False))
    return f"{bad} unsafe, {good} safe for {whom}"
