"""A pre-LayerNorm GPT: pure `init` and `forward` over a nested dict of named weights.

Axis letters
    B  batch            T  positions        D  width of the residual stream
    H  heads            K  width of a head  F  hidden units of the MLP
    V  vocabulary

Weights carry TransformerLens's names (W_E, W_Q, W_in, ...) and act from the right, x @ W.
Flax appears in this file only; everything public is a pure function of plain arrays.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from synth.settings import require, require_positive

Params = dict[str, Any]
Tap = Callable[[str, jax.Array], jax.Array]
"""`tap(site, x) -> x` sees, and may replace, the activation at every site of `models.taps.sites`."""


@dataclass(unsafe_hash=True)
class ModelConfig:
    """The shape of a model."""

    name: str = "quick"
    layers: int = 3
    heads: int = 4
    width: int = 64
    mlp_ratio: int = 4
    """Hidden units of the MLP per unit of width (F / D)."""
    context: int = 24
    """Most tokens a sequence may have."""

    def __post_init__(self) -> None:
        require_positive(self, "layers", "heads", "width", "mlp_ratio", "context")
        lower = self.width // self.heads * self.heads
        require(
            self.width % self.heads == 0,
            "width",
            self.width,
            f"must be a multiple of heads={self.heads}",
            f"set width to {lower or self.heads} or {lower + self.heads}",
        )

    @property
    def hidden(self) -> int:
        return self.width * self.mlp_ratio


def _normal(key: jax.Array, shape: tuple[int, ...], scale: float = 0.02) -> nnx.Param[jax.Array]:
    return nnx.Param(scale * jax.random.normal(key, shape))


@jax.custom_vjp
def _matmul(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x [..., m] @ weights [m, n], with a gradient that is quicker on CPU than JAX's own.

    Left alone, XLA computes the incoming gradient again, transposed and with strides, inside
    each of the two products that need it; the barrier makes it once. A training step of three
    layers of width 64 takes three quarters of the time. Reverse mode only.
    """
    return x @ weights


def _matmul_forward(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ weights, (x, weights)


def _matmul_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weights = saved
    gradient = jax.lax.optimization_barrier(gradient)
    rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return gradient @ weights.T, jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))


_matmul.defvjp(_matmul_forward, _matmul_backward)


def _affine(x: jax.Array, weights: jax.Array, bias: jax.Array) -> jax.Array:
    """x @ weights + bias over the last axis of x."""
    product = _matmul(x, weights)
    return product + jnp.broadcast_to(bias, product.shape)


class _LayerNorm(nnx.Module):
    def __init__(self, width: int) -> None:
        self.w = nnx.Param(jnp.ones(width))
        self.b = nnx.Param(jnp.zeros(width))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        centred = x_BTD - x_BTD.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        w, b = (jnp.broadcast_to(part[...], x_BTD.shape) for part in (self.w, self.b))
        return centred * jax.lax.rsqrt(variance + 1e-5) * w + b


