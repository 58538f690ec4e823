"""Two clusters found without labels, and how well they and the labels go together."""

import numpy as np

LLOYD = 300
"""Iterations of k-means at most; some dozens are usual."""


def two_means(rows: np.ndarray, restarts: int, seed: int) -> np.ndarray:
    """[N] bool: the tightest of the partitions of rows [N, F] that k-means finds from `restarts` starts.

    Lloyd's iterations until nothing moves (or LLOYD of them), of all starts side by side: 64 of them cost what 4 one
    after the other do. A start is two rows, the second drawn by its squared distance to the first (k-means++, Arthur
    and Vassilvitskii 2007). Among partitions that are equally tight the first found counts.
    """
    rng = np.random.default_rng(seed)
    centred, count = rows - rows.mean(0), len(rows)
    squares = np.sum(centred**2, axis=1)
    first = rng.integers(count, size=restarts)
    far = np.cumsum(np.maximum(squares[first][:, None] + squares - 2 * centred[first] @ centred.T, 0), axis=1)
    second = np.argmax(far > rng.random((restarts, 1)) * far[:, -1:], axis=1)
    towards, middle = centred[second] - centred[first], (squares[second] - squares[first]) / 2
    found, between = np.zeros((restarts, count), bool), np.zeros(restarts)
    moving = np.arange(restarts)
    for _ in range(LLOYD):
        ones = towards @ centred.T > middle[:, None]
        moved = np.any(ones != found[moving], axis=1)
        found[moving] = ones
        moving, labels = moving[moved], ones[moved].astype(rows.dtype)
        # About the pooled mean the two sums of rows are opposite.
        sums, size = labels @ centred, labels.sum(axis=1, keepdims=True)
        means = sums / np.maximum(size, 1), -sums / np.maximum(count - size, 1)
        towards, middle = means[0] - means[1], np.sum(means[0] ** 2 - means[1] ** 2, axis=1) / 2
        # The tightest within is the widest between.
        between[moving] = np.sum(sums * towards, axis=1)
        if not len(moving):
            break
    best: np.ndarray = found[np.argmax(between)]
    return best


def kmeans_accuracy(rows: np.ndarray, is_safe: np.ndarray, restarts: int, seed: int) -> np.ndarray:
    """[P] share of rows [N, F] whose k-means cluster of two is that of their label, best matching of names."""
    share = np.mean(is_safe == two_means(rows, restarts, seed), axis=1)
    return np.maximum(share, 1 - share)


def silhouette(rows: np.ndarray, is_safe: np.ndarray) -> np.ndarray:
    """[P] mean of (b - a) / max(a, b) over rows [N, F]; 0 for a row without another of its label.

    a and b are a row's mean distances to the others of its label and to those of the other label.
    """
    centred = rows - rows.mean(0)
    squares = np.sum(centred**2, axis=1)
    between = np.sqrt(np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0))
    np.fill_diagonal(between, 0)
    labels = is_safe.astype(rows.dtype)
    to_safe, to_all = labels @ between, between.sum(axis=0)
    own, other = np.where(is_safe, (to_safe, to_all - to_safe), (to_all - to_safe, to_safe))
    count_safe = labels.sum(axis=1, keepdims=True)
    size = np.where(is_safe, count_safe, len(rows) - count_safe)
    own, other = own / np.maximum(size - 1, 1), other / np.maximum(len(rows) - size, 1)
    larger = np.maximum(own, other)
    known = (larger > 0) & (size > 1) & (size < len(rows))
    return np.mean(np.divide(other - own, larger, out=np.zeros_like(own), where=known), axis=1)
