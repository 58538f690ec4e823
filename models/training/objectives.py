"""Safety-tuning objectives: one pure function and one dataclass of coefficients each.

All share the signature `(model, params, reference, pair, hyper) -> Terms`, values for each
example; the mean of the loss is minimised. `log p(y|x)` below is summed over the response's
letters and its EOS; `l` is the cross-entropy -log p(y|x) / |y|, a mean over the same tokens.
y^p is the preferred response (the bijection's output on a safe prompt, the null token on an
unsafe one), y^l the other.
Equations: arXiv 2407.10264, sec. 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.fork import fork
from models.training.loop import Terms
from models.transformer import ModelConfig, Params, forward
from synth import vocab
from synth.sequences import END, RESPONSE, Batch, Pair
from synth.settings import require_above_zero

Objective = Callable[[ModelConfig, Params, Params, Pair, Any], Terms]


def _next_logits(model: ModelConfig, params: Params, batch: Batch) -> jax.Array:
    """[B, T - 1, V] float32: row t is for token t + 1."""
    return forward(model, params, batch.tokens[:, :-1]).astype(jnp.float32)


def token_logprobs(model: ModelConfig, params: Params, batch: Batch) -> jax.Array:
    """[B, T - 1] log-probability of token t + 1 given tokens 0..t."""
    return _chosen(_next_logits(model, params, batch), batch)


def _chosen(logits: jax.Array, batch: Batch) -> jax.Array:
    chosen = jnp.take_along_axis(logits, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


class Score(NamedTuple):
    """Log-probability of the responses of a batch."""

    total: jax.Array
    """[B] log p(y|x), summed over tokens"""
    tokens: jax.Array
    """[B] |y|"""

    @property
    def cross_entropy(self) -> jax.Array:
        """[B] l, the mean over tokens."""
        return -self.total / self.tokens.astype(self.total.dtype)


def _counted(batch: Batch) -> jax.Array:
    """[B, T - 1] bool: whether token t + 1 is of the response, its EOS included."""
    roles = batch.roles[:, 1:]
    return (roles == RESPONSE) | (roles == END)


def score(model: ModelConfig, params: Params, batch: Batch) -> Score:
    """Log-probability of each response in `batch`, EOS included."""
    return _score(_next_logits(model, params, batch), batch)


def _score(logits: jax.Array, batch: Batch) -> Score:
    counted = _counted(batch)
    return Score(jnp.sum(jnp.where(counted, _chosen(logits, batch), 0.0), axis=-1), jnp.sum(counted, axis=-1))


def score_pair(model: ModelConfig, params: Params, pair: Pair) -> tuple[Score, Score]:
    """Scores of the preferred and of the dispreferred responses."""
    preferred, dispreferred, _ = _both(model, params, pair)
    return preferred, dispreferred


def _both(model: ModelConfig, params: Params, pair: Pair) -> tuple[Score, Score, jax.Array]:
    """Scores of the preferred and of the dispreferred responses, and `_next_logits` of the preferred ones."""
    forked = fork(model, *pair)
    logits = forward(model, params, forked.tokens, layout=forked.layout).astype(jnp.float32)
    preferred, dispreferred = forked.apart(logits)
    first, second = forked.sequences
    return _score(preferred, first), _score(dispreferred, second), preferred


class Ratios(NamedTuple):
    """The responses of B pairs against the reference."""

    gain: jax.Array
    """[B] log p(y^p) - log p_ref(y^p)"""
    leak: jax.Array
    """[B] log p(y^l) - log p_ref(y^l)"""
    logged: dict[str, jax.Array]
    """log p of both responses"""


def log_ratios(model: ModelConfig, params: Params, reference: Params, pair: Pair) -> Ratios:
    """How much more probable both responses are than under the reference."""
    ours = score_pair(model, params, pair)
    theirs = score_pair(model, jax.lax.stop_gradient(reference), pair)
    return Ratios(ours[0].total - theirs[0].total, ours[1].total - theirs[1].total, _logged(*ours))


def _logged(preferred: Score, dispreferred: Score) -> dict[str, jax.Array]:
    return {"logp_preferred": preferred.total, "logp_dispreferred": dispreferred.total}


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class SFT:
    """Supervised fine-tuning has no coefficients."""


def sft(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: SFT) -> Terms:
    """l(y^p): cross-entropy of the preferred response (SSFT)."""
    preferred = score(model, params, pair.preferred)
    return Terms(preferred.cross_entropy, {"logp_preferred": preferred.total})


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class DPO:
    """The two coefficients of the paper; equal ones give ordinary DPO."""

    beta: float = 0.1
    """Weight of the preferred response's log-ratio to the reference."""
    gamma: float = 0.01
    """Weight of the dispreferred one's."""
    per: float = 1.0
    """Tokens that log-probabilities are divided by. 1 leaves them sums over the response, as in
    ordinary DPO. The code released with the paper divides them by its window of 159 tokens, so
    the paper's coefficients go with per=159."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma", "per")


def dpo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: DPO) -> Terms:
    """-log sigmoid( beta / per [log p(y^p) - log p_ref(y^p)] - gamma / per [log p(y^l) - log p_ref(y^l)] ).

    Log-probabilities are sums over tokens, so with per = 1 the coefficients are those of ordinary
    DPO. The paper (sec. 2) writes l for log p without saying over how many tokens; the code
    released with it divides the sums by its window, 159 tokens, whatever a response's length.
    At the reference the loss is log 2.
    """
    ratios = log_ratios(model, params, reference, pair)
    gain, leak = hyper.beta / hyper.per * ratios.gain, hyper.gamma / hyper.per * ratios.leak
    return Terms(-jax.nn.log_sigmoid(gain - leak), {"gain": gain, "leak": leak, **ratios.logged})


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class Unlearning:
    """How hard the dispreferred response is pushed away."""

    gamma: float = 0.1

    def __post_init__(self) -> None:
        require_above_zero(self, "gamma")


def unlearning(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: Unlearning) -> Terms:
    """l(y^p) - gamma l(y^l): descent on the preferred, ascent on the dispreferred response.

    l is a mean over the response's tokens. The code released with the paper divides the sums by
    its window of 159 tokens instead. Both responses to a prompt are of one length, so that gamma
    weighs the same; only a prompt's weight in the batch then goes by its length, and the scale of
    the loss, which Adam takes out.
    """
    return _descent_and_ascent(*score_pair(model, params, pair), hyper.gamma)


def _descent_and_ascent(preferred: Score, dispreferred: Score, gamma: jax.Array | float) -> Terms:
    descent, ascent = preferred.cross_entropy, -gamma * dispreferred.cross_entropy
    return Terms(descent + ascent, {"descent": descent, "ascent": ascent, **_logged(preferred, dispreferred)})


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class NPO:
    """Negative preference optimisation beside the preferred response."""

    beta: float = 0.1
    """Inverse temperature: the smaller, the more like plain ascent."""
    gamma: float = 0.1
    """Weight of the dispreferred response's term."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma")


