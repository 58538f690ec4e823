"""Tests of `synth/random_grammar.py`: settings out of range, and what each setting does to the grammars."""

import math
from collections import Counter, defaultdict
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synth.grammar import LONGEST_TEXT, Grammar, Production, make_grammar, reachable_from, text_lengths
from synth.keys import fold
from synth.notation import parse_grammars, to_yaml
from synth.random_grammar import GrammarConfig, grammars
from synth.settings import SettingError
from tests.synth.test_likelihood import enumerate_texts


def content(grammar: Grammar) -> tuple[Any, ...]:
    """All of a grammar, to compare two."""
    return grammar.letters, list(grammar.rules.items()), list(grammar.groups.items()), grammar.start


def by_level(grammar: Grammar) -> list[list[str]]:
    """The nonterminals of each level, from the top."""
    levels = [[grammar.start] if grammar.start else list(grammar.concepts)]
    while children := {child for symbol in levels[-1] for child in grammar.children(symbol)}:
        # The start need not lead to every concept.
        children |= set(grammar.concepts) if children & set(grammar.concepts) else set()
        levels.append([symbol for symbol in grammar.rules if symbol in children])
    return levels


def leaves(grammar: Grammar) -> list[tuple[str, Production]]:
    """The productions of the last level, each with its symbol."""
    return [(symbol, production) for symbol in sorted(by_level(grammar)[-1]) for production in grammar.rules[symbol]]


BAD: list[tuple[dict[str, Any], str]] = [
    *(({name: 0}, f"{name}=0: must be at least 1; set {name}") for name in ("count", "levels", "groups", "concepts")),
    ({"concept_level": 0}, "concept_level=0: must be at least 1; set concept_level"),
    *(
        ({name: share}, f"{name}={share}: must be a share from 0 to 1; set {name}")
        for name in ("shared_leaves", "concept_overlap", "ambiguity")
        for share in (-0.1, 1.5, math.nan)
    ),
    *(
        ({"dirichlet": value}, f"dirichlet={value}: must be a finite number above 0; set dirichlet")
        for value in (0.0, -1.0, math.inf, math.nan)
    ),
    *(
        ({"leaf_length": value}, r"leaf_length=\[.*\]: must be \[low, high\] with 1 <= low <= high; for example")
        for value in ((0, 2), (3, 2), (2,), (1, 2, 3), (1.5, 2), 2)
    ),
    *(
        ({"branching": (value,)}, r"branching=\[.*\]: must be \[low, high\] with 1 <= low <= high; for example")
        for value in ((0, 2), (3, 2), (2,), 2)
    ),
    ({"branching": (2, 3)}, r"branching=\[2\]: must be \[low, high\]"),
    ({"groups": 1}, "groups=1: must be at least 2; set 2"),
    ({"alphabet": 1}, "alphabet=1: must be at least 2; add letters"),
    ({"concept_level": 3}, "concept_level=3: must be above the last level, levels=3; set concept_level below 3"),
    ({"levels": 1, "concept_level": 1}, "concept_level=1: must be above the last level, levels=1"),
    *(
        (
            {name: value},
            rf"{name}=\[.*\]: has {len(value)} entries where levels=3, concept_level=2 need {levels}, or one",
        )
        for name, levels in (("symbols", 1), ("productions", 3))
        for value in ((), (4, 4), (4, 4, 4, 4))
    ),
    *(
        ({"branching": value}, rf"branching=\[.*\]: has {len(value)} entries where .* need 2, or one for all; give")
        for value in ((), ((1, 2),) * 3)
    ),
    ({"symbols": (0,)}, "symbols=0: must be at least 1; set symbols"),
    ({"productions": (5, 0, 5)}, "productions=0: must be at least 1; set productions"),
    (
        {"groups": 3, "symbols": (2,)},
        "symbols=2: must give each of the 3 concept groups a symbol; set symbols to 3 or more",
    ),
    (
        {"alphabet": 6},
        "alphabet=6: gives 36 strings of 2-2 letters where the 8 symbols x 5 productions of the last level need 40 "
        "different ones; raise grammar.alphabet or grammar.leaf_length",
    ),
    ({"alphabet": 3, "leaf_length": (1, 3)}, "alphabet=3: gives 39 strings of 1-3 letters where .* need 40"),
    (
        {"branching": ((2, 33), (2, 16))},
        rf"branching=\[\[2, 33\], \[2, 16\]\]: allows derivations of more than {LONGEST_TEXT} letters",
    ),
    ({"leaf_length": (2, 200)}, rf"branching=.*: allows derivations of more than {LONGEST_TEXT} letters"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=str)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}"):
        GrammarConfig(**changes)


