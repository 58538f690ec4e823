"""Tests of `synth/grammar.py`: what it accepts, what it refuses and how, what follows from the rules."""

import itertools
import math
import random
import re
import tracemalloc
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from synth.grammar import (
    DEEPEST,
    LONGEST_TEXT,
    Grammar,
    Production,
    common_ancestors,
    make_grammar,
    reachable_from,
    restrict,
    text_lengths,
)
from synth.settings import SettingError
from synth.world import World
from tests.synth.test_likelihood import enumerate_texts

Rules = dict[str, tuple[Production, ...]]


class Parts(NamedTuple):
    """What a grammar is made of."""

    letters: tuple[str, ...]
    rules: Rules
    groups: Mapping[str, tuple[str, ...]]
    start: str | None

    def changed(self, **rules: tuple[Production, ...]) -> "Parts":
        """With other rules of those names."""
        return self._replace(rules=self.rules | rules)


def rule(*sides: str, shares: tuple[float, ...] = ()) -> tuple[Production, ...]:
    """Productions written as in "a b", equally probable unless `shares` says otherwise."""
    probabilities = shares or (1 / len(sides),) * len(sides)
    return tuple(Production(tuple(side.split()), p) for side, p in zip(sides, probabilities, strict=True))


GOOD = Parts(
    letters=("a", "b", "c"),
    rules={
        "x": rule("a", "b c", shares=(0.25, 0.75)),
        "p": rule("x x", "a"),
        "q": rule("c c x", "b", "x"),
        "r": rule("a b c"),
        "top": rule("p q", "r a r"),
    },
    groups={"safe": ("p", "q"), "unsafe": ("r",)},
    start="top",
)


@pytest.fixture(scope="module")
def good() -> Grammar:
    return make_grammar(*GOOD)


def chain(length: int, end: str = "a") -> Rules:
    """Rules n0 -> n1 -> ... -> `end`."""
    names = [*(f"n{i}" for i in range(length)), end]
    return {name: rule(following) for name, following in itertools.pairwise(names)}


def test_a_grammar_keeps_what_it_is_made_of(good: Grammar) -> None:
    assert good.letters == GOOD.letters
    assert dict(good.rules) == GOOD.rules
    assert good.groups == GOOD.groups
    assert good.start == "top"
    assert good.concepts == ("p", "q", "r")
    assert good.children("top") == {"p", "q", "r"}
    assert good.children("r") == set()


def test_a_grammar_needs_no_start() -> None:
    rules = {name: productions for name, productions in GOOD.rules.items() if name != "top"}
    assert make_grammar(GOOD.letters, rules, GOOD.groups, None).start is None


def test_parents_come_before_children() -> None:
    rules = GOOD.rules | chain(20, "top") | {"over": rule("n0 n7", "n3 a")}
    for seed in range(20):
        shuffled = random.Random(seed).sample(sorted(rules), len(rules))
        grammar = make_grammar(GOOD.letters, {name: rules[name] for name in shuffled}, GOOD.groups, "over")
        place = {name: i for i, name in enumerate(grammar.rules)}
        assert dict(grammar.rules) == rules
        assert all(place[name] < place[child] for name in rules for child in grammar.children(name))