class _Attention(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        D, self.heads = config.width, config.heads
        q, k, v, o = jax.random.split(key, 4)
        self.W_Q, self.W_K, self.W_V = (_normal(key, (D, D)) for key in (q, k, v))
        self.b_Q, self.b_K, self.b_V = (nnx.Param(jnp.zeros(D)) for _ in range(3))
        self.W_O = _normal(o, (D, D), 0.02 / (2 * config.layers) ** 0.5)
        self.b_O = nnx.Param(jnp.zeros(D))

    def __call__(self, x_BTD: jax.Array, site: str, tap: Tap) -> jax.Array:
        weights = jnp.concatenate([self.W_Q[...], self.W_K[...], self.W_V[...]], axis=-1)
        biases = jnp.concatenate([self.b_Q[...], self.b_K[...], self.b_V[...]], axis=-1)
        parts = jnp.split(_affine(x_BTD, weights, biases), 3, axis=-1)
        split = (*x_BTD.shape[:-1], self.heads, -1)
        q_BTHK, k_BTHK, v_BTHK = (
            tap(f"{site}.{name}", part.reshape(split)) for name, part in zip("qkv", parts, strict=True)
        )
        z_BTHK = jax.nn.dot_product_attention(q_BTHK, k_BTHK, v_BTHK, is_causal=True)
        z_BTD = tap(f"{site}.z", z_BTHK).reshape(x_BTD.shape)
        return _affine(z_BTD, self.W_O[...], self.b_O[...])


class _MLP(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        D, F = config.width, config.hidden
        first, second = jax.random.split(key)
        self.W_in = _normal(first, (D, F))
        self.b_in = nnx.Param(jnp.zeros(F))
        self.W_out = _normal(second, (F, D), 0.02 / (2 * config.layers) ** 0.5)
        self.b_out = nnx.Param(jnp.zeros(D))

    def __call__(self, x_BTD: jax.Array, site: str, tap: Tap) -> jax.Array:
        x_BTD = tap(f"{site}.in", x_BTD)
        pre_BTF = tap(f"{site}.pre", _affine(x_BTD, self.W_in[...], self.b_in[...]))
        post_BTF = tap(f"{site}.post", jax.nn.gelu(pre_BTF))
        return _affine(post_BTF, self.W_out[...], self.b_out[...])


class _Block(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        attention, mlp = jax.random.split(key)
        self.ln1, self.ln2 = _LayerNorm(config.width), _LayerNorm(config.width)
        self.attn, self.mlp = _Attention(config, attention), _MLP(config, mlp)

    def __call__(self, x_BTD: jax.Array, site: str, tap: Tap) -> jax.Array:
        x_BTD = tap(f"{site}.resid_pre", x_BTD)
        x_BTD = x_BTD + tap(f"{site}.attn_out", self.attn(self.ln1(x_BTD), f"{site}.attn", tap))
        x_BTD = tap(f"{site}.resid_mid", x_BTD)
        x_BTD = x_BTD + tap(f"{site}.mlp_out", self.mlp(self.ln2(x_BTD), f"{site}.mlp", tap))
        # Keeps XLA from folding the sum of all blocks so far into each use of the stream.
        return tap(f"{site}.resid_post", jax.lax.optimization_barrier(x_BTD))


class _GPT(nnx.Module):
    def __init__(self, config: ModelConfig, vocab_size: int, key: jax.Array) -> None:
        embed, position, unembed, blocks = jax.random.split(key, 4)
        self.W_E = _normal(embed, (vocab_size, config.width))
        self.W_pos = _normal(position, (config.context, config.width))
        keys = jax.random.split(blocks, config.layers)
        self.blocks = nnx.List([_Block(config, key) for key in keys])
        self.ln_final = _LayerNorm(config.width)
        self.W_U = _normal(unembed, (config.width, vocab_size))

    def __call__(self, tokens_BT: jax.Array, tap: Tap) -> jax.Array:
        embedded_BTD = self.W_E[...][tokens_BT]
        position_TD = self.W_pos[...][: tokens_BT.shape[-1]]
        x_BTD = tap("embed", embedded_BTD + jnp.broadcast_to(position_TD, embedded_BTD.shape))
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, f"blocks.{layer}", tap)
        return tap("logits", _matmul(self.ln_final(x_BTD), self.W_U[...]))


def _no_tap(site: str, x: jax.Array) -> jax.Array:
    return x


@functools.cache
def _graph(config: ModelConfig, vocab_size: int) -> nnx.GraphDef[_GPT]:
    model = nnx.eval_shape(lambda: _GPT(config, vocab_size, jax.random.key(0)))
    return nnx.graphdef(model)


def init(config: ModelConfig, vocab_size: int, key: jax.Array) -> Params:
    """Fresh weights, a nested dict: W_E [V, D], W_pos [context, D], blocks, ln_final, W_U [D, V].

    Matrices are normal with deviation 0.02, those that write to the residual stream scaled
    down by sqrt(2 layers) as in GPT-2; biases start at 0.
    """
    state = nnx.state(_GPT(config, vocab_size, key))
    params: Params = nnx.to_pure_dict(state)
    # Orbax and safetensors want string keys; NNX lists have integer ones.
    return {**params, "blocks": {str(layer): block for layer, block in params["blocks"].items()}}


def forward(config: ModelConfig, params: Params, tokens: jax.Array, tap: Tap = _no_tap) -> jax.Array:
    """Logits [B, T, V] for `tokens` [B, T]: row t predicts token t + 1 and sees tokens 0..t."""
    blocks = {int(layer): block for layer, block in params["blocks"].items()}
    model = nnx.merge(_graph(config, params["W_E"].shape[0]), {**params, "blocks": blocks})
    return model(tokens, tap)