def npo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: NPO) -> Terms:
    """l(y^p) - gamma (2 / beta) log sigmoid( -beta [log p(y^l) - log p_ref(y^l)] ).

    `unlearning` with its unbounded ascent replaced by negative preference optimisation (Zhang et
    al. 2024, arXiv 2404.05868, Eq. 3), which is bounded below. Log-probabilities in it are sums
    over tokens, l is a mean. At the reference the second term is gamma (2 / beta) log 2.
    """
    preferred, dispreferred = score_pair(model, params, pair)
    anchor = score(model, jax.lax.stop_gradient(reference), pair.dispreferred)
    leak = dispreferred.total - anchor.total
    descent = preferred.cross_entropy
    ascent = -hyper.gamma * (2 / hyper.beta) * jax.nn.log_sigmoid(-hyper.beta * leak)
    return Terms(descent + ascent, {"descent": descent, "ascent": ascent, **_logged(preferred, dispreferred)})


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class UnlearningKL:
    """Unlearning that holds on to the reference where the preferred response is not a refusal."""

    gamma: float = 0.1
    """Weight of the dispreferred response."""
    delta: float = 1.0
    """Weight of the divergence from the reference."""

    def __post_init__(self) -> None:
        require_above_zero(self, "gamma", "delta")


def unlearning_kl(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: UnlearningKL) -> Terms:
    """l(y^p) - gamma l(y^l) + delta KL(p_ref || p), the last on safe prompts alone.

    KL is a mean over the tokens of y^p of the divergence of the next token's distribution
    (Yao et al. 2023, arXiv 2310.10683, use it to keep what is not to be unlearnt). 0 at the
    reference.
    """
    preferred, dispreferred, ours = _both(model, params, pair)
    theirs = _next_logits(model, jax.lax.stop_gradient(reference), pair.preferred)
    plain = _descent_and_ascent(preferred, dispreferred, hyper.gamma)
    kl = _divergence(ours, theirs, pair.preferred)
    drift = hyper.delta * jnp.where(is_refusal(pair.preferred), 0.0, kl)
    return Terms(plain.loss + drift, {"drift": drift, **plain.parts})


