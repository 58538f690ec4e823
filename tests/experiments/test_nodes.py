"""A study is a graph of models: each starts from the pretrained one or from another, by a method and settings."""

import dataclasses

import jax
import pytest

from experiments.settings.config import load, output_folder
from experiments.settings.names import UNTOUCHED
from experiments.settings.nodes import nodes
from experiments.settings.schema import StudyConfig
from experiments.stages.tune import Tune
from experiments.study.cells import cells
from experiments.study.plan import Plan, jobs, plan
from synth.keys import fold
from synth.settings import UserError

TINY = ["study=quick", "worlds=1", "seeds=2", "methods=[sft,continued]"]
AGAIN = "nodes.again={start: sft+continued, method: sft, tuning.steps: 7, method.sft.gamma: 0.0}"

AGAIN_ONCE = "nodes.again={method: sft, tuning.draw: 1, reference: late}"


def config(*settings: str) -> StudyConfig:
    found: StudyConfig = load([*TINY, *settings])
    return cells(found)[0].config


def tuned(planned: Plan, name: str) -> Tune:
    stage = planned.weights[name]
    assert isinstance(stage, Tune)
    return stage


def test_methods_start_from_the_pretrained_model_and_attacks_from_each_of_theirs() -> None:
    found = nodes(config("attacks=[continued,pretraining_more]"))
    assert {name: (one.start, one.method) for name, one in found.items()} == {
        "sft": (UNTOUCHED, "sft"),
        "continued": (UNTOUCHED, "continued"),
        "sft+continued": ("sft", "continued"),
        "sft+pretraining_more": ("sft", "pretraining_more"),
        "continued+continued": ("continued", "continued"),
        "continued+pretraining_more": ("continued", "pretraining_more"),
    }


def test_a_node_may_be_named_before_the_one_that_it_starts_from() -> None:
    found = nodes(config("nodes.last={start: first, method: dpo}", "nodes.first={method: sft}"))
    assert list(found) == ["sft", "continued", "first", "last"]
    assert found["first"].start == UNTOUCHED


def test_a_node_has_settings_of_its_own_and_the_rest_is_the_study_s() -> None:
    whole = config("attacks=[continued]", AGAIN.replace("method.sft.gamma: 0.0", "tuning.data.label_noise: 0.5"))
    again = nodes(whole)["again"]
    noisy = dataclasses.replace(whole.tuning.data, label_noise=0.5)
    assert again.tuning == dataclasses.replace(whole.tuning, steps=7, data=noisy)
    assert nodes(whole)["sft"].tuning == whole.tuning


def test_settings_of_a_node_may_be_given_one_by_one() -> None:
    one = config("nodes.x={start: sft, method: dpo, tuning.steps: 7, tuning.data.label_noise: 0.5}")
    by_one = config(
        "nodes.x.start=sft", "nodes.x.method=dpo", "nodes.x.tuning.steps=7", "nodes.x.tuning.data.label_noise=0.5"
    )
    assert nodes(by_one) == nodes(one)
    assert output_folder(by_one) == output_folder(one)


def test_a_method_may_be_a_node_with_settings_of_its_own() -> None:
    found = nodes(config("nodes.dpo={method: dpo, tuning.steps: 7}"))["dpo"]
    assert (found.start, found.method, found.tuning.steps) == (UNTOUCHED, "dpo", 7)


def test_a_change_is_measured_from_the_start_unless_the_pretrained_model_is_asked_for() -> None:
    planned = plan(config("attacks=[continued]", "nodes.total={start: sft, method: continued, reference: untouched}"))
    assert {one.reference for one in planned.measured["sft+continued"]} == {planned.weights["sft"]}
    assert {one.reference for one in planned.measured["total"]} == {planned.weights[UNTOUCHED]}
    assert planned.weights["total"].recipe.key == planned.weights["sft+continued"].recipe.key
    assert planned.paths is not None
    assert list(planned.paths.models) == ["sft", "continued"]  # Of changes of one model alone


def test_a_node_may_be_compared_with_any_other_that_comes_before_or_behind_it() -> None:
    planned = plan(config(AGAIN_ONCE, "nodes.late={start: sft, method: continued}"))
    assert list(planned.nodes) == ["sft", "continued", "late", "again"]
    assert {one.reference for one in planned.measured["again"]} == {planned.weights["late"]}
    assert tuned(planned, "again").start is planned.weights[UNTOUCHED]
    # What it is compared with changes how it is measured, not what it is.
    alone = plan(config(AGAIN_ONCE.replace(", reference: late", "")))
    assert tuned(alone, "again").recipe.key == tuned(planned, "again").recipe.key
    assert {one.recipe.key for one in alone.measured["again"]}.isdisjoint(
        one.recipe.key for one in planned.measured["again"]
    )


