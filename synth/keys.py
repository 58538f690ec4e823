"""Random keys by name: a key depends on what it is for, never on the order of calls."""

import zlib

import jax


def fold(key: jax.Array, *names: str | int | jax.Array) -> jax.Array:
    """`key` folded with each name in turn; a string enters by its CRC-32.

    >>> bool((fold(jax.random.key(0), "a") == fold(jax.random.key(0), "a")).all())
    True
    """
    for name in names:
        key = jax.random.fold_in(key, zlib.crc32(name.encode()) if isinstance(name, str) else name)
    return key


def batch_keys(key: jax.Array, size: int, first: int | jax.Array = 0) -> jax.Array:
    """Keys [size] number `first`, `first` + 1, ...; each is the same whatever `size` is."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jax.numpy.arange(size))