@pytest.mark.parametrize("changes", [{"leaf_length": (2, 5000)}, {"levels": 1000}], ids=str)
def test_settings_far_out_of_range_are_refused_too(changes: dict[str, Any]) -> None:
    with pytest.raises(
        SettingError, match=rf"^branching=.*: allows derivations of .*more than {LONGEST_TEXT}"
    ) as caught:
        GrammarConfig(**changes)
    assert len(str(caught.value)) < 1000, "a line that can be read"


def test_more_strings_than_can_be_counted_in_digits_are_no_error(key: jax.Array) -> None:
    config = GrammarConfig(alphabet=1000, leaf_length=(900, 1000), branching=((1, 1),), levels=2, concept_level=1)
    assert text_lengths(grammars(config, key)[0], "A0")[0] >= 900


def test_the_smallest_settings_are_accepted(key: jax.Array) -> None:
    config = GrammarConfig(
        alphabet=2,
        levels=2,
        concept_level=1,
        concepts=1,
        symbols=(2,),
        productions=(1,),
        branching=((1, 1),),
        leaf_length=(1, 1),
    )
    grammar = grammars(config, key)[0]
    assert grammar.start is None
    assert sorted(text for concept in grammar.concepts for text in enumerate_texts(grammar, concept)) == [
        ("a",),
        ("b",),
    ]


def test_a_source_takes_the_place_of_the_other_settings(key: jax.Array) -> None:
    made = grammars(GrammarConfig(count=2), key)
    source = "---\n".join(map(to_yaml, made))
    config = GrammarConfig(source=source, count=7, alphabet=1, levels=1)
    assert config.count == 2
    assert [*map(content, grammars(config, key))] == [*map(content, parse_grammars(source))]


def test_a_source_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^source=line 1: letters is missing"):
        GrammarConfig(source="rules: {}")


def test_equal_keys_give_equal_grammars(key: jax.Array) -> None:
    config = GrammarConfig(count=2, shared_leaves=0.5, ambiguity=0.25, dirichlet=1.0)
    first = grammars(config, key)
    assert [*map(content, grammars(config, key))] == [*map(content, first)]
    other = grammars(config, fold(key, "other"))
    assert other[0].rules["A0"] != first[0].rules["A0"]
    assert leaves(other[0]) != leaves(first[0])
    assert leaves(first[0]) != leaves(first[1])


@pytest.mark.parametrize(
    ("groups", "symbols", "overlap"), [(2, 8, 0.0), (2, 8, 0.5), (2, 8, 1.0), (3, 9, 0.0), (3, 9, 1 / 3), (3, 9, 1.0)]
)
@pytest.mark.parametrize("concept_level", [1, 2])
def test_concept_overlap_is_the_share_of_symbols_in_common(
    groups: int, symbols: int, overlap: float, concept_level: int, key: jax.Array
) -> None:
    config = GrammarConfig(
        groups=groups,
        concepts=3,
        levels=concept_level + 1,
        concept_level=concept_level,
        symbols=(symbols,),
        productions=(12,),
        branching=((3, 3),),
        alphabet=20,
        concept_overlap=overlap,
    )
    grammar = grammars(config, key)[0]
    used = [{c for concept in group for c in grammar.children(concept)} for group in grammar.groups.values()]
    times = Counter(symbol for group in used for symbol in group)
    assert len(times) == symbols
    assert {symbol for symbol, number in times.items() if number > 1} == set.intersection(*used)
    assert len(set.intersection(*used)) == pytest.approx(overlap * symbols)
    assert len({len(group) for group in used}) == 1


def test_without_overlap_and_with_one_leaf_length_a_text_gives_away_its_group(key: jax.Array) -> None:
    config = GrammarConfig(groups=3, symbols=(6,), productions=(3,), alphabet=5, branching=((2, 2), (1, 3)))
    grammar = grammars(config, key)[0]
    texts = [
        {text for concept in concepts for text in enumerate_texts(grammar, concept)}
        for concepts in grammar.groups.values()
    ]
    assert all(texts)
    assert sum(map(len, texts)) == len(set.union(*texts))


