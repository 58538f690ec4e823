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
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models.kernels import affine, attend, layer_norm, matmul, once, rotary_angles, rotated
from synth.keys import fold
from synth.settings import require, require_among, require_positive

Params = dict[str, Any]
Tap = Callable[[str, jax.Array], jax.Array]
"""`tap(site, x) -> x` sees, and may replace, the activation at every site of `models.taps.sites`."""


class Layout(NamedTuple):
    """Where tokens stand and what they see, if not one behind the other and all that are before."""

    positions: jax.Array
    """[B, T] of each token, below `ModelConfig.context`"""
    visible: jax.Array
    """[B, T, T] bool: whether token i sees token j; each sees itself"""


@dataclass(unsafe_hash=True)
class ModelConfig:
    """The shape of a model. The Llama shape is rotary, rms, swiglu, without biases, kv_heads < heads."""

    name: str = field(default="quick", compare=False)
    """A label"""
    layers: int = 3
    heads: int = 4
    width: int = 64
    mlp_ratio: int = 4
    """Hidden units of the MLP per unit of width (F / D)."""
    context: int = 24
    """Most tokens a sequence may have."""
    positions: str = "learned"
    """How a position is told: "learned" embeddings, fixed "sinusoid" ones, or "rotary" queries and keys."""
    norm: str = "layer"
    """"layer" for LayerNorm, "rms" for RMSNorm."""
    mlp: str = "gelu"
    """"gelu", or "swiglu": gelu(x W_in) replaced by silu(x W_gate) * (x W_in)."""
    kv_heads: int | None = None
    """Heads of keys and values, each shared by heads / kv_heads queries; null is as many as heads."""
    biases: bool = True
    """Whether attention and MLP add biases."""
    tied: bool = False
    """Whether the unembedding is the transposed embedding."""
    reference_block: bool = False
    """The block of the code released with arXiv 2407.10264: ln1 is applied to the residual stream itself,
    which attention and MLP then read and write without a further norm; there is no ln2."""
    remat: bool = False
    """Whether training keeps only the residual stream between blocks, and computes each block again for its
    gradient: less memory, more time, the same model."""

    def __post_init__(self) -> None:
        require_positive(self, "layers", "heads", "width", "mlp_ratio", "context", most=2**16)
        lower = self.width // self.heads * self.heads
        require(
            self.width % self.heads == 0,
            "width",
            self.width,
            f"must be a multiple of heads={self.heads}",
            f"set width to {f'{lower} or ' if lower else ''}{lower + self.heads}",
        )
        require_among(self, "positions", ("learned", "sinusoid", "rotary"))
        require_among(self, "norm", ("layer", "rms"))
        require_among(self, "mlp", ("gelu", "swiglu"))
        if self.positions == "rotary":
            require(
                self.head_width % 2 == 0,
                "width",
                self.width,
                f"must give each of heads={self.heads} an even width, for rotary positions",
                f"set width to {2 * self.heads * max(1, self.head_width // 2)}",
            )
        if self.kv_heads is not None:
            require(
                self.kv_heads >= 1 and self.heads % self.kv_heads == 0,
                "kv_heads",
                self.kv_heads,
                f"must divide heads={self.heads}",
                f"set kv_heads to one of {[n for n in range(1, self.heads + 1) if self.heads % n == 0]}",
            )

    @property
    def hidden(self) -> int:
        return self.width * self.mlp_ratio

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads


def _normal(key: jax.Array, shape: tuple[int, ...], scale: float = 0.02) -> nnx.Param[jax.Array]:
    return nnx.Param(scale * jax.random.normal(key, shape))


class _Norm(nnx.Module):
    def __init__(self, config: ModelConfig) -> None:
        self.w = nnx.Param(jnp.ones(config.width))
        self.b = nnx.Param(jnp.zeros(config.width)) if config.norm == "layer" else None

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return layer_norm(x_BTD, self.w[...], None if self.b is None else self.b[...])


def _bias(config: ModelConfig, size: int) -> nnx.Param[jax.Array] | None:
    return nnx.Param(jnp.zeros(size)) if config.biases else None