BAD = {
    "one letter": (
        GOOD._replace(letters=("a",)),
        "letters: 1 given, 2 needed; list the letters of the alphabet",
    ),
    "letter twice": (GOOD._replace(letters=("a", "b", "c", "b")), "letters: b: listed twice; list it once"),
    "letter with a rule": (
        GOOD._replace(letters=("a", "b", "c", "x")),
        "letters: x: has a rule too; rename the letter or the rule",
    ),
    "name with a dash": (
        GOOD._replace(rules=GOOD.rules | {"p-1": rule("a")}),
        "rule p-1: no name for a symbol; use letters, digits and _, and begin with one of A to Z, a to z or _",
    ),
    "name that begins with a digit": (
        GOOD._replace(rules=GOOD.rules | {"1p": rule("a")}),
        "rule 1p: no name for a symbol; use letters, digits and _, and begin with one of A to Z, a to z or _",
    ),
    "name that is empty": (
        GOOD._replace(rules=GOOD.rules | {"": rule("a")}),
        "rule : no name for a symbol; use letters, digits and _, and begin with one of A to Z, a to z or _",
    ),
    "no production": (GOOD.changed(x=()), "rule x: has no production, so it never ends in letters; add one"),
    "empty production": (
        GOOD.changed(x=rule("a", "")),
        "rule x, production 2: is empty; give it a symbol or remove it",
    ),
    "unknown symbol": (
        GOOD.changed(x=rule("a", "b d")),
        "rule x, production 2: d is neither a letter nor has a rule; add it to letters or rules",
    ),
    "probability 0": (
        GOOD.changed(x=rule("a", "b", shares=(0.0, 1.0))),
        "rule x, production 1: has probability 0, not in (0, 1]; remove or correct it",
    ),
    "probability below 0": (
        GOOD.changed(x=rule("a", "b", shares=(1.0, -0.5))),
        "rule x, production 2: has probability -0.5, not in (0, 1]; remove or correct it",
    ),
    "probability above 1": (
        GOOD.changed(x=rule("a", "b", shares=(0.5, 1.5))),
        "rule x, production 2: has probability 1.5, not in (0, 1]; remove or correct it",
    ),
    "probability nan": (
        GOOD.changed(x=rule("a", "b", shares=(0.5, math.nan))),
        "rule x, production 2: has probability nan, not in (0, 1]; remove or correct it",
    ),
    "sum below 1": (
        GOOD.changed(x=rule("a", "b", shares=(0.5, 0.4))),
        "rule x: probabilities sum to 0.9, not to 1; make them sum to 1",
    ),
    "sum above 1": (
        GOOD.changed(x=rule("a", "b", shares=(0.5, 0.6))),
        "rule x: probabilities sum to 1.1, not to 1; make them sum to 1",
    ),
    "same production twice": (
        GOOD.changed(x=rule("a", "b c", "b c")),
        "rule x, production 3: is the same as production 2; keep one and add the probabilities",
    ),
    "one group": (
        GOOD._replace(groups={"safe": ("p", "q", "r")}),
        "groups: 1 given, 2 needed; name the concepts of 2 or more groups",
    ),
    "group without concepts": (
        GOOD._replace(groups={"safe": ("p", "q"), "unsafe": ()}),
        "groups: unsafe: has no concept; name a symbol that has a rule",
    ),
    "concept without a rule": (
        GOOD._replace(groups={"safe": ("p", "q"), "unsafe": ("a",)}),
        "groups: unsafe: a has no rule; name a symbol that has a rule",
    ),
    "concept in two groups": (
        GOOD._replace(groups={"safe": ("p", "q"), "unsafe": ("q",)}),
        "groups: unsafe: q is in group safe too; keep one",
    ),
    "concept twice in a group": (
        GOOD._replace(groups={"safe": ("p", "p"), "unsafe": ("q",)}),
        "groups: safe: p is in group safe too; keep one",
    ),
    "start without a rule": (
        GOOD._replace(start="story"),
        "start: story has no rule; name a symbol that has a rule",
    ),
    "symbol that needs itself": (
        GOOD.changed(x=rule("a x")),
        "rule x: never ends in letters; give it a production that leads to letters",
    ),
    "symbols that need each other": (
        GOOD.changed(r=rule("s a"), s=rule("r", "b r")),
        "rule r: never ends in letters; give it a production that leads to letters",
    ),
    "recursion": (GOOD.changed(x=rule("a", "x a")), "rule x: leads back to itself: x -> x; break the cycle"),
    "unreachable": (
        GOOD.changed(lost=rule("a x")),
        "rule lost: is reached from no concept and no start; use it or remove it",
    ),
    "above the concepts but not the start": (
        GOOD._replace(start=None),
        "rule top: is reached from no concept and no start; use it or remove it",
    ),
    "texts too long": (
        GOOD.changed(x=rule("a", "b " * LONGEST_TEXT), p=rule("x", "x a")),
        f"rule p: derives texts of up to {LONGEST_TEXT + 1} letters, more than {LONGEST_TEXT}; shorten its productions",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_grammar_that_cannot_be_used_is_refused_with_place_problem_and_fix(name: str) -> None:
    parts, message = BAD[name]
    with pytest.raises(SettingError, match=f"^{re.escape(f'source={message}')}$"):
        make_grammar(*parts)


def test_a_cycle_is_written_out_from_parent_to_child() -> None:
    parts = GOOD.changed(x=rule("a", "n0"), n0=rule("n1 a", "b"), n1=rule("c", "x"))
    with pytest.raises(SettingError, match=r"^source=rule (\w+): leads back to itself: .*; break the cycle$") as caught:
        make_grammar(*parts)
    names = str(caught.value).split(": ")[2].split(";")[0].split(" -> ")
    assert names[0] == names[-1]
    assert all(following == {"x": "n0", "n0": "n1", "n1": "x"}[name] for name, following in itertools.pairwise(names))


def test_a_concept_inside_a_concept_is_refused() -> None:
    inner = GOOD.changed(q=rule("c p"), top=rule("q r"))
    with pytest.raises(SettingError, match=r"^source=rule p: is a concept inside the concept q; keep one of them$"):
        make_grammar(*inner)


def test_a_concept_further_inside_a_concept_is_refused() -> None:
    inner = GOOD.changed(q=rule("c n0"), top=rule("q r"), **chain(5, "p"))
    with pytest.raises(SettingError, match=r"^source=rule p: is a concept inside the concept \W*q\W*; keep one"):
        make_grammar(*inner)


def test_messages_give_the_place_that_the_caller_knows() -> None:
    def at(symbol: str, production: int | None) -> str:
        return f"line {7 if production is None else 8 + production}, {symbol}"

    with pytest.raises(SettingError, match=r"^source=line 9, x: is empty"):
        make_grammar(*GOOD.changed(x=rule("a", "")), at=at)
    with pytest.raises(SettingError, match=r"^source=line 7, x: probabilities sum to 2, not to 1"):
        make_grammar(*GOOD.changed(x=rule("a", "b", shares=(1.0, 1.0))), at=at)


def test_probabilities_may_be_rounded_to_six_digits() -> None:
    make_grammar(*GOOD.changed(x=rule("a", "b", "c", shares=(0.3333333, 0.3333333, 0.3333333))))
    with pytest.raises(SettingError, match=r"^source=rule x: probabilities sum to 0\.999"):
        make_grammar(*GOOD.changed(x=rule("a", "b", "c", shares=(0.333, 0.333, 0.333))))


def test_the_longest_text_that_is_allowed_is_accepted() -> None:
    grammar = make_grammar(*GOOD.changed(r=rule("a " * (LONGEST_TEXT - 1), "b"), top=rule("r c", "p q")))
    assert text_lengths(grammar, "top") == (2, LONGEST_TEXT)


def test_text_lengths_are_those_of_enumeration(good: Grammar, world: World) -> None:
    for grammar in (good, *world.grammars):
        # Above the concepts there are too many texts to list.
        listed = grammar.rules if grammar is good else reachable_from(grammar, *grammar.concepts)
        for symbol in listed:
            lengths = [len(text) for text in enumerate_texts(grammar, symbol)]
            assert text_lengths(grammar, symbol) == (min(lengths), max(lengths))


def test_reachable_from_holds_what_a_derivation_can_use(good: Grammar) -> None:
    assert list(reachable_from(good, "top")) == list(good.rules)
    assert set(reachable_from(good, "p")) == {"p", "x"}
    assert set(reachable_from(good, "r", "x")) == {"r", "x"}
    assert reachable_from(good, "x")["x"] == good.rules["x"]


def test_common_ancestors_are_the_lowest_above_several_of_three_groups() -> None:
    concepts = {"u": rule("a"), "v": rule("b"), "w": rule("c"), "v2": rule("a a")}
    groups = {"A": ("u",), "B": ("v", "v2"), "C": ("w",)}
    above = {
        "top": rule("left right", "same w"),
        "left": rule("pair", "u"),
        "pair": rule("u", "v a"),
        "same": rule("v v2"),
        "right": rule("same w", "under u"),
        "under": rule("w c"),
    }
    grammar = make_grammar(GOOD.letters, above | concepts, groups, "top")
    # pair: A and B; right: all three. left and top have one of these below, same and under only one group.
    assert sorted(common_ancestors(grammar)) == ["pair", "right"]


def test_without_a_symbol_above_the_groups_there_are_no_common_ancestors() -> None:
    rules = {"u": rule("a x"), "v": rule("b x"), "x": rule("c"), "top": rule("u u")}
    groups = {"A": ("u",), "B": ("v",)}
    assert common_ancestors(make_grammar(GOOD.letters, rules, groups, "top")) == ()
    assert common_ancestors(make_grammar(GOOD.letters, rules | {"top": rule("u v")}, groups, "top")) == ("top",)


def test_restrict_keeps_the_ratios_of_probabilities() -> None:
    sides = ("a", "b", "c", "a b")
    grammar = make_grammar(*GOOD.changed(p=rule(*sides, shares=(0.1, 0.2, 0.3, 0.4)), q=rule("x", "x b", "c")))
    fewer = restrict(grammar, lambda concept, i: concept != "p" or i in {1, 3})
    assert [p.symbols for p in fewer.rules["p"]] == [("b",), ("a", "b")]
    assert [p.probability for p in fewer.rules["p"]] == pytest.approx([1 / 3, 2 / 3])
    assert all(fewer.rules[name] == grammar.rules[name] for name in grammar.rules if name != "p")
    assert (fewer.letters, fewer.groups, fewer.start) == (grammar.letters, grammar.groups, grammar.start)
    assert len(grammar.rules["p"]) == 4


def test_restrict_leaves_symbols_that_are_no_concepts_alone(good: Grammar) -> None:
    first = restrict(good, lambda concept, i: i == 0)
    assert {name: len(productions) for name, productions in first.rules.items()} == {
        **{name: len(good.rules[name]) for name in ("top", "x")},
        **dict.fromkeys(good.concepts, 1),
    }
    assert list(first.rules) == list(good.rules)


def test_a_concept_left_without_productions_is_an_error(good: Grammar) -> None:
    with pytest.raises(SettingError, match=r"^productions=r: is left without a production; give it more of them$"):
        restrict(good, lambda concept, i: concept != "r")


MANY = 5000


def test_a_chain_of_rules_may_be_so_deep_and_is_refused_beyond() -> None:
    grammar = make_grammar(*GOOD.changed(**chain(200, "x"), p=rule("n0 a", "a")))
    assert text_lengths(grammar, "p") == (1, 3)
    assert len(reachable_from(grammar, "p")) == 202
    assert common_ancestors(grammar) == ("top",)
    with pytest.raises(
        SettingError, match=rf"^source=rule n\d+: is more than {DEEPEST} levels deep; make it shallower"
    ):
        make_grammar(*GOOD.changed(**chain(MANY, "x"), p=rule("n0 a", "a")))


@pytest.mark.parametrize("ends", [True, False])
def test_a_huge_cycle_is_refused(ends: bool) -> None:
    cycle = {f"n{i}": rule(f"n{(i + 1) % MANY}", *(["a"] if ends else [])) for i in range(MANY)}
    with pytest.raises(SettingError, match=r"^source=rule n\d+: (leads back|never ends)") as caught:
        make_grammar(*GOOD.changed(**cycle, p=rule("n0", "a")))
    assert len(str(caught.value)) < 1000, "a line that can be read"


def test_texts_that_double_with_every_rule_are_refused() -> None:
    doubling = {f"n{i}": rule(f"n{i + 1} n{i + 1}") for i in range(200)} | {"n200": rule("a")}
    with pytest.raises(SettingError, match=r"^source=rule n\d+: derives texts of up to 2048 letters, more than 1024"):
        make_grammar(*GOOD.changed(**doubling, p=rule("n0", "a")))


def test_concepts_inside_one_another_are_refused_without_listing_all_pairs() -> None:
    def peak(length: int) -> int:
        concepts = tuple(f"n{i}" for i in range(length))
        parts = GOOD.changed(**chain(length))._replace(groups={"safe": concepts, "unsafe": ("p",)})
        tracemalloc.start()
        with pytest.raises(SettingError, match=r"is a concept inside the concept"):
            make_grammar(*parts)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return memory

    assert peak(1600) < 3 * peak(800)
