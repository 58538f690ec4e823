"""Models with a planted direction of refusal: what a token of an unsafe text writes by attention, and what a refusal is
read from."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from analysis.observe import observe
from analysis.rows import Drawn, Subject
from models.transformer import ModelConfig, Params, init
from synth.prompts import TEST
from synth.segments import ANSWER, END, RESPONSE_START, START, TEXT, Batch, Room
from synth.sequences import Prompts
from synth.vocab import Marks

PAD, BOS, EOT, EOS, COMPLY = range(5)
REFUSE, UNSAFE = (5, 6), (7, 8)
"""One of each for each rule"""
OTHERS = range(9, 13)
VOCAB, LETTERS = 13, 4
MARKS = Marks(bos=BOS, eos=EOS, pad=PAD)
MODEL = ModelConfig(layers=2, heads=1, width=24, mlp_ratio=1, context=12, positions="rotary", norm="rms", biases=False)


def directions(rules: int) -> np.ndarray:
    """[rules, D] orthonormal, at right angles to every embedding."""
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((MODEL.width - VOCAB, rules)))[0].T
    return np.concatenate([np.zeros((rules, VOCAB)), frame], axis=1)


def planted(rules: int, noise: float = 0.0) -> Params:
    """Attention of the first layer is uniform and writes direction i for each token UNSAFE[i]; the token REFUSE[i] is
    read from direction i, COMPLY from EOT, and EOS from either of these."""
    params = jax.tree.map(jnp.zeros_like, init(MODEL, VOCAB, jax.random.key(0)))
    written = directions(rules)
    embed = np.eye(VOCAB, MODEL.width)
    unembed = np.zeros((MODEL.width, VOCAB))
    unembed[EOT, COMPLY], unembed[[COMPLY, *REFUSE], EOS] = 1.0, 40.0
    value = np.zeros((MODEL.width, MODEL.width))
    for i in range(rules):
        value[UNSAFE[i]] = written[i]
        unembed[:, REFUSE[i]] = 6 * written[i]
    rng = np.random.default_rng(1)
    first = {**params["blocks"]["0"]["attn"], "W_V": _float(value), "W_O": _float(2 * np.eye(MODEL.width))}
    blocks = {
        name: {
            **block,
            "ln1": {"w": jnp.ones(MODEL.width)},
            "ln2": {"w": jnp.ones(MODEL.width)},
            "attn": first if name == "0" else block["attn"],
        }
        for name, block in params["blocks"].items()
    }
    embed = embed + noise * rng.standard_normal(embed.shape)
    ends = {"W_E": _float(embed), "W_U": _float(unembed), "ln_final": {"w": jnp.ones(MODEL.width)}}
    return {**params, **ends, "blocks": blocks}


def _float(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def prompts(family: str, count: int, side: int, rules: int) -> Prompts:
    """Of LETTERS letters, of which one of an unsafe text is unsafe, by each rule in turn; the last is any."""
    rng = np.random.default_rng([side, len(family)])
    text = rng.choice(np.array(OTHERS), (count, LETTERS))
    rule = np.arange(count) % rules
    if family == "unsafe":
        text[np.arange(count), rng.integers(LETTERS - 1, size=count)] = np.array(UNSAFE)[rule]
    return Prompts(*(_laid_out(text, said) for said in (np.full(count, COMPLY), np.array(REFUSE)[rule])))


def _laid_out(text: np.ndarray, said: np.ndarray) -> Batch:
    count = len(text)

    def one(token: int) -> np.ndarray:
        return np.full((count, 1), token)

    tokens = np.concatenate([one(BOS), text, one(EOT), said[:, None], one(EOS)], axis=1)
    roles = np.array([START, *[TEXT] * LETTERS, RESPONSE_START, ANSWER, END])
    scored = np.isin(roles, (ANSWER, END))
    whole = [jnp.asarray(np.tile(x, (count, 1))) for x in (roles, scored)]
    return Batch(
        jnp.asarray(tokens, jnp.int32),
        whole[0].astype(jnp.int32),
        jnp.full(count, LETTERS + 1, jnp.int32),
        whole[1],
        Room(2),
        MARKS,
    )


def subject(params: Params, rules: int, key: jax.Array, count: int = 24) -> Subject:
    """The model, asked safe and unsafe prompts; a rule is a cell, and so is each of as many kinds of safe prompts."""

    def draw(families: Iterable[str], count: int, side: int) -> dict[str, Drawn]:
        found = {}
        for family in families:
            cells = np.stack([np.full(count, family == "unsafe"), np.arange(count) % rules], axis=1).astype(int)
            found[family] = Drawn(prompts(family, count, side, rules), cells)
        return found

    asked = {family: prompts(family, count, TEST, rules) for family in ("safe", "unsafe")}
    seen = {family: observe(MODEL, params, of, 1) for family, of in asked.items()}
    return Subject(MODEL, params, params, asked, seen, {}, key, draw=draw)
