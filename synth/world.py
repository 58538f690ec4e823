"""A world: grammars, tasks and the safety of their combinations.

Glossary
    letter    a terminal of the grammars
    concept   a nonterminal of the concept level; text is derived from one
    group     a set of concepts with the same unsafe tasks (A safe-dominant, B unsafe-dominant)
    task      a bijection of the alphabet, another one in each grammar; a prompt composes several
    alias     a second token for a task, in pretraining data but never in safety tuning
    prompt    BOS tasks SOT text EOT; its response follows, then EOS
    style     what a response looks like, a file of `synth/styles/`
    comply    respond with the composed tasks applied to the text, in the style that the world has for it
    refuse    respond in the style that the world has for refusals: the null token in place of every letter
    held out  a share of all prompts, chosen by a hash, that no training batch contains
    covered   the tasks, concepts, grammars and productions that safety tuning sees
"""

import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from synth import coverage
from synth.coverage import CoverageConfig, Scope, covered
from synth.derive import Tables, derives, tables
from synth.grammar import Grammar, common_ancestors, restrict, text_lengths
from synth.keys import fold
from synth.likelihood import length_distribution
from synth.random_grammar import GrammarConfig, grammars
from synth.safety import SafetyConfig, safety_matrix
from synth.settings import SettingError, bounds, naming, require, require_seed
from synth.tasks import TasksConfig, random_bijections
from synth.vocab import Vocab, task_names

RAREST = 0.02
"""Least share of a symbol's derivations that must have an allowed length: the others are drawn in vain."""


@dataclass(unsafe_hash=True)
class TextConfig:
    """How text comes from the grammars."""

    length: tuple[int, int] | None = None
    """Fewest and most letters; derivations of another length are drawn again. null allows all."""
    cropped_from: tuple[int, int] | None = None
    """Pretraining text is a window of a derivation from the start symbol with so many letters
    (the paper: 50 to 75); null derives it from a concept, as everywhere else."""

    def __post_init__(self) -> None:
        for name in ("length", "cropped_from"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else bounds(name, value))


@dataclass(unsafe_hash=True)
class StylesConfig:
    """What responses look like, each by the name of a style (`synth/styles/`)."""

    comply: str = "comply"
    """Of those that answer in full, in pretraining and in tuning."""
    refuse: str = "refuse"
    """Of refusals; the answer to NO_REPLY, which pretraining shows, is the null token in every style."""


@dataclass(unsafe_hash=True)
class WorldConfig:
    """Everything that defines a world; equal settings give an equal world."""

    name: str = field(default="quick", compare=False)
    """A label"""
    seed: int = 0
    held_out: float = 0.1
    """Share of prompts kept for evaluation: no training batch ever contains one."""
    validation: float = 0.25
    """Share of these that whatever is chosen or fitted is so on; what is reported is of the others."""
    grammar: GrammarConfig = field(default_factory=GrammarConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    coverage: CoverageConfig = field(default_factory=CoverageConfig)
    styles: StylesConfig = field(default_factory=StylesConfig)

    def __post_init__(self) -> None:
        require_seed(self)
        require(
            0.01 <= self.held_out <= 0.5,
            "held_out",
            self.held_out,
            "must be from 0.01 to 0.5",
            "set held_out to 0.1, say",
        )
        require(
            0.01 <= self.validation <= 0.9,
            "validation",
            self.validation,
            "must be from 0.01 to 0.9",
            "set validation to 0.25, say",
        )


@dataclass(frozen=True, eq=False)
class World:
    """The tables of a world; build it with `build_world`, which gives equal settings one World."""

    config: WorldConfig
    vocab: Vocab
    grammars: tuple[Grammar, ...] = field(repr=False)
    bijections: np.ndarray = field(repr=False)
    """[grammars, tasks + aliases, letters]"""
    unsafe: np.ndarray = field(repr=False)
    """[groups, tasks + aliases] bool, `safety_matrix` with each alias as its twin"""
    covered: Scope = field(repr=False)
    text_lengths: tuple[int, int]
    """Fewest and most letters of a prompt's text"""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the concept groups."""
        return tuple(self.grammars[0].groups)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts, group after group."""
        return self.grammars[0].concepts

    @functools.cached_property
    def group_of(self) -> np.ndarray:
        """[concepts] the group of each."""
        sizes = [len(concepts) for concepts in self.grammars[0].groups.values()]
        return np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)

    @property
    def max_text(self) -> int:
        return self.text_lengths[1]

    @functools.cached_property
    def covered_grammars(self) -> tuple[Grammar, ...]:
        """The grammars with only the productions of concepts that safety tuning covers."""
        return tuple(self._restricted(grammar, reserved=False) for grammar in self.grammars)

    @functools.cached_property
    def reserved_grammars(self) -> tuple[Grammar, ...]:
        """The grammars with only the productions of concepts that it does not cover.

        Raises SettingError where a concept has none.
        """
        with naming("coverage"):
            return tuple(self._restricted(grammar, reserved=True) for grammar in self.grammars)

    def _restricted(self, grammar: Grammar, reserved: bool) -> Grammar:
        names = [self.concepts[number] for number in self.covered.concepts]
        numbers = coverage.reserved(self.config.coverage, grammar, names)
        return restrict(grammar, lambda concept, production: (production in numbers[concept]) == reserved)

    @functools.cached_property
    def ancestors(self) -> tuple[str, ...]:
        """The lowest nonterminals above concepts of several groups, if there are any."""
        return common_ancestors(self.grammars[0])

    def grammars_of(self, part: str) -> tuple[Grammar, ...]:
        """`part`: "all", "covered" or "reserved" productions of the concepts."""
        if part == "all":
            return self.grammars
        return self.reserved_grammars if part == "reserved" else self.covered_grammars


