"""Tests of `models/transformer.py` against a NumPy model, and of what a causal model must not see."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from models.kernels import attend, layer_norm, matmul
from models.taps import capture, edit, sites
from models.transformer import Layout, ModelConfig, Params, forward, init
from models.weights import flatten
from synth.keys import fold
from synth.settings import SettingError
from synth.world import World

# float32 over two small layers: a few hundred roundings of 6e-8 on logits of order 10.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}

SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "llama": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "biases": False, "heads": 4, "kv_heads": 2},
    "sinusoid": {"positions": "sinusoid", "biases": False},
    "tied": {"tied": True},
    "rms": {"norm": "rms"},
    "reference_block": {"reference_block": True},
    "gated and biased": {"mlp": "swiglu", "kv_heads": 1, "positions": "rotary"},
}
"""Together they have every value of every setting."""


class Case(NamedTuple):
    """A model of one of the shapes, and what it does with the tokens."""

    config: ModelConfig
    params: Params
    seen: dict[str, jax.Array]
    """The activation at every site"""
    halved: jax.Array
    """Logits of the same weights in bfloat16"""
    gradient: np.ndarray
    """[T, D] of the squared logits at position 4 of the first sequence, to its embeddings"""


@pytest.fixture(scope="module")
def tokens(world: World, key: jax.Array) -> jax.Array:
    return jax.random.randint(fold(key, "tokens"), (3, 7), 0, world.vocab.size)


@pytest.fixture(scope="module", params=SHAPES)
def case(request: pytest.FixtureRequest, world: World, model: ModelConfig, tokens: jax.Array, key: jax.Array) -> Case:
    config = dataclasses.replace(model, **SHAPES[request.param])
    params = noisy(config, world.vocab.size, key)
    names = list(sites(config, world.vocab.size))

    @jax.jit
    def everything(params: Params) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        def logits_at_4(shift: jax.Array) -> jax.Array:
            logits = edit(config, params, tokens[:1], {"embed": lambda x: x + shift})
            return jnp.sum(jnp.square(logits[0, 4]))

        gradient = jax.grad(logits_at_4)(jnp.zeros((1, 7, config.width)))[0]
        return capture(config, params, tokens, names), forward(config, half(params), tokens), gradient

    seen, halved, gradient = everything(params)
    return Case(config, params, seen, halved, np.asarray(gradient))


def noisy(config: ModelConfig, vocab_size: int, key: jax.Array) -> Params:
    """Weights large enough that nothing cancels or vanishes."""
    shapes = jax.eval_shape(lambda: init(config, vocab_size, key))
    leaves, tree = jax.tree.flatten(shapes)
    draws = np.random.default_rng(7)
    return jax.tree.unflatten(tree, [jnp.float32(0.4 * draws.normal(size=leaf.shape)) for leaf in leaves])


def half(params: Params) -> Params:
    return jax.tree.map(lambda weights: weights.astype(jnp.bfloat16), params)


def numpy_norm(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """LayerNorm if there is a bias, RMSNorm if there is none."""
    if "b" not in weights:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weights["w"]
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weights["w"] + weights["b"]


def turned(x: np.ndarray) -> np.ndarray:
    """Rotary positions of one head, x [T, K]: each pair (i, i + K/2) a complex number."""
    T, K = x.shape
    angles = np.outer(np.arange(T), 10000.0 ** (-2 * np.arange(K // 2) / K))
    z = (x[:, : K // 2] + 1j * x[:, K // 2 :]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


def numpy_positions(config: ModelConfig, p: Params, length: int) -> np.ndarray | float:
    if config.positions == "rotary":
        return 0.0
    if config.positions == "learned":
        return np.asarray(p["W_pos"][:length])
    rows = [
        [(np.cos if d % 2 else np.sin)(t / 10000 ** (2 * (d // 2) / config.width)) for d in range(config.width)]
        for t in range(length)
    ]
    return np.array(rows)


def numpy_mlp(config: ModelConfig, x: np.ndarray, m: dict[str, np.ndarray]) -> np.ndarray:
    linear = x @ m["W_in"] + m.get("b_in", 0.0)
    if config.mlp == "swiglu":
        gate = x @ m["W_gate"]
        post = gate * expit(gate) * linear
    else:
        post = 0.5 * linear * (1 + np.tanh(np.sqrt(2 / np.pi) * (linear + 0.044715 * linear**3)))
    return post @ m["W_out"] + m.get("b_out", 0.0)


def numpy_logits(config: ModelConfig, params: Params, tokens: np.ndarray) -> np.ndarray:
    """The model again, one sequence and one head at a time, in float64."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    K = config.width // config.heads
    shared_by = config.heads // (config.kv_heads or config.heads)
    turn = turned if config.positions == "rotary" else np.asarray
    out = []
    for row in tokens:
        x = p["W_E"][row] + numpy_positions(config, p, len(row))
        for block in p["blocks"].values():
            a, h = block["attn"], numpy_norm(x, block["ln1"])
            q, k, v = (h @ a[f"W_{n}"] + a.get(f"b_{n}", 0.0) for n in "QKV")
            heads = []
            for i in range(config.heads):
                j = i // shared_by
                mine, theirs = slice(i * K, (i + 1) * K), slice(j * K, (j + 1) * K)
                scores = turn(q[:, mine]) @ turn(k[:, theirs]).T / np.sqrt(K)
                scores[np.triu_indices(len(row), 1)] = -np.inf
                heads.append(softmax(scores, axis=-1) @ v[:, theirs])
            stream = h if config.reference_block else x
            x = stream + np.concatenate(heads, axis=-1) @ a["W_O"] + a.get("b_O", 0.0)
            h = x if config.reference_block else numpy_norm(x, block["ln2"])
            x = x + numpy_mlp(config, h, block["mlp"])
        out.append(numpy_norm(x, p["ln_final"]) @ (p["W_E"].T if config.tied else p["W_U"]))
    return np.stack(out)