def test_with_overlap_groups_have_texts_in_common(key: jax.Array) -> None:
    config = GrammarConfig(symbols=(4,), productions=(4,), alphabet=5, branching=((1, 2),), concept_overlap=1.0)
    grammar = grammars(config, key)[0]
    first, second = (
        {text for concept in concepts for text in enumerate_texts(grammar, concept)}
        for concepts in grammar.groups.values()
    )
    assert first & second


def shared_share(made: tuple[Grammar, ...]) -> float:
    """Share of last-level productions that are identical in all grammars."""
    rows = list(zip(*(leaves(grammar) for grammar in made), strict=True))
    return sum(len({production.symbols for _, production in row}) == 1 for row in rows) / len(rows)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dirichlet", [None, 1.0])
def test_shared_leaves_is_the_share_of_leaves_all_grammars_have(
    share: float, dirichlet: float | None, key: jax.Array
) -> None:
    # So many strings that none is drawn twice by chance.
    config = GrammarConfig(count=4, alphabet=500, leaf_length=(3, 3), shared_leaves=share, dirichlet=dirichlet)
    made = grammars(config, key)
    assert len(leaves(made[0])) == 40
    assert shared_share(made) == share
    last = by_level(made[0])[-1]
    for grammar in made[1:]:
        assert grammar.letters == made[0].letters
        assert (grammar.groups, grammar.start) == (made[0].groups, made[0].start)
        assert set(grammar.rules) == set(made[0].rules)
        assert all(grammar.rules[symbol] == made[0].rules[symbol] for symbol in grammar.rules if symbol not in last)
        assert all(
            [p.probability for p in grammar.rules[symbol]] == [p.probability for p in made[0].rules[symbol]]
            for symbol in last
        )


def test_leaves_that_are_shared_stay_so_where_some_are_written_twice(key: jax.Array) -> None:
    config = GrammarConfig(count=3, alphabet=500, leaf_length=(3, 3), shared_leaves=0.5, ambiguity=0.5)
    assert shared_share(grammars(config, key)) == pytest.approx(0.5, abs=1 / 40)


@pytest.mark.parametrize("shared", [0.0, 0.5])
@pytest.mark.parametrize("leaf_length", [(2, 2), (1, 3)])
def test_letters_of_leaves_all_differ_without_ambiguity(
    shared: float, leaf_length: tuple[int, int], key: jax.Array
) -> None:
    # All 64 strings of two letters are used.
    config = GrammarConfig(
        count=3, alphabet=8, productions=(8,), shared_leaves=shared, leaf_length=leaf_length, ambiguity=0.0
    )
    for grammar in grammars(config, key):
        strings = [production.symbols for _, production in leaves(grammar)]
        assert len(strings) == 64
        assert len(set(strings)) == 64


@pytest.mark.parametrize("ambiguity", [0.0, 0.25, 0.5, 1.0])
def test_ambiguity_is_the_share_of_leaves_that_another_symbol_may_write(ambiguity: float, key: jax.Array) -> None:
    config = GrammarConfig(count=2, alphabet=20, ambiguity=ambiguity)
    for grammar in grammars(config, key):
        writers = defaultdict(set)
        for symbol, production in leaves(grammar):
            writers[production.symbols].add(symbol)
        shared = [production for _, production in leaves(grammar) if len(writers[production.symbols]) > 1]
        assert len(shared) / 40 == pytest.approx(ambiguity, abs=1 / 40)


@pytest.mark.parametrize("ambiguity", [0.5, 1.0])
def test_ambiguity_leaves_each_symbol_its_productions(ambiguity: float, key: jax.Array) -> None:
    grammar = grammars(GrammarConfig(alphabet=20, ambiguity=ambiguity), key)[0]
    assert {len(grammar.rules[symbol]) for symbol in by_level(grammar)[-1]} == {5}


def test_without_dirichlet_productions_are_equally_probable(key: jax.Array) -> None:
    for rule in grammars(GrammarConfig(), key)[0].rules.values():
        assert [p.probability for p in rule] == pytest.approx([1 / len(rule)] * len(rule))