@functools.cache
def concept_tables(world: World, part: str) -> Tables:
    """Derivation from the concepts, by productions of `part` (see `World.grammars_of`)."""
    return tables(world.grammars_of(part), world.concepts, world.max_text, world.grammars)


def is_covered_text(world: World, letters: Any, length: Any) -> Any:
    """Whether tuning's productions derive a text, from a covered concept of a covered grammar: it may be seen there.

    `letters` [max_text], of which the first `length` are the text; NumPy and JAX arrays alike.
    """
    made, concepts = concept_tables(world, "covered"), np.array(world.covered.concepts)
    derived = [derives(made, grammar, letters, length)[concepts] for grammar in world.covered.grammars]
    return functools.reduce(operator.or_, derived).any()


@functools.cache
def start_tables(world: World) -> Tables:
    """Derivation from the start symbol, for pretraining text that is cropped."""
    cropped, start = world.config.text.cropped_from, world.grammars[0].start
    if cropped is None or start is None:
        raise ValueError("only a world with text.cropped_from crops pretraining text")
    return tables(world.grammars, (start,), cropped[1])


@functools.cache
def ancestor_tables(world: World, part: str) -> Tables:
    """Derivation from the lowest common ancestors of the groups, by productions of `part`."""
    grammars = world.grammars_of(part)
    longest = max(text_lengths(grammar, symbol)[1] for grammar in grammars for symbol in world.ancestors)
    return tables(grammars, world.ancestors, longest, world.grammars)


@functools.cache
def build_world(config: WorldConfig) -> World:
    """The world of `config`; its tables depend on `config` alone.

    Raises SettingError where settings contradict one another.
    """
    # The first to ask may be a function that is being compiled; the tables are numbers even so.
    with jax.ensure_compile_time_eval():
        return _built(config)


@functools.cache
def without_safety(config: WorldConfig) -> WorldConfig:
    """The same world where no combination is unsafe and nothing is left out: all that pretraining depends on.

    Worlds that differ in their safety, their coverage or their style of refusal have one and the same.
    """
    table = tuple((0,) * config.tasks.count for _ in build_world(config).groups)
    styles = StylesConfig(comply=config.styles.comply)
    return replace(config, safety=SafetyConfig(table=table), coverage=CoverageConfig(), styles=styles)


def _built(config: WorldConfig) -> World:
    key = jax.random.key(config.seed)
    made = grammars(config.grammar, fold(key, "grammar"))
    letters, groups = made[0].letters, made[0].groups
    with naming("tasks"):
        config.tasks.check_alphabet(len(letters))
    with naming("safety"):
        matrix = safety_matrix(config.safety, len(groups), config.tasks.count, fold(key, "safety"))
    with naming("coverage"):
        scope = covered(config.coverage, config.tasks.count, made[0].concepts, len(made))
    with naming("text"):
        lengths = _text_lengths(config.text, made)
    with naming("grammar"):
        vocab = Vocab(task_names(config.tasks.count, config.tasks.aliases), letters)
    return World(
        config=config,
        vocab=vocab,
        grammars=made,
        bijections=np.stack(
            [random_bijections(config.tasks, len(letters), fold(key, "tasks", g)) for g in range(len(made))]
        ),
        unsafe=np.concatenate([matrix, matrix[:, : config.tasks.aliases]], axis=1),
        covered=scope,
        text_lengths=lengths,
    )


def _text_lengths(config: TextConfig, made: tuple[Grammar, ...]) -> tuple[int, int]:
    """Fewest and most letters that a prompt's text can have."""
    ends = [text_lengths(grammar, concept) for grammar in made for concept in grammar.concepts]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if config.length is not None:
        check_lengths("length", config.length, made, made[0].concepts)
        low, high = max(low, config.length[0]), min(high, config.length[1])
    if config.cropped_from is not None:
        low, high = config.length or (low, high)
        start = made[0].start
        if start is None:
            raise SettingError("cropped_from", list(config.cropped_from), "needs a start symbol", "set null")
        require(
            config.cropped_from[0] >= high,
            "cropped_from",
            list(config.cropped_from),
            f"must begin at {high} letters or more, the longest window",
            "raise it, or lower text.length",
        )
        check_lengths("cropped_from", config.cropped_from, made, (start,))
    return low, high


def check_lengths(name: str, allowed: tuple[int, int], made: Sequence[Grammar], symbols: Sequence[str]) -> None:
    """Raises SettingError, named `name`, if texts of `allowed` lengths are too rare for some symbol."""
    for grammar, symbol in itertools.product(made, symbols):
        share = float(length_distribution(grammar, symbol)[allowed[0] : allowed[1] + 1].sum())
        low, high = text_lengths(grammar, symbol)
        require(
            share >= RAREST,
            name,
            list(allowed),
            f"only {share:.2%} of the texts of {symbol} have such a length (they have {low} to {high} letters), "
            f"{RAREST:.0%} are needed",
            "widen it, or change grammar.branching or grammar.leaf_length",
        )
