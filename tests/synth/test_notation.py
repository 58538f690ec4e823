"""Tests of `synth/notation.py`: grammars read from YAML, every way to get one wrong, and forms for others."""

import os
import re
from pathlib import Path
from typing import Any

import jax
import nltk
import pytest

from synth.grammar import Grammar, Production, make_grammar
from synth.notation import LARGEST, for_people, parse_grammars, to_nltk, to_yaml
from synth.random_grammar import GrammarConfig, grammars
from synth.settings import SettingError

GOOD = """letters: a b c d
start: story
groups: {safe: [bike, car], unsafe: [bomb]}
rules:
  story: [bike bomb, car bike]
  bike: {wheel wheel: 0.7, a b: 0.3}
  car: wheel
  wheel: [c d, d]
  bomb: [b a]
"""


def changed(*changes: tuple[str, str]) -> str:
    """GOOD with some of its text replaced."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def content(grammar: Grammar) -> tuple[Any, ...]:
    """All of a grammar but the order of its rules, to compare two."""
    return grammar.letters, dict(grammar.rules), list(grammar.groups.items()), grammar.start


@pytest.fixture(scope="module")
def good() -> Grammar:
    return parse_grammars(GOOD)[0]


def test_lists_are_equally_probable_and_mappings_weighted(good: Grammar) -> None:
    assert good.letters == ("a", "b", "c", "d")
    assert good.start == "story"
    assert good.groups == {"safe": ("bike", "car"), "unsafe": ("bomb",)}
    assert dict(good.rules) == {
        "story": (Production(("bike", "bomb"), 0.5), Production(("car", "bike"), 0.5)),
        "bike": (Production(("wheel", "wheel"), 0.7), Production(("a", "b"), 0.3)),
        "car": (Production(("wheel",), 1.0),),
        "wheel": (Production(("c", "d"), 0.5), Production(("d",), 0.5)),
        "bomb": (Production(("b", "a"), 1.0),),
    }


@pytest.mark.parametrize(
    "changes",
    [
        (("letters: a b c d", "letters: [a, b, c, d]"),),
        (("letters: a b c d", 'letters: ["a", "b", c, d]  # a list'),),
        (("{safe: [bike, car], unsafe: [bomb]}", "\n  safe: bike car\n  unsafe: bomb"),),
        (("  wheel: [c d, d]", "  wheel:\n    - c   d\n    - d"),),
        (("  wheel: [c d, d]", "  wheel: {d: 5e-1, c d: 0.5}"),),
        (("letters: a b c d\n", ""), ("  bomb: [b a]\n", "  bomb: [b a]\nletters: a b c d\n")),
    ],
)
def test_other_ways_to_write_the_same(good: Grammar, changes: tuple[tuple[str, str], ...]) -> None:
    grammar = parse_grammars(changed(*changes))[0]
    assert (grammar.letters, grammar.groups, grammar.start) == (good.letters, good.groups, good.start)
    assert {name: set(rule) for name, rule in grammar.rules.items()} == {n: set(r) for n, r in good.rules.items()}


def test_yaml_types_mean_nothing() -> None:
    grammar = parse_grammars("letters: 1 2.50 yes null\ngroups: {no: [on], 3: [off]}\nrules: {on: [yes 1], off: null}")[
        0
    ]
    assert grammar.letters == ("1", "2.50", "yes", "null")
    assert grammar.groups == {"no": ("on",), "3": ("off",)}
    assert grammar.rules["on"][0].symbols == ("yes", "1")
    assert grammar.rules["off"][0].symbols == ("null",)


def test_documents_are_grammars() -> None:
    other = changed(("[c d, d]", "{c: 0.9, d d: 0.1}"), ("car: wheel", "car: [wheel a, tyre]\n  tyre: [b, c]"))
    first, second = parse_grammars(f"{GOOD}---\n{other}")
    assert content(first) == content(parse_grammars(GOOD)[0])
    assert content(second) == content(parse_grammars(other)[0])


ODD = ("#", ":", "-", "'", '"', "{", "|", "->", "[0.5]", "yes", "null", "1", "~", "&a", "*a", "!b", "é", "it's", "%")


def odd_grammar(letters: tuple[str, ...]) -> Grammar:
    """Every letter stands alone, first and last in a production."""
    rules = {
        "p": tuple(Production((letter,), 1 / len(letters)) for letter in letters),
        "q": tuple(Production((letter, "x", letter), 1 / len(letters)) for letter in letters),
        "x": (Production(("p", "p"), 0.25), Production(("p",), 0.75)),
    }
    return make_grammar(letters, {"r": (Production(letters, 1.0),), **rules}, {"A": ("q",), "B": ("r",)}, None)


def test_to_yaml_can_be_read_back(key: jax.Array, good: Grammar) -> None:
    several = grammars(GrammarConfig(count=3, dirichlet=0.3, shared_leaves=0.5, leaf_length=(1, 3)), key)
    assert [*map(content, parse_grammars("---\n".join(map(to_yaml, several))))] == [*map(content, several)]
    for grammar in (good, odd_grammar(ODD)):
        assert content(parse_grammars(to_yaml(grammar))[0]) == content(grammar)


def test_long_productions_and_rare_ones_can_be_read_back() -> None:
    long = tuple("ab" * 400)
    rules = {"p": (Production(long, 1e-6), Production(("a",), 1 - 1e-6)), "q": (Production((*long, "b"), 1.0),)}
    grammar = make_grammar(("a", "b"), rules, {"A": ("p",), "B": ("q",)}, None)
    assert content(parse_grammars(to_yaml(grammar))[0]) == content(grammar)


TAG = "!!python/object/apply:os.system"
BAD = {
    # Symbols and rules.
    "unknown symbol": (
        changed(("[b a]", "[b a, b x]")),
        "line 9, rule bomb, production 2: x is neither a letter nor has a rule",
    ),
    "unknown symbol, a line each": (
        changed(("[c d, d]", "\n    - c d\n    - d e")),
        "line 10, rule wheel, production 2: e is neither",
    ),
    "empty production": (
        changed(("wheel: [c d, d]", "wheel: [c d, '']")),
        "line 8, rule wheel, production 2: is empty",
    ),
    "rule without text": (changed(("car: wheel", "car:")), "line 7, rule car, production 1: is empty"),
    "no productions": (changed(("car: wheel", "car: []")), "line 7, rule car: has no production"),
    "no weighted productions": (changed(("car: wheel", "car: {}")), "line 7, rule car: has no production"),
    "never ends": (changed(("[c d, d]", "[c wheel]")), "line 8, rule wheel: never ends in letters"),
    "never ends in a circle": (
        changed(("[c d, d]", "[c tyre]"), ("  bomb:", "  tyre: wheel\n  bomb:")),
        "line [89], rule (wheel|tyre): never ends in letters",
    ),
    "unreachable": (f"{GOOD}  lost: [a]\n", "line 10, rule lost: is reached from no concept and no start"),
    "unreachable without a start": (
        changed(("start: story\n", "")),
        "line 4, rule story: is reached from no concept and no start",
    ),
    "cycle": (
        changed(("[c d, d]", "[c car, d]")),
        "line [78], rule (car|wheel): leads back to itself: (car -> wheel -> car|wheel -> car -> wheel); break",
    ),
    "cycle of one": (changed(("[c d, d]", "[c wheel, d]")), "line 8, rule wheel: leads back to itself: wheel -> wheel"),
    "concept in a concept": (
        changed(("[b a]", "[b car]")),
        r"line 7, rule car: is a concept inside the concept \W*bomb",
    ),
    "symbol name": (changed(("  bomb:", "  b-d: a\n  bomb:")), "line 9, rule b-d: no name for a symbol"),
    "too long": (changed(("[b a]", f"[{'b ' * 1025}]")), "line 9, rule bomb: derives texts of up to 1025 letters"),
    "production in a list": (changed(("[c d, d]", "[[c, d], d]")), "line 8: a production of wheel must be text"),
    "production as a mapping": (changed(("[c d, d]", "[{c d: 1}]")), "line 8: a production of wheel must be text"),
    "rule name in a list": (changed(("  car:", "  ? [car]\n  :")), "line 7: a name in rules must be text"),
    # Probabilities.
    "sum": (changed(("0.3", "0.2")), "line 6, rule bike: probabilities sum to 0.9, not to 1"),
    "no number": (changed(("0.3", "often")), "line 6, rule bike.*: 'often' is no probability; write a number"),
    "fraction": (changed(("0.3", "3/10")), "line 6, rule bike.*: '3/10' is no probability"),
    "no value": (changed((": 0.3", "")), "line 6, rule bike.*: '' is no probability"),
    "two lines": (changed(("0.3", r'"a\nb"')), r"line 6, rule bike.*: 'a\\nb' is no probability"),
    "list": (changed(("0.3", "[0.3]")), "line 6: a probability must be"),
    "nan": (changed(("0.3", "nan")), "line 6, rule bike, production 2: has probability nan"),
    "infinity": (changed(("0.3", "inf")), "line 6, rule bike, production 2: has probability inf"),
    "zero": (changed(("0.3", "0")), "line 6, rule bike, production 2: has probability 0"),
    "negative": (changed(("0.3", "-0.3")), "line 6, rule bike, production 2: has probability -0.3"),
    # What stands twice.
    "rule twice": (f"{GOOD}  car: [a]\n", "line 10: car stands twice in rules; keep one"),
    "production twice": (
        changed(("[c d, d]", "[c d, c  d]")),
        "line 8, rule wheel, production 2: is the same as production 1",
    ),
    "weighted production twice": (changed(("wheel wheel", "a b")), "line 6: a b stands twice in rule bike"),
    "letter twice": (changed(("a b c d\n", "a b c d b\n")), "letters: b: listed twice"),
    "letter with a rule": (changed(("a b c d\n", "a b c d car\n")), "letters: car: has a rule too"),
    "concept in two groups": (changed(("[bomb]", "[bomb, car]")), "groups: unsafe: car is in group safe too"),
    "concept twice": (changed(("[bike, car]", "[bike, bike, car]")), "groups: safe: bike is in group safe too"),
    "group twice": (changed(("unsafe:", "safe:")), "line 3: safe stands twice in groups"),
    "key twice": (f"{GOOD}start: bike\n", "line 10: start stands twice in a grammar"),
    # Keys, letters, groups, start.
    "unknown key": (f"{GOOD}colour: red\n", "line 10, colour: is none of letters, start, groups, rules; remove it"),
    "no letters": (changed(("letters: a b c d\n", "")), "line 1: letters is missing; add letters"),
    "no groups": (changed(("groups: {safe: [bike, car], unsafe: [bomb]}\n", "")), "line 1: groups is missing"),
    "no rules": (GOOD[: GOOD.index("rules")], "line 1: rules is missing"),
    "rules empty": (f"{GOOD[: GOOD.index('rules')]}rules:\n", "line 4: rules must be a mapping"),
    "rules in a list": (f"{GOOD[: GOOD.index('rules')]}rules: [a]\n", "line 4: rules must be a mapping"),
    "one letter": (changed(("letters: a b c d", "letters: a")), "letters: 1 given, 2 needed"),
    "letters as a mapping": (changed(("letters: a b c d", "letters: {a: b}")), "line 1: letters must be text"),
    "letter in a list": (changed(("letters: a b c d", "letters: [[a], b]")), "line 1: letters must be text"),
    "letter with a blank": (
        changed(("letters: a b c d", "letters: [a, b, c, d, e f]")),
        "'e f' is no name, letters must be one word",
    ),
    "letter without a name": (changed(("letters: a b c d", "letters: [a, b, c, d, '']")), "letters"),
    "one group": (changed((", unsafe: [bomb]", "")), "groups: 1 given, 2 needed"),
    "group without concepts": (changed(("[bomb]", "[]")), "groups: unsafe: has no concept"),
    "group of nothing": (changed(("[bomb]", "")), "groups: unsafe: has no concept"),
    "group as a mapping": (changed(("[bomb]", "{bomb: 1}")), "line 3: group unsafe must be text"),
    "groups in a list": (
        changed(("{safe: [bike, car], unsafe: [bomb]}", "[bike]")),
        "line 3: groups must be a mapping",
    ),
    "concept without a rule": (changed(("[bomb]", "[bom]")), "groups: unsafe: bom has no rule"),
    "start without a rule": (changed(("start: story", "start: tale")), "start: tale has no rule"),
    "start in a list": (changed(("start: story", "start: [story]")), "line 2: start must be text"),
    # What is no YAML, or too much of it.
    "nothing": ("", "empty: there is no grammar in it"),
    "comment": ("# to be written\n", "empty: there is no grammar in it"),
    "empty document": ("---\n", "line 2: a grammar must be a mapping"),
    "word": ("hello", "line 1: a grammar must be a mapping"),
    "list of words": ("- a\n- b\n", "line 1: a grammar must be a mapping"),
    "open bracket": (changed(("[c d, d]", "[c d, d")), "line 9: no YAML: did not find expected"),
    "tab": (changed(("  car", "\tcar")), "line 7: no YAML: found character that cannot start any token"),
    "colon": (changed(("car: wheel", "car: wheel: b")), "line 7: no YAML: mapping values are not allowed"),
    "end of string": (changed(("[b a]", '"b a')), r"line \d+: no YAML: found unexpected end of stream"),
    "control character": (changed(("b a", "b \0 a")), "line 9: holds the character"),
    "half a character": (changed(("b a", "b \ud800 a")), ""),
    "alias": (changed(("[c d, d]", "&x [c d, d]"), ("[b a]", "*x")), "line 9: anchors are not read; write it out"),
    "merge": (changed(("car: wheel", "car: &x {a: 1}"), ("[b a]", "{<<: *x}")), "line 9: anchors are not read"),
    "recursive alias": (changed(("[c d, d]", "&x [*x]")), "line 8: anchors are not read"),
    "too large": (f"{GOOD}#{'x' * LARGEST}", f"{LARGEST + len(GOOD) + 1} characters: at most {LARGEST} can be read"),
    "tag on everything": (f'{TAG} ["exit 3"]', "line 1: a grammar must be a mapping"),
    "tag on rules": (f"{GOOD[: GOOD.index('rules')]}rules: {TAG} [exit 3]", "line 4: rules must be a mapping"),
    "tag on a rule": (changed(("[c d, d]", f"{TAG} [exit 3]")), "line 8, rule wheel, production 1: exit is neither"),
    # A name may not break the line of the message.
    "letter of two lines": (changed(("letters: a b c d", r'letters: [a, b, c, d, "e\nf", "e\nf"]')), "letters"),
    "symbol of two lines": (f'{GOOD}  "x\\ny": a\n', "line 10"),
    "symbol of two lines, twice": (f'{GOOD}  "x\\ny": a\n  "x\\ny": b\n', "line 1[01]"),
    "concept of two lines": (changed(("[bomb]", r'["bo\nmb"]')), "(line 3|groups)"),
    "group of two lines": (changed(("unsafe: [bomb]", r'"un\nsafe": []')), "(line 3|groups)"),
    "start of two lines": (changed(("start: story", r'start: "sto\nry"')), "(line 2|start)"),
    "key of two lines": (f'{GOOD}"a\\nb": c\n', "line 10"),
    # Documents that disagree.
    "other letters": (f"{GOOD}---\n{changed(('a b c d', 'a b c d e'))}", "document 2: its letters differ"),
    "letters in another order": (f"{GOOD}---\n{changed(('a b c d', 'b a c d'))}", "document 2: its letters differ"),
    "other groups": (f"{GOOD}---\n{changed(('unsafe', 'other'))}", "document 2: its groups differ"),
    "fewer concepts": (f"{GOOD}---\n{changed(('[bike, car]', '[bike]'))}", "document 2: its groups differ"),
    "other concepts": (f"{GOOD}---\n{GOOD.replace('bomb', 'mine')}", "document 2: its groups differ"),
    "concepts dealt otherwise": (
        f"{GOOD}---\n{changed(('[bike, car]', '[bike, bomb]'), ('[bomb]}', '[car]}'))}",
        "document 2: its groups differ",
    ),
    "start in one only": (
        f"{GOOD}---\n{changed(('start: story', ''), ('  story: [bike bomb, car bike]', ''))}",
        "document 2: its start differs",
    ),
    "other start": (f"{GOOD}---\n{GOOD.replace('story', 'tale')}", "document 2: .*start"),
    "third document": (f"{GOOD}---\n{GOOD}---\n{changed(('a b c d', 'd c b a'))}", "document 3: its letters differ"),
    "nothing after the line": (f"{GOOD}---\n", "line 11: a grammar must be a mapping"),
    "error in the second": (
        f"{GOOD}---\n{changed(('[b a]', '[b x]'))}",
        "line 19, rule bomb, production 1: x is neither",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_line_with_its_place(name: str) -> None:
    source, message = BAD[name]
    with pytest.raises(SettingError, match=r"^source=") as caught:
        parse_grammars(source)
    assert len(str(caught.value).splitlines()) == 1
    assert re.search(message, str(caught.value))
    assert caught.value.bound
    assert caught.value.fix
    assert caught.value.name == "source"


@pytest.mark.parametrize(
    "source",
    [
        f"{TAG} ['{{}}']",
        changed(("[c d, d]", f"{TAG} ['{{}}']")),
        changed(("car: wheel", f"car: {{{{{TAG} ['{{}}']: 1}}}}")),
        changed(("letters: a b c d", f"letters: {TAG} ['{{}}']")),
        changed(("start: story", f"start: {TAG} ['{{}}']")),
        changed(("0.3", f"{TAG} ['{{}}']")),
        f"{GOOD}more: !!python/object/new:os.system ['{{}}']",
        f"{GOOD}---\n{TAG} ['{{}}']",
    ],
)
def test_tags_are_not_executed(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "system", calls.append)
    command = f"touch {tmp_path / 'made'}"
    with pytest.raises(SettingError) as caught:
        parse_grammars(source.replace("{}", command))
    assert len(str(caught.value).splitlines()) == 1
    assert calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[\n", "{? ", "[[], "])
@pytest.mark.parametrize(
    "before",
    ["", "letters: ", f"{GOOD}  deep: ", f"{GOOD}---\nrules:\n  x: "],
    ids=["at once", "in letters", "in a rule", "in the second document"],
)
def test_deep_nesting_is_refused(opening: str, before: str) -> None:
    with pytest.raises(SettingError, match=r"^source=line \d+: (nested more than 4 deep|no YAML: )") as caught:
        parse_grammars(before + opening * (200_000 // len(opening)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("source", ["[" * 10_000_000, "[" * 5_000_000 + "]" * 5_000_000, "é" * 5_000_000])
def test_what_is_too_large_is_refused_before_it_is_read(source: str) -> None:
    with pytest.raises(
        SettingError, match=rf"^source={len(source)} characters: at most {LARGEST} can be read; shorten the gram"
    ):
        parse_grammars(source)


def test_thousands_of_rules_are_read() -> None:
    count = 8000
    rules = "".join(f"  n{i}: a\n" for i in range(count + 1))
    names = ", ".join(f"n{i}" for i in range(count + 1))
    grammar = parse_grammars(changed(("car: wheel\n", f"car: [{names}]\n{rules}")))[0]
    assert len(grammar.rules) == count + 6


def productions(grammar: nltk.PCFG) -> set[tuple[str, tuple[str, ...], float]]:
    return {(str(p.lhs()), tuple(map(str, p.rhs())), p.prob()) for p in grammar.productions()}


def test_nltk_reads_the_same_grammar(good: Grammar) -> None:
    read = nltk.PCFG.fromstring(to_nltk(good))
    assert str(read.start()) == "story"
    assert productions(read) == {
        (name, production.symbols, production.probability) for name, rule in good.rules.items() for production in rule
    }
    kinds = {
        (str(symbol), isinstance(symbol, nltk.Nonterminal))
        for p in read.productions()
        for symbol in (p.lhs(), *p.rhs())
    }
    assert kinds <= {(name, True) for name in good.rules} | {(letter, False) for letter in good.letters}


def test_nltk_reads_what_one_symbol_leads_to(good: Grammar) -> None:
    read = nltk.PCFG.fromstring(to_nltk(good, "wheel"))
    assert str(read.start()) == "wheel"
    assert productions(read) == {("wheel", ("c", "d"), 0.5), ("wheel", ("d",), 0.5)}
    assert str(nltk.PCFG.fromstring(to_nltk(good, "bike")).start()) == "bike"


@pytest.mark.parametrize("letter", [*ODD, "a\\b", "\\"])
def test_nltk_reads_odd_letters(letter: str) -> None:
    read = nltk.PCFG.fromstring(to_nltk(odd_grammar(("a", letter) if letter != "a" else ("a", "b")), "q"))
    assert {symbol for p in read.productions() for symbol in p.rhs() if isinstance(symbol, str)} == {"a", letter}


@pytest.mark.parametrize("probability", [0.25, 1 / 3, 1e-3, 1e-6, 1.5e-12])
def test_nltk_reads_rare_productions(probability: float) -> None:
    rules = {
        "p": (Production(("a",), probability), Production(("b",), 1 - probability)),
        "q": (Production(("b",), 1.0),),
    }
    grammar = make_grammar(("a", "b"), rules, {"A": ("p",), "B": ("q",)}, None)
    assert productions(nltk.PCFG.fromstring(to_nltk(grammar, "p"))) == {
        ("p", ("a",), probability),
        ("p", ("b",), 1 - probability),
    }


def test_nltk_needs_a_symbol_to_begin_with(good: Grammar) -> None:
    without = parse_grammars(changed(("start: story\n", ""), ("  story: [bike bomb, car bike]\n", "")))[0]
    with pytest.raises(SettingError, match=r"^start=none: the grammar has no start; name the symbol to begin with$"):
        to_nltk(without)
    assert to_nltk(without, "bomb") == "bomb -> 'b' 'a' [1.0]"


def test_for_people_has_one_line_a_nonterminal(good: Grammar) -> None:
    assert for_people(good).splitlines()[0] == "story -> bike bomb | car bike"
    assert {line.split()[0]: line.split("-> ")[1] for line in for_people(good).splitlines()} == {
        "story": "bike bomb | car bike",
        "bike": "wheel wheel (0.7) | a b (0.3)",
        "car": "wheel",
        "wheel": "c d | d",
        "bomb": "b a",
    }


def test_for_people_has_a_line_for_each_symbol_of_a_random_grammar(key: jax.Array) -> None:
    grammar = grammars(GrammarConfig(dirichlet=1.0), key)[0]
    lines = for_people(grammar).splitlines()
    assert [line.split(" ")[0] for line in lines] == list(grammar.rules)
    assert len({line.index("->") for line in lines}) == 1
