"""Tests of `models/training/methods/`: what the registry says, and one contract for all.

What a method's batch is made of is its own, as long as it is made of `Batch`es.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.store.provenance import reachable
from models.training import methods
from models.training.late import late_pairs
from models.training.method import DrawBatch, Part, labelled_pairs
from models.training.methods import CONTROLS, METHODS, SAFETY, deep_refusal, sham
from models.training.methods.sft import sft
from models.transformer import ModelConfig, Params
from models.weights import flatten
from synth.keys import fold
from synth.segments import PADDING, Batch
from synth.tuning_data import COMPLIED, TuningData, TuningDataConfig, TuningPrompts, data_for
from synth.world import World
from tests.models.training.terms import HYPER, gradients, terms

SIZE = 8
EVERY = pytest.mark.parametrize("method", METHODS)


@functools.cache
def drawing(make: DrawBatch, world: World) -> Callable[[TuningData, jax.Array], Any]:
    return jax.jit(lambda data, key: make(world, data, key, 0, SIZE))


def batch_of(method: str, world: World, key: jax.Array) -> Any:
    of = METHODS[method]
    return drawing(of.batch, world)(data_for(TuningDataConfig(), of.prompts), fold(key, "pair"))


def is_batch(x: Any) -> bool:
    return isinstance(x, Batch)


def parts(batch: Any) -> list[Batch]:
    """The sequences that a method's batch is made of."""
    return [part for part in jax.tree.leaves(batch, is_leaf=is_batch) if is_batch(part)]


def each(change: Callable[[Batch], Batch], batch: Any) -> Any:
    return jax.tree.map(lambda x: change(x) if is_batch(x) else x, batch, is_leaf=is_batch)


@EVERY
def test_a_row_is_the_method_of_the_module_with_its_name(method: str) -> None:
    row = METHODS[method]
    assert row.module == f"{methods.__name__}.{method}"
    assert importlib.import_module(row.module).METHOD is row
    assert row.part in get_args(Part)


def test_every_module_of_the_package_is_a_row() -> None:
    assert sorted(module.name for module in pkgutil.iter_modules(methods.__path__)) == sorted(METHODS)


def test_the_registry_tells_safety_from_controls() -> None:
    assert set(CONTROLS) == {"continued", "shuffled", "irrelevant", "refuse_all", "pretraining_more", "sham"}
    of_pairs = {"sft", "dpo", "unlearning", "npo", "unlearning_kl", "ipo", "simpo", "rto", "constrained_sft"}
    assert set(SAFETY) == {*of_pairs, "prefix_sft", "derta", "deep_refusal"}
    attacks = [name for name, row in METHODS.items() if row.part == "attack"]
    assert attacks == ["comply_all", "comply_constrained"]
    assert {METHODS[name].prompts for name in attacks} == {TuningPrompts(COMPLIED)}
    assert {METHODS[name].prompts for name in SAFETY} == {TuningPrompts()}
    assert len({METHODS[name].prompts for name in ("sft", *CONTROLS)}) == 1 + len(CONTROLS)
    assert {METHODS[name].objective for name in (*CONTROLS, "comply_all")} == {sft}
    late = {"prefix_sft": late_pairs, "derta": late_pairs, "deep_refusal": deep_refusal.batch}
    others = {**late, "sham": sham.batch}
    assert {name: row.batch for name, row in METHODS.items() if row.batch is not labelled_pairs} == others


def test_where_all_are_to_be_treated_alike_no_label_is_wrong() -> None:
    data = {
        name: data_for(TuningDataConfig(unsafe_share=0.3, label_noise=0.2), METHODS[name].prompts) for name in METHODS
    }
    assert {name for name in METHODS if data[name].label_noise == 0} == {
        "refuse_all",
        "pretraining_more",
        "comply_all",
        "comply_constrained",
    }
    assert {name for name in METHODS if data[name].unsafe_share == 0} == {"continued", "pretraining_more", "sham"}
    assert {data[name].unsafe_share for name in METHODS} == {0, 0.3}
    assert {data[name].refused_share for name in METHODS} == {0.3}


def test_who_is_taught_not_to_comply_with_safe_prompts_is_said() -> None:
    assert {name for name in METHODS if not METHODS[name].prompts.complies} == {
        "shuffled",
        "irrelevant",
        "refuse_all",
        "sham",
    }


def of_methods(module: str) -> set[str]:
    """The methods whose files `module` can reach, "" for the registry."""
    return {
        name.removeprefix(methods.__name__).removeprefix(".")
        for name in reachable(module)
        if name.startswith(methods.__name__)
    }