@pytest.mark.parametrize("dirichlet", [1e-3, 0.3, 1.0, 1000.0])
def test_dirichlet_probabilities_differ_and_sum_to_one(dirichlet: float, key: jax.Array) -> None:
    grammar = grammars(GrammarConfig(dirichlet=dirichlet), key)[0]
    for rule in grammar.rules.values():
        shares = [p.probability for p in rule]
        assert len(rule) == 5
        assert math.fsum(shares) == pytest.approx(1, abs=1e-12)
        assert min(shares) > 0
        assert max(shares) > 0.2
    distinct = {tuple(p.probability for p in rule) for rule in grammar.rules.values()}
    # Where one production has nearly all, there are as many cases as productions.
    assert len(distinct) == len(grammar.rules) if dirichlet > 0.01 else 1 < len(distinct) <= 5


def test_dirichlet_is_the_concentration(key: jax.Array) -> None:
    config = GrammarConfig(
        levels=2, concept_level=1, concepts=60, symbols=(300,), alphabet=200, productions=(4,), dirichlet=3.0
    )
    shares = np.array([[p.probability for p in rule] for rule in grammars(config, key)[0].rules.values()])
    assert shares.shape[0] > 300
    # The variance of a share of Dirichlet(3, 3, 3, 3) is 1/4 * 3/4 / (12 + 1).
    assert shares.var() == pytest.approx(3 / 16 / 13, rel=0.15)


def test_settings_a_level_are_those_of_their_level(key: jax.Array) -> None:
    config = GrammarConfig(
        levels=5,
        concept_level=2,
        groups=2,
        concepts=3,
        symbols=(7, 6, 5),
        productions=(8, 9, 6, 7, 4),
        branching=((2, 4), (3, 3), (1, 3), (2, 3)),
        leaf_length=(2, 3),
    )
    grammar = grammars(config, key)[0]
    levels = by_level(grammar)
    # Three symbols below each group of the seven; the seventh cannot be dealt out evenly.
    assert [len(level) for level in levels] == [1, 6, 6, 6, 5]
    assert set(levels[1]) == set(grammar.concepts)
    assert [{len(grammar.rules[symbol]) for symbol in level} for level in levels] == [{8}, {9}, {6}, {7}, {4}]
    lengths = [{len(p.symbols) for symbol in level for p in grammar.rules[symbol]} for level in levels]
    assert lengths == [{2, 3, 4}, {3}, {1, 2, 3}, {2, 3}, {2, 3}]
    for above, below in zip(levels, [*levels[1:], list(grammar.letters)], strict=True):
        assert {child for symbol in above for p in grammar.rules[symbol] for child in p.symbols} <= set(below)


def test_with_the_concepts_on_top_there_is_no_start(key: jax.Array) -> None:
    config = GrammarConfig(levels=3, concept_level=1, symbols=(4, 6), productions=(6,), branching=((2, 2), (3, 3)))
    grammar = grammars(config, key)[0]
    assert grammar.start is None
    assert [len(level) for level in by_level(grammar)] == [4, 4, 6]


@pytest.mark.parametrize("concept_level", [1, 2, 3])
def test_concepts_are_on_their_level(concept_level: int, key: jax.Array) -> None:
    grammar = grammars(GrammarConfig(levels=4, concept_level=concept_level), key)[0]
    assert set(by_level(grammar)[concept_level - 1]) == set(grammar.concepts) == {"A0", "A1", "B0", "B1"}
    assert grammar.groups == {"A": ("A0", "A1"), "B": ("B0", "B1")}


def test_lengths_are_spread_evenly(key: jax.Array) -> None:
    config = GrammarConfig(symbols=(4,), productions=(6,), branching=((2, 4), (1, 3)), leaf_length=(2, 4))
    grammar = grammars(config, key)[0]
    for symbol in (grammar.start, *grammar.concepts):
        assert set(Counter(len(p.symbols) for p in grammar.rules[str(symbol)]).values()) == {2}
    assert set(Counter(len(production.symbols) for _, production in leaves(grammar)).values()) == {8}


