"""Strings of letters, and of symbols, that a drawn grammar's productions write."""

import itertools

import numpy as np


def count_strings(alphabet: int, lengths: tuple[int, int], enough: int) -> int:
    """How many strings of such lengths there are, counted no further than to `enough`."""
    total = 0
    for n in range(lengths[0], lengths[1] + 1):
        # Beyond 60 letters even two make more strings than a grammar has productions.
        total += alphabet ** min(n, 60)
        if total >= enough:
            break
    return total


def twin_pairs(places: np.ndarray, productions: int) -> list[tuple[int, int]]:
    """Pairs of productions of different symbols, among the sorted `places`, each in one pair at most."""
    half = len(places) // 2
    pairs = zip(places[:half].tolist(), places[half : 2 * half].tolist(), strict=True)
    return [(one, other) for one, other in pairs if one // productions != other // productions]


def distinct_strings(
    rng: np.random.Generator, alphabet: int, lengths: tuple[int, int], count: int
) -> list[tuple[int, ...]]:
    """`count` different strings over `range(alphabet)`, their lengths spread evenly."""
    options = {n: count_strings(alphabet, (n, n), count) for n in range(lengths[0], lengths[1] + 1)}
    # Deal lengths round-robin, passing over a length once all its strings are taken.
    taken = dict.fromkeys(options, 0)
    for n in itertools.cycle(options):
        if sum(taken.values()) == count:
            break
        taken[n] += taken[n] < options[n]
    strings: list[tuple[int, ...]] = []
    for n, number in taken.items():
        if options[n] < 2**20:
            codes = rng.choice(options[n], size=number, replace=False)
            digits = codes[:, None] // alphabet ** np.arange(n) % alphabet
            strings += map(tuple, digits.tolist())
            continue
        # Of so many, a repeat is rare: draw until there are enough different ones.
        found: dict[tuple[int, ...], None] = {}
        while len(found) < number:
            found[tuple(rng.integers(alphabet, size=n).tolist())] = None
        strings += found
    return [strings[i] for i in rng.permutation(count)]
