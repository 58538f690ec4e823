"""Grammars in writing: a user's own from YAML, NLTK's form for other tools, a form for people.

The YAML of a grammar:

    letters: a b c d
    start: story                        # optional: what lies above the concepts
    groups: {safe: [bike, car], unsafe: [bomb]}
    rules:
      story: [bike bomb, car bike]      # equally probable productions
      bike: {wheel wheel: 0.7, a b: 0.3}
      ...

Several documents, separated by `---`, are several grammars over one alphabet.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from synth.grammar import Grammar, Production, make_grammar, reachable_from
from synth.settings import SettingError, require

LARGEST = 2**18
"""Characters that a grammar in YAML may have."""
STRANGE = re.compile(r"[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
"""What YAML cannot hold."""
DEEPEST = 4
"""Levels of nesting in a grammar's YAML, one more than it needs."""
KEYS = ("letters", "start", "groups", "rules")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def parse_grammars(source: str) -> tuple[Grammar, ...]:
    """The grammars written in `source`, one for each YAML document.

    Raises SettingError, named `source`, whose value is the place of what is wrong: the line, and
    the rule if it is one.
    """
    size = len(source)
    require(size <= LARGEST, "source", f"{size} characters", f"at most {LARGEST} can be read", "shorten the grammar")
    strange = STRANGE.search(source)
    if strange:
        place = f"line {source.count(chr(10), 0, strange.start()) + 1}"
        raise SettingError("source", place, f"holds the character {strange.group()!r}", "remove it")
    try:
        _check_nesting(source)
        documents = list(yaml.compose_all(source, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or "cannot be read"
        raise SettingError("source", _line(mark), f"no YAML: {problem}", "correct the line") from None
    grammars = tuple(_grammar(document) for document in documents)
    require(len(grammars) > 0, "source", "empty", "there is no grammar in it", "write letters, groups and rules")
    first = grammars[0]
    for number, grammar in enumerate(grammars[1:], 2):
        place = f"document {number}"
        require(grammar.letters == first.letters, "source", place, "its letters differ from the first", "use the same")
        same = list(grammar.groups.items()) == list(first.groups.items())
        require(same, "source", place, "its groups differ from the first's", "use the same groups and concepts")
        require(grammar.start == first.start, "source", place, "its start differs from the first's", "use the same")
    return grammars


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}" if mark else "YAML"


def _check_nesting(source: str) -> None:
    """Stops at the first place that is nested too deeply, before anything is built from it."""
    depth = 0
    for event in yaml.parse(source, _Loader):
        where = _line(event.start_mark)
        require(not isinstance(event, yaml.AliasEvent), "source", where, "anchors are not read", "write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        require(depth <= DEEPEST, "source", where, f"nested more than {DEEPEST} deep", "see the form of a grammar")


def _entries(node: Any, what: str, sides: bool = False) -> Iterator[tuple[str, Any, Any]]:
    """Key, key node and value node of a mapping without repeated keys; keys are names, or right-hand sides."""
    require(
        isinstance(node, yaml.MappingNode), "source", _line(node.start_mark), f"{what} must be a mapping", "name: ..."
    )
    seen: set[str] = set()
    for key, value in node.value:
        name = _text(key, f"a name in {what}") if sides else _word(key, f"a name in {what}")
        require(name not in seen, "source", _line(key.start_mark), f"{name} stands twice in {what}", "keep one")
        seen.add(name)
        yield name, key, value


def _text(node: Any, what: str) -> str:
    require(isinstance(node, yaml.ScalarNode), "source", _line(node.start_mark), f"{what} must be text", "write a word")
    return str(node.value)


def _word(node: Any, what: str) -> str:
    """A name: text without blanks."""
    text = _text(node, what)
    one = len(text.split()) == 1 and text == text.strip()
    require(one, "source", _line(node.start_mark), f"{text!r} is no name, {what} must be one word", "write one word")
    return text


def _words(node: Any, what: str) -> tuple[str, ...]:
    """Names in a list, or in one text separated by blanks."""
    if isinstance(node, yaml.SequenceNode):
        return tuple(_word(item, what) for item in node.value)
    return tuple(_text(node, what).split())


def _grammar(node: Any) -> Grammar:
    parts = {}
    for name, key, value in _entries(node, "a grammar"):
        place = f"{_line(key.start_mark)}, {name}"
        require(name in KEYS, "source", place, f"is none of {', '.join(KEYS)}", "remove it")
        parts[name] = value
    for name in ("letters", "groups", "rules"):
        require(name in parts, "source", _line(node.start_mark), f"{name} is missing", f"add {name}: ...")
    lines: dict[tuple[str, int | None], str] = {}
    rules = {}
    for symbol, key, value in _entries(parts["rules"], "rules"):
        lines[symbol, None] = _line(key.start_mark)
        productions = list(_productions(symbol, value))
        for i, (_, _, line) in enumerate(productions):
            lines[symbol, i] = line
        rules[symbol] = tuple(Production(tuple(words.split()), share) for words, share, _ in productions)

    def at(symbol: str, production: int | None) -> str:
        place = f"{lines[symbol, production]}, rule {symbol}"
        return place if production is None else f"{place}, production {production + 1}"

    return make_grammar(
        letters=_words(parts["letters"], "letters"),
        rules=rules,
        groups={name: _words(value, f"group {name}") for name, _, value in _entries(parts["groups"], "groups")},
        start=_word(parts["start"], "start") if "start" in parts else None,
        at=at,
    )


def _productions(symbol: str, node: Any) -> Iterator[tuple[str, float, str]]:
    """Right-hand side, probability and line of each production of one rule."""
    if isinstance(node, yaml.MappingNode):
        for words, key, value in _entries(node, f"rule {symbol}", sides=True):
            line = _line(key.start_mark)
            share = _text(value, "a probability")
            try:
                yield words, float(share), line
            except ValueError:
                place = f"{line}, rule {symbol}"
                raise SettingError("source", place, f"{share!r} is no probability", "write a number") from None
        return
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for item in items:
        yield _text(item, f"a production of {symbol}"), 1 / len(items), _line(item.start_mark)


def to_nltk(grammar: Grammar, symbol: str | None = None) -> str:
    """What `nltk.PCFG.fromstring` reads: the rules that `symbol` (the start, if None) leads to.

    Raises SettingError if there is no start and no symbol is given, or for a letter with both
    kinds of quotes in its name.
    """
    top = symbol or grammar.start
    if top is None:
        raise SettingError("start", "none", "the grammar has no start", "name the symbol to begin with")
    rules = reachable_from(grammar, top)
    lines = []
    for name in [top, *(name for name in rules if name != top)]:
        for production in rules[name]:
            side = " ".join(child if child in grammar.rules else _quoted(child) for child in production.symbols)
            # NLTK reads no exponents.
            lines.append(f"{name} -> {side} [{np.format_float_positional(production.probability, trim='0')}]")
    return "\n".join(lines)


def _quoted(letter: str) -> str:
    quote = '"' if "'" in letter else "'"
    require(quote not in letter, "source", letter, "cannot be written for NLTK with both kinds of quotes", "rename it")
    return f"{quote}{letter}{quote}"


def to_yaml(grammar: Grammar) -> str:
    """What `parse_grammars` reads."""
    rules = {
        symbol: {" ".join(p.symbols): p.probability for p in productions}
        for symbol, productions in grammar.rules.items()
    }
    content: dict[str, Any] = {"letters": list(grammar.letters)}
    if grammar.start is not None:
        content["start"] = grammar.start
    content |= {"groups": {name: list(concepts) for name, concepts in grammar.groups.items()}, "rules": rules}
    return yaml.safe_dump(content, sort_keys=False, width=10_000)


def for_people(grammar: Grammar) -> str:
    """One line a nonterminal: its productions, with probabilities where they differ."""
    width = max(map(len, grammar.rules))
    lines = []
    for symbol, productions in grammar.rules.items():
        even = len({p.probability for p in productions}) == 1
        sides = [" ".join(p.symbols) + ("" if even else f" ({p.probability:.2g})") for p in productions]
        lines.append(f"{symbol:<{width}} -> {' | '.join(sides)}")
    return "\n".join(lines)