class _Attention(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        D, self.config = config.width, config
        kv = config.keys * config.head_width
        q, k, v, o = jax.random.split(key, 4)
        self.W_Q, self.W_K, self.W_V = _normal(q, (D, D)), _normal(k, (D, kv)), _normal(v, (D, kv))
        self.b_Q, self.b_K, self.b_V = _bias(config, D), _bias(config, kv), _bias(config, kv)
        self.W_O = _normal(o, (D, D), 0.02 / (2 * config.layers) ** 0.5)
        self.b_O = _bias(config, D)

    def __call__(self, x_BTD: jax.Array, layout: Layout | None, site: str, tap: Tap) -> jax.Array:
        config = self.config
        weights = jnp.concatenate([self.W_Q[...], self.W_K[...], self.W_V[...]], axis=-1)
        biases = [b[...] for b in (self.b_Q, self.b_K, self.b_V) if b is not None]
        together = affine(x_BTD, weights, jnp.concatenate(biases) if biases else None)
        ends = (config.width, config.width + config.keys * config.head_width)
        heads = (*x_BTD.shape[:-1], -1, config.head_width)
        q_BTHK, k_BTHK, v_BTHK = (
            tap(f"{site}.{name}", part.reshape(heads))
            for name, part in zip("qkv", jnp.split(together, ends, axis=-1), strict=True)
        )
        if config.positions == "rotary":
            positions = jnp.arange(x_BTD.shape[-2]) if layout is None else layout.positions
            q_BTHK, k_BTHK = rotated(q_BTHK, positions), rotated(k_BTHK, positions)
        k_BTHK, v_BTHK = (jnp.repeat(x, config.heads // config.keys, axis=2) for x in (k_BTHK, v_BTHK))
        z_BTHK = attend(q_BTHK, k_BTHK, v_BTHK, None if layout is None else layout.visible)
        z_BTD = tap(f"{site}.z", z_BTHK).reshape(x_BTD.shape)
        return affine(z_BTD, self.W_O[...], None if self.b_O is None else self.b_O[...])


class _MLP(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        D, F = config.width, config.hidden
        first, second = jax.random.split(key)
        self.W_in = _normal(first, (D, F))
        self.W_gate = _normal(fold(first, "gate"), (D, F)) if config.mlp == "swiglu" else None
        self.b_in = _bias(config, F)
        self.W_out = _normal(second, (F, D), 0.02 / (2 * config.layers) ** 0.5)
        self.b_out = _bias(config, D)

    def __call__(self, x_BTD: jax.Array, site: str, tap: Tap) -> jax.Array:
        x_BTD = tap(f"{site}.in", x_BTD)
        linear_BTF = affine(x_BTD, self.W_in[...], None if self.b_in is None else self.b_in[...])
        if self.W_gate is None:
            post_BTF = jax.nn.gelu(tap(f"{site}.pre", linear_BTF))
        else:
            pre_BTF = tap(f"{site}.pre", matmul(x_BTD, self.W_gate[...]))
            post_BTF = jax.nn.silu(pre_BTF) * tap(f"{site}.pre_linear", linear_BTF)
        post_BTF = tap(f"{site}.post", post_BTF)
        return affine(post_BTF, self.W_out[...], None if self.b_out is None else self.b_out[...])


class _Block(nnx.Module):
    def __init__(self, config: ModelConfig, key: jax.Array) -> None:
        attention, mlp = jax.random.split(key)
        self.ln1 = _Norm(config)
        self.ln2 = None if config.reference_block else _Norm(config)
        self.attn, self.mlp = _Attention(config, attention), _MLP(config, mlp)

    def __call__(self, x_BTD: jax.Array, layout: Layout | None, site: str, tap: Tap) -> jax.Array:
        x_BTD = tap(f"{site}.resid_pre", x_BTD)
        normed = self.ln1(x_BTD)
        if self.ln2 is None:
            x_BTD = normed
        x_BTD = x_BTD + tap(f"{site}.attn_out", self.attn(normed, layout, f"{site}.attn", tap))
        x_BTD = tap(f"{site}.resid_mid", x_BTD)
        normed = x_BTD if self.ln2 is None else self.ln2(x_BTD)
        x_BTD = x_BTD + tap(f"{site}.mlp_out", self.mlp(normed, f"{site}.mlp", tap))
        # Keeps XLA from folding the sum of all blocks so far into each use of the stream.
        return tap(f"{site}.resid_post", once(x_BTD))


class _GPT(nnx.Module):
    def __init__(self, config: ModelConfig, vocab_size: int, key: jax.Array) -> None:
        embed, position, unembed, blocks = jax.random.split(key, 4)
        self.W_E = _normal(embed, (vocab_size, config.width))
        self.W_pos = _normal(position, (config.context, config.width)) if config.positions == "learned" else None
        keys = jax.random.split(blocks, config.layers)
        self.blocks = nnx.List([_Block(config, key) for key in keys])
        self.ln_final = _Norm(config)
        self.W_U = None if config.tied else _normal(unembed, (config.width, vocab_size))
        self.config = config

    def __call__(self, tokens_BT: jax.Array, layout: Layout | None, tap: Tap) -> jax.Array:
        x_BTD = _rows(self.W_E[...], tokens_BT)
        if self.config.positions != "rotary":
            learned = {} if self.W_pos is None else {"W_pos": self.W_pos[...]}
            count = tokens_BT.shape[-1] if layout is None else self.config.context
            position = position_embeddings(self.config, learned, count)
            position = position if layout is None else _rows(position, layout.positions)
            x_BTD = x_BTD + jnp.broadcast_to(position, x_BTD.shape).astype(x_BTD.dtype)
        x_BTD = tap("embed", x_BTD)
        for layer, block in enumerate(self.blocks):
            if self.config.remat and tap is no_tap:
                x_BTD = _rematerialised(block, x_BTD, layout)
            else:
                x_BTD = block(x_BTD, layout, f"blocks.{layer}", tap)
        unembed = self.W_E[...].T if self.W_U is None else self.W_U[...]
        return tap("logits", matmul(self.ln_final(x_BTD), unembed))


def _rows(table: jax.Array, which: jax.Array) -> jax.Array:
    """The rows `which` of a table, their gradients summed in float32: in bfloat16 a sum of hundreds stops growing."""
    return table.astype(jnp.float32)[which].astype(table.dtype)


def position_embeddings(config: ModelConfig, params: Params, count: int) -> jax.Array:
    """[T, D] what is added to the embeddings of `count` tokens; there is none for rotary positions."""
    if config.positions == "learned":
        return params["W_pos"][:count]
    angles = rotary_angles(jnp.arange(count), config.width + config.width % 2)
    # Sine in the even dimensions, cosine in the odd ones (Vaswani et al. 2017, sec. 3.5).
    turning = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return turning.reshape(count, -1)[:, : config.width]


def _rematerialised(block: _Block, x_BTD: jax.Array, layout: Layout | None) -> jax.Array:
    graph, state = nnx.split(block)
    out: jax.Array = jax.checkpoint(lambda state, x: nnx.merge(graph, state)(x, layout, "", no_tap))(state, x_BTD)
    return out


def no_tap(site: str, x: jax.Array) -> jax.Array:
    return x


@functools.cache
def _graph(config: ModelConfig, vocab_size: int) -> nnx.GraphDef[_GPT]:
    model = nnx.eval_shape(lambda: _GPT(config, vocab_size, jax.random.key(0)))
    return nnx.graphdef(model)


def init(config: ModelConfig, vocab_size: int, key: jax.Array) -> Params:
    """Fresh weights, a nested dict: W_E [V, D], W_pos [context, D], blocks, ln_final, W_U [D, V].

    What a setting leaves out (W_pos, W_U, biases, ln2) is not there. Matrices are normal with
    deviation 0.02, those that write to the residual stream scaled down by sqrt(2 layers) as in
    GPT-2; biases start at 0.
    """
    state = nnx.state(_GPT(config, vocab_size, key))
    params: Params = nnx.to_pure_dict(state)
    # Orbax and safetensors want string keys; NNX lists have integer ones.
    return {**params, "blocks": {str(layer): block for layer, block in params["blocks"].items()}}


def forward(
    config: ModelConfig, params: Params, tokens: jax.Array, tap: Tap = no_tap, layout: Layout | None = None
) -> jax.Array:
    """Logits [B, T, V] for `tokens` [B, T]: row t predicts token t + 1 and sees tokens 0..t, or what `layout` says.

    Computed in the type of `params`. Raises ValueError for more than `config.context` tokens, unless there is a
    layout, whose positions are not checked.
    """
    if layout is None:
        check_length(config, tokens.shape[-1])
    blocks = {int(layer): block for layer, block in params["blocks"].items()}
    model = nnx.merge(_graph(config, params["W_E"].shape[0]), {**params, "blocks": blocks})
    return model(tokens, layout, tap)


def check_length(config: ModelConfig, length: int) -> None:
    """Raises ValueError for more tokens than the model has positions."""
    if length > config.context:
        raise ValueError(f"{length} tokens: the model's context is {config.context}")