def test_another_draw_is_another_stream_of_prompts_and_none_at_all_is_the_one_that_always_was() -> None:
    planned = plan(config("attacks=[continued]", "nodes.again={method: sft, tuning.draw: 1}"))
    streams = {name: jax.random.key_data(one.stream).tolist() for name, one in planned.tuned.items()}
    always = fold(jax.random.key(0), "tune")
    assert streams["sft"] == streams["continued"] == jax.random.key_data(always).tolist()
    assert streams["sft+continued"] == jax.random.key_data(fold(always, 1)).tolist()
    assert len({*map(str, streams.values())}) == 3
    assert tuned(planned, "again").recipe.key != tuned(planned, "sft").recipe.key


def test_attacks_and_nodes_re_key_nothing_else() -> None:
    plain, more = plan(config()), plan(config("attacks=[continued]"))
    keys = {recipe.key for recipe in more.recipes}
    assert {recipe.key for recipe in plain.recipes} <= keys


def test_each_model_is_tuned_after_the_one_that_it_starts_from() -> None:
    whole = config("attacks=[continued]", "nodes.again={start: sft+continued, method: sft}")
    planned = cells(whole)
    made: set[str] = set()
    for job in jobs([(cell, plan(cell.config)) for cell in planned]):
        assert {parent.key for parent in job.parents} <= made, job.what
        made |= {recipe.key for recipe in job.recipes}


def test_a_model_that_is_tuned_again_is_so_on_other_prompts() -> None:
    planned = plan(config("attacks=[continued]", "nodes.again={start: sft+continued, method: sft}"))
    assert [tuned(planned, name).depth for name in ("sft", "sft+continued", "again")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("attacks=[nothing]", "attacks=nothing: must be among sft"),
        ("attacks=[sft,sft]", "attacks=['sft', 'sft']: must not repeat"),
        ("nodes.x={start: y, method: sft}", "nodes.x.start=y: must lead to one of untouched, sft, continued"),
        ("nodes.x={start: x, method: sft}", "nodes.x.start=x: must lead to one of"),
        ("nodes.x={start: sft}", "nodes.x.method=None: must be among sft"),
        ("nodes.x={start: [1], method: sft}", "must be a dictionary of a start, a method"),
        ("nodes.x=3", "must be a dictionary of a start, a method"),
        ("nodes.sft={method: dpo}", "is the name of another model"),
        ("nodes.dpo={start: sft, method: dpo}", "has the name of a method, so it must start from untouched by that"),
        ("nodes.shuffled={method: sft}", "has the name of a method, so it must start from untouched by that method"),
        ("nodes.untouched={method: dpo}", "is the name of another model"),
        ("nodes.x={method: dpo, reference: y}", "nodes.x.reference=y: must lead to one of untouched, sft, continued;"),
        ("nodes.x={method: dpo, reference: x}", "nodes.x.reference=x: must lead to one of untouched, sft, continued;"),
        ("nodes.x={method: dpo, reference: random}", "nodes.x.reference=random: must lead to one of"),
        ("nodes.x={method: dpo, reference: [sft]}", "nodes.x.reference=['sft']: must lead to one of"),
        ("nodes={x: {method: sft, reference: y}, y: {method: sft, start: x}}", "nodes.x.reference=y: must lead to"),
        ("nodes={x: {method: sft, reference: y}, y: {method: sft, reference: x}}", "nodes.x.reference=y: must lead to"),
        ("nodes.dpo={method: dpo, reference: sft}", "has the name of a method, so it must be compared with untouched"),
        ("nodes.x={method: dpo, tuning.draw: -1}", "nodes.x.tuning.draw=-1: must be 0 or more; set draw to 0"),
        ("nodes.x={method: dpo, world.seed: 3}", "nodes.x.world.seed=3: is no setting of a node"),
        ("nodes.x={method: dpo, method.sft.gamma: 3}", "is no setting of a node; choose from tuning and method.dpo"),
        ("nodes.x={method: dpo, config: 3}", "nodes.x.config=3: is no setting of a node"),
        ("nodes.x={method: dpo, tuning.step: 3}", "nodes.x.tuning.step=3: there is no such setting"),
        ("nodes.x={method: dpo, tuning.steps: 0}", "nodes.x.tuning.steps=0: must be at least 1"),
        ("nodes.x={method: dpo, tuning.steps: many}", "nodes.x.tuning.steps=many: "),
        ("nodes={x/y: {method: dpo}}", "must be a name and no path"),
    ],
)
def test_a_node_that_cannot_be_is_said_in_one_line(setting: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        config(setting)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
