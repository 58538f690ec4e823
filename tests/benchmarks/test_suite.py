"""How long the whole analysis suite takes, by measurement. `make bench` prints; nothing is asserted.

Models are random, but for an unembedding that makes every one of them answer with null tokens, and the refusals they
are judged by are that answer: few prompts of a trained model are neither complied with nor refused, and those alone
are generated token by token.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from analysis import paths
from experiments.settings.config import load
from experiments.settings.names import UNTOUCHED
from experiments.settings.schema import StudyConfig
from experiments.stages.measure import Asked, prompts_of, subject
from experiments.stages.side_by_side import of_each
from experiments.study.plan import plan
from models.training.loop import seed_keys
from models.transformer import Params, init
from models.weights import one_seed
from synth import vocab
from synth.segments import ANSWER, PADDING
from synth.sequences import Prompts
from synth.world import build_world
from tests.experiments.conftest import BY_DEFAULT

SEEDS = 3
METHODS = ("sft", "dpo", "unlearning", "continued")


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items() if seconds >= 0.05)
        return f"{sum(self.seconds.values()):.1f} s: {parts}"


def always_null(params: Params) -> Params:
    """The model, its final bias along the first dimension, and that dimension read out as the null token."""
    bias, unembed = params["ln_final"]["b"], params["W_U"]
    return {
        **params,
        "ln_final": {**params["ln_final"], "b": bias.at[..., 0].add(100)},
        "W_U": unembed.at[..., vocab.NULL].set(jnp.zeros(unembed.shape[-2]).at[0].set(1)),
    }


def endless(prompts: Prompts) -> Prompts:
    """Refused by as many null tokens as a response can have, without an end."""
    refusing = prompts.refusing
    ahead = jnp.arange(refusing.tokens.shape[1])[None] - refusing.go[:, None]
    behind = (ahead > 0) & (ahead < refusing.room)
    tokens = jnp.where(behind, vocab.NULL, refusing.tokens)
    roles = jnp.where(behind, ANSWER, jnp.where(ahead > 0, PADDING, refusing.roles))
    return prompts._replace(refusing=refusing._replace(tokens=tokens, roles=roles, scored=behind))


def measured(
    config: StudyConfig, asked: Asked, models: dict[str, Params], prompts: dict[str, Prompts], seeds: int
) -> Clock:
    """Everything that a study measures of all seeds; a part's time is that of every seed, which are side by side."""
    clock = Clock()

    def of_seed(seed: int) -> None:
        own = {name: one_seed(params, seed) for name, params in models.items()}
        untouched = own["untouched"]
        for params in own.values():
            with clock("observing"):
                seen = subject(config.model, asked, params, untouched, prompts, 0)
            for name, measurement in BY_DEFAULT.items():
                with clock(name):
                    measurement.measure(seen, *measurement.given(config.analysis).values())
        with clock("paths"):
            tuned = {method: own[method] for method in own if method != "untouched"}
            paths.measure(config.model, tuned, untouched, prompts, config.paths, jax.random.key(seed))

    with threadpool_limits(1):  # As a study does.
        of_each(of_seed, range(seeds))
    return clock


@pytest.mark.parametrize("study", ["quick", "paper"])
def test_suite(study: str) -> None:
    jax.config.update("jax_disable_most_optimizations", False)
    config: StudyConfig = load([f"study={study}", "analysis.prompts=1000"])
    asked = plan(config).measured[UNTOUCHED][0].asked
    size = build_world(config.world).vocab.size
    keys = seed_keys(jax.random.key(0), SEEDS)
    untouched = jax.tree.map(np.asarray, always_null(jax.vmap(lambda key: init(config.model, size, key))(keys)))
    rng = np.random.default_rng(0)

    def tuned() -> Params:
        return jax.tree.map(lambda w: w + np.float32(0.005) * rng.standard_normal(w.shape, np.float32), untouched)

    models = {"untouched": untouched, **{method: tuned() for method in METHODS}}
    began = time.perf_counter()
    prompts = {family: endless(of) for family, of in prompts_of(asked).items()}
    print(f"\n{study}: {len(prompts)} families of 1000 prompts, drawn in {time.perf_counter() - began:.1f} s")
    few = {name: models[name] for name in ("untouched", "sft")}
    print(f"two models of one seed, compiling: {measured(config, asked, few, prompts, 1)}")
    began = time.perf_counter()
    clock = measured(config, asked, models, prompts, SEEDS)
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(models)} models of {SEEDS} seeds: {whole:.1f} s; of all seeds together {clock}")
    print(f"peak memory {peak:.2f} GiB")