def _divergence(logits: jax.Array, reference_logits: jax.Array, batch: Batch) -> jax.Array:
    """[B] KL(p_ref || p) of the next token, the mean over the response's letters and EOS."""
    ours, theirs = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference_logits)
    counted = _counted(batch)
    return jnp.mean(jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1), axis=-1, where=counted)


def is_refusal(batch: Batch) -> jax.Array:
    """[B] whether the response begins with the null token."""
    return jnp.take_along_axis(batch.tokens, batch.go[:, None] + 1, axis=-1)[:, 0] == vocab.NULL


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class IPO:
    """Identity preference optimisation."""

    tau: float = 0.05
    """Regularisation: the margin aimed at is 1 / (2 tau)."""

    def __post_init__(self) -> None:
        require_above_zero(self, "tau")


def ipo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: IPO) -> Terms:
    """( [log p(y^p) - log p_ref(y^p)] - [log p(y^l) - log p_ref(y^l)] - 1 / (2 tau) )^2.

    Azar et al. 2023, arXiv 2310.12036, Eq. 17; log-probabilities are sums over tokens. At the
    reference the loss is 1 / (4 tau^2).
    """
    gain, leak, logged = log_ratios(model, params, reference, pair)
    return Terms(jnp.square(gain - leak - 1 / (2 * hyper.tau)), {"gain": gain, "leak": leak, **logged})


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class SimPO:
    """Simple preference optimisation: no reference."""

    beta: float = 2.0
    """Scale of the mean log-probabilities."""
    gamma: float = 1.0
    """Margin aimed at."""

    def __post_init__(self) -> None:
        require_above_zero(self, "beta", "gamma")


def simpo(model: ModelConfig, params: Params, reference: Params, pair: Pair, hyper: SimPO) -> Terms:
    """-log sigmoid( -beta l(y^p) + beta l(y^l) - gamma ).

    Meng et al. 2024, arXiv 2405.14734, Eq. 6: log-probabilities are means over tokens, that is -l.
    """
    preferred, dispreferred = score_pair(model, params, pair)
    margin = hyper.beta * (dispreferred.cross_entropy - preferred.cross_entropy) - hyper.gamma
    return Terms(-jax.nn.log_sigmoid(margin), {"margin": margin, **_logged(preferred, dispreferred)})


class Method(NamedTuple):
    """A row of the registry."""

    objective: Objective
    hyper: type
    prompts: str = "labelled"
    """What it is tuned on, one of `synth.tuning_data.KINDS`"""
    control: bool = False
    """Whether it teaches no safety, and stands beside those that do to say what any tuning changes"""


METHODS: dict[str, Method] = {
    "sft": Method(sft, SFT),
    "dpo": Method(dpo, DPO),
    "unlearning": Method(unlearning, Unlearning),
    "npo": Method(npo, NPO),
    "unlearning_kl": Method(unlearning_kl, UnlearningKL),
    "ipo": Method(ipo, IPO),
    "simpo": Method(simpo, SimPO),
    # Safe prompts alone, complied with.
    "continued": Method(sft, SFT, prompts="safe", control=True),
    # The prompts of sft, as many to be refused, chosen by chance.
    "shuffled": Method(sft, SFT, prompts="shuffled", control=True),
    # The prompts of sft, as many to be refused, by a feature of the text that has nothing to do with safety.
    "irrelevant": Method(sft, SFT, prompts="irrelevant", control=True),
    # The prompts of sft, all to be refused.
    "refuse_all": Method(sft, SFT, prompts="refused", control=True),
    # Goes on with pretraining's prompts, complying.
    "pretraining_more": Method(sft, SFT, prompts="pretraining", control=True),
}
SAFETY = tuple(name for name, method in METHODS.items() if not method.control)
"""Methods that teach safety"""
CONTROLS = tuple(name for name, method in METHODS.items() if method.control)
"""Methods that do not"""
