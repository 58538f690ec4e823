"""A world: the grammar, the tasks and the safety of their combinations.

Glossary
    letter    a terminal of the grammar
    concept   a nonterminal of the concept level; text is derived from one
    group     a set of concepts with the same unsafe tasks (A safe-dominant, B unsafe-dominant)
    task      a bijection of the alphabet; a prompt composes several
    alias     a second token for a task, in pretraining data but never in safety tuning
    prompt    BOS tasks SOT text EOT; its response has the text's length, then EOS
    comply    respond with the composed tasks applied to the text, letter by letter
    refuse    respond with the null token at every position
    held out  a share of all prompts, chosen by a hash, that no training batch contains
"""

import functools
import math
from dataclasses import dataclass, field

import jax
import numpy as np

from synth.grammar import Grammar, GrammarConfig, random_grammar
from synth.keys import fold
from synth.safety import SafetyConfig, nested_matrix
from synth.settings import SettingError, require
from synth.tasks import TasksConfig, random_bijections
from synth.vocab import Vocab


@dataclass(unsafe_hash=True)
class WorldConfig:
    """Everything that defines a world; equal settings give an equal world."""

    name: str = "quick"
    seed: int = 0
    held_out: float = 0.1
    """Share of prompts kept for evaluation: no training batch ever contains one."""
    grammar: GrammarConfig = field(default_factory=GrammarConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be from 0 to 2^32 - 1", "set seed to 0")
        require(
            0.01 <= self.held_out <= 0.5,
            "held_out",
            self.held_out,
            "must be from 0.01 to 0.5",
            "set held_out to 0.1, say",
        )
        require(
            math.factorial(self.grammar.alphabet) >= self.tasks.count,
            "tasks.count",
            self.tasks.count,
            f"must be at most {self.grammar.alphabet}!, the bijections of {self.grammar.alphabet} letters",
            "lower tasks.count or raise grammar.alphabet",
        )
        try:
            self.safety.check_tasks(self.tasks.count)
        except SettingError as error:
            raise error.within("safety") from None
        try:
            self.grammar.check_groups(len(self.safety.unsafe_tasks))
        except SettingError as error:
            raise error.within("grammar") from None

    @property
    def sequence_length(self) -> int:
        """Tokens of the longest prompt with response, BOS and EOS included."""
        return 4 + self.tasks.composed + 2 * self.grammar.text_lengths()[1]


@dataclass(frozen=True, eq=False)
class World:
    """The tables of a world; build it with `build_world`, which gives equal settings one World."""

    config: WorldConfig
    vocab: Vocab
    grammar: Grammar = field(repr=False)
    bijections: np.ndarray = field(repr=False)
    """[tasks + aliases, letters]"""
    unsafe: np.ndarray = field(repr=False)
    """[groups, tasks + aliases] bool"""

    @property
    def groups(self) -> int:
        return int(self.unsafe.shape[0])

    @property
    def concepts(self) -> int:
        return self.groups * self.config.safety.concepts_per_group

    @property
    def max_text(self) -> int:
        return self.grammar.max_text


@functools.cache
def build_world(config: WorldConfig) -> World:
    """The world of `config`; its tables depend on `config` alone."""
    key = jax.random.key(config.seed)
    tasks, safety = config.tasks, config.safety
    grammar = random_grammar(config.grammar, len(safety.unsafe_tasks), safety.concepts_per_group, fold(key, "grammar"))
    return World(
        config=config,
        vocab=Vocab(tasks.count, tasks.aliases, config.grammar.alphabet),
        grammar=grammar,
        bijections=random_bijections(tasks, config.grammar.alphabet, fold(key, "tasks")),
        unsafe=nested_matrix(safety, tasks.count, tasks.aliases),
    )