def test_a_method_reaches_no_other_but_what_it_is_made_of() -> None:
    """The store relies on it: a model depends on all code that its training reaches."""
    made_of = {
        **dict.fromkeys(("prefix_sft", "comply_all", *CONTROLS), "sft"),
        **{"unlearning_kl": "unlearning", "derta": "rto", "comply_constrained": "constrained_sft"},
    }
    for name, row in METHODS.items():
        assert of_methods(row.module) == {name, made_of.get(name, name)}
    assert of_methods("models.training.tuning") == of_methods("experiments.stages.pretrain") == set()


def test_pretraining_reaches_nothing_of_tuning() -> None:
    reached = reachable("experiments.stages.pretrain")
    tuning = {"models.training.tuning", "models.training.method", "models.training.scoring"}
    assert "models.likelihood" in reached
    assert not reached & {*tuning, "models.fork", "synth.tuning_data"}


@EVERY
def test_jit_equals_no_jit(
    method: str, world: World, key: jax.Array, model: ModelConfig, params: Params, reference: Params
) -> None:
    batch = batch_of(method, world, key)
    # The compiler may order sums differently: float32 roundings on losses of order 10.
    want = METHODS[method].objective(model, params, reference, batch, HYPER[method]).loss
    assert want.shape == (SIZE,)
    np.testing.assert_allclose(terms(method, model, params, reference, batch).loss, want, rtol=2e-5, atol=2e-5)


@EVERY
def test_examples_do_not_mix(
    method: str, world: World, key: jax.Array, model: ModelConfig, params: Params, reference: Params
) -> None:
    """Neither their order nor the part of a batch that they are in changes what is said of them."""
    batch = batch_of(method, world, key)
    whole = terms(method, model, params, reference, batch)
    order = np.array([0, 1, 2, 3, 7, 6, 5, 4])
    mixed = terms(method, model, params, reference, jax.tree.map(lambda a: a[order], batch))
    first, last = (
        terms(method, model, params, reference, jax.tree.map(lambda a, half=half: a[half], batch))
        for half in (slice(0, 4), slice(4, 8))
    )
    for name, values in {"loss": whole.loss, **whole.parts}.items():
        found = [of.loss if name == "loss" else of.parts[name] for of in (mixed, first, last)]
        np.testing.assert_allclose(found[0], values[order], rtol=2e-5, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(jnp.concatenate(found[1:]), values, rtol=2e-5, atol=2e-5, err_msg=name)


@EVERY
def test_padding_changes_nothing(
    method: str, world: World, key: jax.Array, model: ModelConfig, params: Params, reference: Params
) -> None:
    """Neither what stands in the padding nor how much of it there is."""
    batch = batch_of(method, world, key)
    whole = terms(method, model, params, reference, batch).loss
    scribbled = each(lambda x: x._replace(tokens=jnp.where(x.roles == PADDING, 3, x.tokens)), batch)
    np.testing.assert_allclose(terms(method, model, params, reference, scribbled).loss, whole, rtol=2e-5, atol=2e-5)
    padded = [np.asarray(part.roles[:, -3:] == PADDING).all(axis=1) for part in parts(batch)]
    short = np.flatnonzero(np.all(padded, axis=0))
    assert short.size

    def cut(x: Batch) -> Batch:
        return x._replace(tokens=x.tokens[:, :-3], roles=x.roles[:, :-3], scored=x.scored[:, :-3])

    trimmed = terms(method, model, params, reference, jax.tree.map(lambda a: a[short], each(cut, batch))).loss
    np.testing.assert_allclose(trimmed, whole[short], rtol=2e-5, atol=2e-5)


@EVERY
@pytest.mark.parametrize("start", ["elsewhere", "at the reference"])
def test_gradients_are_finite_and_flow_into_the_model_alone(
    method: str, start: str, world: World, key: jax.Array, model: ModelConfig, params: Params, reference: Params
) -> None:
    batch = batch_of(method, world, key)
    begun = params if start == "at the reference" else reference
    value, (found, of_reference) = gradients(method, model, params, begun, batch)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_reference))
    # Everything is trained, but for a bias that all keys have in common: it changes no attention.
    still = {name for name, leaf in flatten(found).items() if np.abs(leaf).max() < 1e-4}
    assert all(name.endswith(".attn.b_K") for name in still)
    # Positions that hold nothing but padding, or come behind the last prediction, do not move.
    unused = np.ones(model.context, bool)
    unused[: max(int((part.roles != PADDING).sum(axis=1).max()) for part in parts(batch)) - 1] = False
    assert (np.asarray(found["W_pos"])[unused] == 0).all()


@EVERY
def test_finite_at_extremes(
    method: str, world: World, key: jax.Array, model: ModelConfig, params: Params, reference: Params
) -> None:
    batch = batch_of(method, world, key)
    value, (found, _) = gradients(method, model, {**params, "W_U": params["W_U"] * 1e4}, reference, batch)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