def test_a_symbol_with_few_strings_gets_all_of_them(key: jax.Array) -> None:
    config = GrammarConfig(symbols=(2,), productions=(20,), branching=((1, 1), (1, 2)), alphabet=30)
    grammar = grammars(config, key)[0]
    # Each group has one symbol of its own to write, once or twice; the start four concepts.
    assert {len(grammar.rules[concept]) for concept in grammar.concepts} == {2}
    assert len(grammar.rules["start"]) == 4


def test_letters_have_names_of_their_own(key: jax.Array) -> None:
    assert grammars(GrammarConfig(alphabet=26), key)[0].letters == tuple("abcdefghijklmnopqrstuvwxyz")
    many = grammars(GrammarConfig(alphabet=27), key)[0].letters
    assert len(set(many)) == 27


def test_groups_have_names_of_their_own(key: jax.Array) -> None:
    groups = grammars(GrammarConfig(groups=30, concepts=1, symbols=(30,), alphabet=20), key)[0].groups
    assert len(groups) == 30
    assert len({concept for concepts in groups.values() for concept in concepts}) == 30


def test_many_letters_and_long_leaves_are_quick(key: jax.Array) -> None:
    grammar = grammars(GrammarConfig(count=4, alphabet=1000, leaf_length=(8, 8), shared_leaves=0.5), key)[3]
    strings = [production.symbols for _, production in leaves(grammar)]
    assert {len(string) for string in strings} == {8}
    assert len({letter for string in strings for letter in string}) > 200
    assert text_lengths(grammar, "start") == (2 * 2 * 8, 3 * 3 * 8)


def test_nearly_all_strings_of_a_large_number_are_quick(key: jax.Array) -> None:
    config = GrammarConfig(alphabet=100, symbols=(20,), productions=(500,), branching=((2, 3),))
    assert len({production.symbols for _, production in leaves(grammars(config, key)[0])}) == 10_000


@st.composite
def configs(draw: st.DrawFn) -> GrammarConfig:
    levels = draw(st.integers(2, 4))
    concept_level = draw(st.integers(1, levels - 1))
    share = st.sampled_from([0.0, 0.3, 0.5, 1.0])
    ends = st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda pair: (min(pair), max(pair)))

    def a_level(entry: st.SearchStrategy[Any], number: int) -> tuple[Any, ...]:
        return tuple(draw(st.lists(entry, min_size=number, max_size=number) | entry.map(lambda one: [one])))

    try:
        return GrammarConfig(
            count=draw(st.integers(1, 2)),
            shared_leaves=draw(share),
            alphabet=draw(st.integers(2, 30)),
            levels=levels,
            concept_level=concept_level,
            groups=draw(st.integers(2, 3)),
            concepts=draw(st.integers(1, 3)),
            symbols=a_level(st.integers(1, 5), levels - (2 if concept_level > 1 else 1)),
            productions=a_level(st.integers(1, 4), levels),
            branching=a_level(ends, levels - 1),
            leaf_length=draw(ends),
            concept_overlap=draw(share),
            ambiguity=draw(share),
            dirichlet=draw(st.none() | st.floats(1e-6, 100.0)),
        )
    except SettingError:
        assume(False)
        raise


@given(config=configs(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_random_grammar_is_one(config: GrammarConfig, seed: int) -> None:
    made = grammars(config, jax.random.key(seed))
    assert len(made) == config.count
    for grammar in made:
        again = make_grammar(grammar.letters, grammar.rules, grammar.groups, grammar.start)
        assert dict(again.rules) == dict(grammar.rules)
        assert parse_grammars(to_yaml(grammar))[0].rules == grammar.rules
        assert len(grammar.letters) == config.alphabet
        assert [len(concepts) for concepts in grammar.groups.values()] == [config.concepts] * config.groups
        levels = by_level(grammar)
        assert len(levels) == config.levels
        low, high = config.leaf_length
        for level in range(config.levels, 0, -1):
            if level < config.levels:
                low, high = low * config.branching_at(level)[0], high * config.branching_at(level)[1]
            assert len(levels[level - 1]) <= config.symbols_at(level)
            for symbol in levels[level - 1]:
                shortest, longest = text_lengths(grammar, symbol)
                assert low <= shortest <= longest <= high
                assert 1 <= len(grammar.rules[symbol]) <= config.productions_at(level)
        assert set(reachable_from(grammar, *levels[0], *grammar.concepts)) == set(grammar.rules)
