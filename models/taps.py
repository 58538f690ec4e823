"""Activations by name: the sites of a forward pass, and capturing or changing them."""

from collections.abc import Callable, Mapping, Sequence

import jax

from models.transformer import Layout, ModelConfig, Params, forward


def sites(config: ModelConfig, vocab_size: int) -> dict[str, tuple[str | int, ...]]:
    """The shape of the activation at every site, "B" and "T" standing for batch and positions."""
    K = config.head_width
    stream, hidden = ("B", "T", config.width), ("B", "T", config.hidden)
    queries, keys = ("B", "T", config.heads, K), ("B", "T", config.keys, K)
    gated = {"mlp.pre_linear": hidden} if config.mlp == "swiglu" else {}
    block: dict[str, tuple[str | int, ...]] = {
        "resid_pre": stream,
        "attn.q": queries,
        "attn.k": keys,
        "attn.v": keys,
        "attn.z": queries,
        "attn_out": stream,
        "resid_mid": stream,
        "mlp.in": stream,
        "mlp.pre": hidden,
        **gated,
        "mlp.post": hidden,
        "mlp_out": stream,
        "resid_post": stream,
    }
    per_layer = {f"blocks.{i}.{site}": shape for i in range(config.layers) for site, shape in block.items()}
    return {"embed": stream, **per_layer, "logits": ("B", "T", vocab_size)}


def capture(
    config: ModelConfig, params: Params, tokens: jax.Array, names: Sequence[str], layout: Layout | None = None
) -> dict[str, jax.Array]:
    """The activations at sites `names` for `tokens` [B, T].

    Raises KeyError for a name that is no site.
    """
    seen: dict[str, jax.Array] = {}

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site in names:
            seen[site] = x
        return x

    forward(config, params, tokens, tap, layout)
    return {name: seen[name] for name in names}


def edit(
    config: ModelConfig,
    params: Params,
    tokens: jax.Array,
    edits: Mapping[str, Callable[[jax.Array], jax.Array]],
    layout: Layout | None = None,
) -> jax.Array:
    """Logits [B, T, V] with the activation x at each site of `edits` replaced by edits[site](x).

    Raises KeyError for a name that is no site.
    """
    unused = set(edits)

    def tap(site: str, x: jax.Array) -> jax.Array:
        unused.discard(site)
        return edits[site](x) if site in edits else x

    logits = forward(config, params, tokens, tap, layout)
    if unused:
        raise KeyError(min(unused))
    return logits