def test_logits_equal_a_numpy_model(case: Case, tokens: jax.Array) -> None:
    expected = numpy_logits(case.config, case.params, np.asarray(tokens))
    np.testing.assert_allclose(np.asarray(case.seen["logits"]), expected, **TOLERANCE)


def test_no_position_sees_a_later_one(case: Case) -> None:
    """Logits at t depend on the input at t and before, and on nothing after, whatever the tokens."""
    size = np.linalg.norm(case.gradient, axis=-1)
    assert (size[:5] > 0).all()
    assert (size[5:] == 0).all()


def test_sites_are_all_there_with_their_shapes(case: Case, world: World, tokens: jax.Array) -> None:
    axes = {"B": 3, "T": 7}
    table = sites(case.config, world.vocab.size)
    for name, shape in table.items():
        assert case.seen[name].shape == tuple(axes[a] if isinstance(a, str) else a for a in shape), name
    visited: list[str] = []

    def tap(site: str, x: jax.Array) -> jax.Array:
        visited.append(site)
        return x

    jax.eval_shape(lambda: forward(case.config, case.params, tokens, tap))
    assert visited == list(table)


def test_in_bfloat16_the_logits_are_near_and_so_typed(case: Case, tokens: jax.Array) -> None:
    assert case.halved.dtype == jnp.bfloat16
    # A rounding is 2^-9 of the value, and a few tens of them follow one another.
    logits = np.asarray(case.seen["logits"])
    assert np.linalg.norm(np.asarray(case.halved, np.float32) - logits) < 0.05 * np.linalg.norm(logits)
    loss: Callable[[Params], jax.Array] = lambda p: jnp.sum(forward(case.config, p, tokens))  # noqa: E731
    gradients = jax.eval_shape(lambda p: jax.grad(loss)(half(p)), case.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("shape", ["default", "llama"])
def test_computing_blocks_again_changes_neither_logits_nor_gradients(
    shape: str, world: World, model: ModelConfig, tokens: jax.Array, key: jax.Array
) -> None:
    plain = dataclasses.replace(model, **SHAPES[shape])
    params = noisy(plain, world.vocab.size, key)

    def logits_and_gradients(config: ModelConfig) -> tuple[jax.Array, Params]:
        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            logits = forward(config, params, tokens)
            return jnp.mean(jnp.square(logits)), logits

        (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return logits, gradients

    logits, gradients = logits_and_gradients(plain)
    again, gradients_again = logits_and_gradients(dataclasses.replace(plain, remat=True))
    np.testing.assert_allclose(np.asarray(again), np.asarray(logits), rtol=1e-5, atol=1e-5)
    scale = max(np.abs(gradient).max() for gradient in flatten(gradients).values())
    for name, gradient in flatten(gradients).items():
        np.testing.assert_allclose(flatten(gradients_again)[name], gradient, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_a_block_computed_again_keeps_its_weights_and_its_input_alone(
    world: World, model: ModelConfig, tokens: jax.Array, key: jax.Array
) -> None:
    def kept(**settings: Any) -> int:
        """Numbers that the backward pass holds on to."""
        config = dataclasses.replace(model, **settings)
        shapes = jax.eval_shape(lambda: init(config, world.vocab.size, key))
        backward = jax.eval_shape(lambda p: jax.vjp(lambda p: forward(config, p, tokens), p)[1], shapes)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    block = jax.eval_shape(lambda: init(model, world.vocab.size, key))["blocks"]["0"]
    # Nothing depends on the bias that is added last.
    weights = sum(leaf.size for leaf in jax.tree.leaves(block)) - block["mlp"]["b_out"].size
    assert kept(remat=True, layers=3) - kept(remat=True, layers=2) == weights + tokens.size * model.width
    assert kept(remat=False) > 1.5 * kept(remat=True)


def test_the_gradient_of_a_product_is_the_products_gradient(key: jax.Array) -> None:
    x = jax.random.normal(fold(key, "x"), (3, 4, 5))
    weights = jax.random.normal(fold(key, "weights"), (5, 2))

    def through(product: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(product(x, w))), argnums=(0, 1))(x, weights)

    for ours, plain in zip(through(matmul), through(jnp.matmul), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("centred", [True, False])
def test_the_gradient_of_a_norm_is_the_one_jax_finds(centred: bool, key: jax.Array) -> None:
    x = 2 + jax.random.normal(fold(key, "x"), (3, 4, 6))
    w = jax.random.normal(fold(key, "w"), (6,))
    b = jax.random.normal(fold(key, "b"), (6,)) if centred else None

    def plain(x: jax.Array, w: jax.Array, b: jax.Array | None) -> jax.Array:
        away = x - jnp.mean(x, axis=-1, keepdims=True) if centred else x
        unit = away / jnp.sqrt(jnp.mean(jnp.square(away), axis=-1, keepdims=True) + 1e-5)
        return unit * w[None, None] + (0.0 if b is None else b[None, None])

    assert_same_values_and_gradients(layer_norm, plain, x, w, b)


@pytest.mark.parametrize("length", [1, 5])
def test_the_gradient_of_attention_is_the_one_jax_finds(length: int, key: jax.Array) -> None:
    q, k, v = (2 * jax.random.normal(fold(key, name), (2, length, 3, 4)) for name in "qkv")
    plain = functools.partial(jax.nn.dot_product_attention, is_causal=True)
    assert_same_values_and_gradients(attend, plain, q, k, v)


@pytest.mark.parametrize("forked", [False, True])
def test_in_bfloat16_the_gradient_of_a_table_does_not_stop_growing(
    forked: bool, world: World, model: ModelConfig
) -> None:
    """Of a thousand equal prompts, whose gradients have one sign."""
    params = noisy(model, world.vocab.size, jax.random.key(0))
    tokens = jnp.full((1024, 4), 3)
    causal = jnp.broadcast_to(jnp.tril(jnp.ones((4, 4), bool)), (1024, 4, 4))
    layout = Layout(jnp.tile(jnp.arange(4), (1024, 1)), causal) if forked else None

    def first(params: Params) -> jax.Array:
        return jnp.sum(forward(model, params, tokens, layout=layout)[:, -1, 0].astype(jnp.float32))

    gradient = jax.jit(jax.grad(first))
    wide, narrow = (jax.tree.map(np.asarray, gradient(weights)) for weights in (params, half(params)))
    for table, row in (("W_E", 3), ("W_pos", 3)):
        sizes = [np.linalg.norm(np.asarray(found[table][row], float)) for found in (wide, narrow)]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


def test_attention_sees_what_is_visible(key: jax.Array) -> None:
    q, k, v = (2 * jax.random.normal(fold(key, name), (2, 5, 3, 4)) for name in "qkv")
    visible = jax.random.bernoulli(fold(key, "visible"), 0.5, (2, 5, 5)) | jnp.eye(5, dtype=bool)[None]
    plain = functools.partial(jax.nn.dot_product_attention, mask=visible[:, None])
    assert_same_values_and_gradients(functools.partial(attend, visible_BTT=visible), plain, q, k, v)


def assert_same_values_and_gradients(ours: Callable[..., jax.Array], plain: Callable[..., jax.Array], *x: Any) -> None:
    def through(function: Callable[..., jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(function(*x))))
        return function(*x), gradient(x)

    for got, expected in zip(*(jax.tree.leaves(through(function)) for function in (ours, plain)), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-5, atol=1e-5)


def test_the_residual_stream_is_the_sum_of_what_is_written_to_it(case: Case) -> None:
    total, seen = np.asarray(case.seen["embed"]), case.seen
    for layer in range(case.config.layers):
        total = total + seen[f"blocks.{layer}.attn_out"] + seen[f"blocks.{layer}.mlp_out"]
    last = np.asarray(seen[f"blocks.{case.config.layers - 1}.resid_post"])
    # The reference block normalises the stream itself.
    assert np.allclose(total, last, rtol=1e-5, atol=1e-5) != case.config.reference_block


def test_patching_a_run_with_itself_changes_nothing(
    world: World, model: ModelConfig, params: Params, tokens: jax.Array
) -> None:
    names = list(sites(model, world.vocab.size))
    seen = capture(model, params, tokens, names)
    patched = edit(model, params, tokens, {name: lambda x, name=name: seen[name] for name in names})  # type: ignore[misc]
    assert (patched == seen["logits"]).all()


def test_a_common_shift_of_the_stream_is_invisible_behind_layer_norm_alone(
    world: World, model: ModelConfig, tokens: jax.Array, key: jax.Array
) -> None:
    for norm in ("layer", "rms"):
        config = dataclasses.replace(model, norm=norm, layers=1)
        params = noisy(config, world.vocab.size, key)
        plain, shifted = (
            np.asarray(edit(config, params, tokens, {"blocks.0.resid_post": lambda x, by=by: x + by}))  # type: ignore[misc]
            for by in (0.0, 5.0)
        )
        assert np.allclose(shifted, plain, **TOLERANCE) == (norm == "layer")


def test_capturing_what_is_no_site_is_an_error(model: ModelConfig, params: Params, tokens: jax.Array) -> None:
    with pytest.raises(KeyError, match=r"blocks\.9"):
        capture(model, params, tokens, ["blocks.9.mlp.in"])
    with pytest.raises(KeyError, match=r"blocks\.9"):
        edit(model, params, tokens, {"blocks.9.mlp.in": lambda x: x})


def test_more_tokens_than_the_context_are_an_error(case: Case) -> None:
    longest = case.config.context
    jax.eval_shape(lambda: forward(case.config, case.params, jnp.zeros((1, longest), jnp.int32)))
    with pytest.raises(ValueError, match=f"{longest + 1} tokens: the model's context is {longest}"):
        forward(case.config, case.params, jnp.zeros((1, longest + 1), jnp.int32))


def test_init_depends_on_the_key_alone_and_has_the_stated_scale(world: World, key: jax.Array) -> None:
    config = ModelConfig(layers=2, width=64, mlp="swiglu")
    one, two = init(config, world.vocab.size, key), init(config, world.vocab.size, key)
    assert all((flatten(one)[name] == array).all() for name, array in flatten(two).items())
    block = one["blocks"]["0"]
    np.testing.assert_allclose(np.std(block["mlp"]["W_in"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(block["mlp"]["W_gate"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(block["mlp"]["W_out"]), 0.02 / 2, rtol=0.05)
    assert abs(np.corrcoef(block["mlp"]["W_in"].ravel(), block["mlp"]["W_gate"].ravel())[0, 1]) < 0.05


BIASES = {f"blocks.0.{name}" for name in ("attn.b_Q", "attn.b_K", "attn.b_V", "attn.b_O", "mlp.b_in", "mlp.b_out")}
LEFT_OUT: list[tuple[dict[str, Any], set[str]]] = [
    ({"positions": "sinusoid"}, {"W_pos"}),
    ({"positions": "rotary"}, {"W_pos"}),
    ({"tied": True}, {"W_U"}),
    ({"norm": "rms"}, {"ln_final.b", "blocks.0.ln1.b", "blocks.0.ln2.b"}),
    ({"reference_block": True}, {"blocks.0.ln2.w", "blocks.0.ln2.b"}),
    ({"biases": False}, BIASES),
    ({"remat": True}, set()),
]


@pytest.mark.parametrize(("settings", "absent"), LEFT_OUT, ids=[str(settings) for settings, _ in LEFT_OUT])
def test_weights_that_a_setting_leaves_out_are_not_there(settings: dict[str, Any], absent: set[str]) -> None:
    def names(**settings: Any) -> set[str]:
        shapes = jax.eval_shape(lambda: init(ModelConfig(layers=1, width=8, heads=2, **settings), 5, jax.random.key(0)))
        leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
        return {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves}

    assert names() - names(**settings) == absent
    assert names(**settings) <= names()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"width": 65}, "width=65: must be a multiple of heads=4; set width to 64 or 68"),
    ({"width": 3}, "width=3: must be a multiple of heads=4; set width to 4"),
    (
        {"width": 12, "positions": "rotary"},
        "width=12: must give each of heads=4 an even width, for rotary positions; set width to 8",
    ),
    (
        {"width": 4, "positions": "rotary"},
        "width=4: must give each of heads=4 an even width, for rotary positions; set width to 8",
    ),
    ({"positions": "alibi"}, "positions=alibi: must be one of learned, sinusoid, rotary; set positions to learned"),
    ({"norm": "batch"}, "norm=batch: must be one of layer, rms; set norm to layer"),
    ({"mlp": "relu"}, "mlp=relu: must be one of gelu, swiglu; set mlp to gelu"),
    ({"kv_heads": 3}, "kv_heads=3: must divide heads=4; set kv_heads to one of [1, 2, 4]"),
    ({"kv_heads": 0}, "kv_heads=0: must divide heads=4; set kv_heads to one of [1, 2, 4]"),
    ({"kv_heads": 8}, "kv_heads=8: must divide heads=4; set kv_heads to one of [1, 2, 4]"),
    ({"context": 0}, "context=0: must be at least 1; set context to 1 or more"),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_shape_that_cannot_be_is_an_error_with_its_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        ModelConfig(**settings)
    assert str(caught.value) == message
