"""Generation the slow way, to compare with."""

from collections.abc import Callable
from typing import Any

import numpy as np

from synth import vocab


def one_by_one(logits: Callable[[np.ndarray], Any], tokens: list[int], go: int) -> list[int]:
    """Greedy continuation of one prompt, `logits` of tokens [1, T - 1] asked anew for every token."""
    out, length = tokens[: go + 1], len(tokens)
    while len(out) < length and out[-1] != vocab.EOS:
        padded = np.array([out + [vocab.PAD] * (length - 1 - len(out))], np.int32)
        out.append(int(np.argmax(logits(padded)[0, len(out) - 1])))
    return out + [vocab.PAD] * (length - len(out))
