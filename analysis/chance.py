"""What chance alone gives of angles and lengths: closed forms, and draws where there is none.

u is a uniformly random unit vector throughout, and a frame is orthonormal columns in uniformly random position.
"""

import jax
import numpy as np
from scipy.special import gammaln


def root_mean_beta(a: float, b: float) -> float:
    """The mean of the square root of a Beta(a, b) variable, for a above 0 and b at least 0.

    For (d / 2, (n - d) / 2) it is the mean length of d of the n coordinates of u.
    """
    return float(np.exp(gammaln(a + 0.5) - gammaln(a) + gammaln(a + b) - gammaln(a + b + 0.5)))


def expected_sine(size: int, rank: int) -> float:
    """The mean sine of the angle of u [size] to a subspace of dimension `rank`; of each column of a frame, too.

    sin^2 is the share of the squared length outside, which is Beta((size - rank) / 2, rank / 2).
    """
    return root_mean_beta((size - rank) / 2, rank / 2) if rank < size else 0.0


def expected_outside(size: int, rank: int) -> float:
    """sqrt(1 - rank / size): the root mean square of that sine, and of ||(I - P) X||_F / ||X||_F for a random X
    [size, n] whatever its singular values, P projecting on a subspace of dimension `rank`."""
    return float(np.sqrt(1 - rank / size))


def expected_length(values: np.ndarray, size: int) -> float:
    """The mean of ||diag(values) u||: u [size] along as many orthonormal directions, scaled by `values` [r].

    With g normal, ||diag(values) g|| is that times the independent ||g||, and the root of the quadratic form
    Q = sum_i values_i^2 g_i^2 has the mean (4 pi)^(-1/2) times the integral over t > 0 of (1 - E exp(-t Q)) t^(-3/2),
    where E exp(-t Q) = prod_i (1 + 2 t values_i^2)^(-1/2). In ln t the integrand is analytic and falls off
    exponentially to both sides, so that the trapezoid rule is right to 1e-9.
    """
    squares = np.square(values, dtype=float)
    total = squares.sum()
    if total == 0:
        return 0.0
    at = np.arange(-48.0, 48.0, 0.125)
    logs = np.sum(np.log1p(2 * np.exp(at)[:, None] * (squares / total)), axis=1)
    root = 0.125 * np.sum(-np.expm1(-logs / 2) * np.exp(-at / 2)) / np.sqrt(4 * np.pi)
    norm = np.sqrt(2) * np.exp(gammaln((size + 1) / 2) - gammaln(size / 2))
    return float(np.sqrt(total) * root / norm)


def random_frames(size: int, vectors: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, size, vectors] orthonormal columns in uniformly random position."""
    return np.linalg.qr(_generator(key).standard_normal((draws, size, vectors)))[0]


def random_sines(size: int, rank: int, vectors: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, vectors] `subspaces.sines` of random frames [size, vectors] to a subspace of dimension `rank`.

    Exact, and without the frames. A frame is G R^-1 with G normal and R^T R = G^T G, and the
    angles depend only on the Gram matrices of the parts of G inside and outside the subspace.
    Those are Wishart, with triangular roots that can be drawn directly (Bartlett 1933).
    """
    rng = _generator(key)

    def root(degrees: int) -> np.ndarray:
        width = min(vectors, degrees)
        lower, i = np.tril(rng.standard_normal((draws, vectors, width)), -1), np.arange(width)
        lower[:, i, i] = np.sqrt(rng.chisquare(degrees - i, (draws, width)))
        return lower

    inside, outside = root(rank), root(size - rank)
    gram = inside @ inside.swapaxes(1, 2) + outside @ outside.swapaxes(1, 2)
    return np.clip(np.linalg.norm(np.linalg.solve(np.linalg.cholesky(gram), outside), axis=2), 0.0, 1.0)


def random_units(size: int, draws: int, key: jax.Array) -> np.ndarray:
    """[draws, size] uniformly random unit vectors: V^T a of any unit vector a for random orthogonal V."""
    normal = _generator(key).standard_normal((draws, size))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
