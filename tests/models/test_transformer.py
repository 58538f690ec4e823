"""Tests of `models/transformer.py` against a NumPy model, and of what a causal model must not see."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from models.taps import capture, edit, sites
from models.transformer import ModelConfig, Params, _matmul, forward, init
from models.weights import flatten
from synth.keys import fold
from synth.settings import SettingError
from synth.world import World

# float32 over two small layers: a few hundred roundings of 6e-8 on logits of order 10.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def tokens(world: World, key: jax.Array) -> jax.Array:
    return jax.random.randint(fold(key, "tokens"), (3, 7), 0, world.vocab.size)


def layer_norm(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * weights["w"] + weights["b"]


def numpy_logits(config: ModelConfig, params: Params, tokens: np.ndarray) -> np.ndarray:
    """The model again, one sequence and one head at a time, in float64."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    K = config.width // config.heads
    out = []
    for row in tokens:
        x = p["W_E"][row] + p["W_pos"][: len(row)]
        for block in p["blocks"].values():
            a, h = block["attn"], layer_norm(x, block["ln1"])
            q, k, v = (h @ a[f"W_{n}"] + a[f"b_{n}"] for n in "QKV")
            heads = []
            for i in range(config.heads):
                part = slice(i * K, (i + 1) * K)
                scores = q[:, part] @ k[:, part].T / np.sqrt(K)
                scores[np.triu_indices(len(row), 1)] = -np.inf
                heads.append(softmax(scores, axis=-1) @ v[:, part])
            x = x + np.concatenate(heads, axis=-1) @ a["W_O"] + a["b_O"]
            m = block["mlp"]
            pre = layer_norm(x, block["ln2"]) @ m["W_in"] + m["b_in"]
            post = 0.5 * pre * (1 + np.tanh(np.sqrt(2 / np.pi) * (pre + 0.044715 * pre**3)))
            x = x + post @ m["W_out"] + m["b_out"]
        out.append(layer_norm(x, p["ln_final"]) @ p["W_U"])
    return np.stack(out)


def test_logits_equal_a_numpy_model(model: ModelConfig, params: Params, tokens: jax.Array) -> None:
    expected = numpy_logits(model, params, np.asarray(tokens))
    np.testing.assert_allclose(forward(model, params, tokens), expected, **TOLERANCE)


def test_no_position_sees_a_later_one(model: ModelConfig, params: Params, tokens: jax.Array) -> None:
    """Logits at t depend on the input at t and before, and on nothing after, whatever the tokens."""

    def logits_at_4(shift: jax.Array) -> jax.Array:
        logits = edit(model, params, tokens[:1], {"embed": lambda x: x + shift})
        return jnp.sum(jnp.square(logits[0, 4]))

    gradient = jax.grad(logits_at_4)(jnp.zeros((1, 7, model.width)))
    size = np.linalg.norm(gradient[0], axis=-1)
    assert (size[:5] > 0).all()
    assert (size[5:] == 0).all()


def test_the_gradient_of_a_product_is_the_products_gradient(key: jax.Array) -> None:
    x = jax.random.normal(fold(key, "x"), (3, 4, 5))
    weights = jax.random.normal(fold(key, "weights"), (5, 2))

    def through(product: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(product(x, w))), argnums=(0, 1))(x, weights)

    for ours, plain in zip(through(_matmul), through(jnp.matmul), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


def test_sites_are_all_there_with_their_shapes(
    world: World, model: ModelConfig, params: Params, tokens: jax.Array
) -> None:
    table = sites(model, world.vocab.size)
    seen = capture(model, params, tokens, list(table))
    axes = {"B": 3, "T": 7}
    for name, shape in table.items():
        assert seen[name].shape == tuple(axes[a] if isinstance(a, str) else a for a in shape), name
    visited: list[str] = []
    forward(model, params, tokens, lambda site, x: visited.append(site) or x)  # type: ignore[func-returns-value]
    assert visited == list(table)


def test_the_residual_stream_is_the_sum_of_what_is_written_to_it(
    world: World, model: ModelConfig, params: Params, tokens: jax.Array
) -> None:
    seen = capture(model, params, tokens, list(sites(model, world.vocab.size)))
    total = seen["embed"]
    for layer in range(model.layers):
        total = total + seen[f"blocks.{layer}.attn_out"] + seen[f"blocks.{layer}.mlp_out"]
    np.testing.assert_allclose(total, seen[f"blocks.{model.layers - 1}.resid_post"], rtol=1e-5, atol=1e-5)


def test_patching_a_run_with_itself_changes_nothing(
    world: World, model: ModelConfig, params: Params, tokens: jax.Array
) -> None:
    names = list(sites(model, world.vocab.size))
    seen = capture(model, params, tokens, names)
    patched = edit(model, params, tokens, {name: lambda x, name=name: seen[name] for name in names})
    assert (patched == seen["logits"]).all()


def test_a_common_shift_of_the_stream_is_invisible_behind_layer_norm(
    model: ModelConfig, params: Params, tokens: jax.Array
) -> None:
    shifted = edit(model, params, tokens, {"blocks.1.resid_post": lambda x: x + 5.0})
    np.testing.assert_allclose(shifted, forward(model, params, tokens), **TOLERANCE)


def test_capturing_what_is_no_site_is_an_error(model: ModelConfig, params: Params, tokens: jax.Array) -> None:
    with pytest.raises(KeyError, match=r"blocks\.9"):
        capture(model, params, tokens, ["blocks.9.mlp.in"])
    with pytest.raises(KeyError, match=r"blocks\.9"):
        edit(model, params, tokens, {"blocks.9.mlp.in": lambda x: x})


def test_init_depends_on_the_key_alone_and_has_the_stated_scale(world: World, key: jax.Array) -> None:
    config = ModelConfig(layers=2, width=64)
    one, two = init(config, world.vocab.size, key), init(config, world.vocab.size, key)
    assert all((flatten(one)[name] == array).all() for name, array in flatten(two).items())
    block = one["blocks"]["0"]
    np.testing.assert_allclose(np.std(block["mlp"]["W_in"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(block["mlp"]["W_out"]), 0.02 / 2, rtol=0.05)


def test_width_must_divide_among_the_heads() -> None:
    with pytest.raises(SettingError, match=r"width=65: must be a multiple of heads=4; set width to 64 or 68"):
        ModelConfig(width=65)
