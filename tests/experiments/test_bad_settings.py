"""Bad values of every setting of every command: one line of a SettingError or UserError, and soon."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from experiments.settings.commands import DataConfig
from experiments.settings.config import ROOTS, load
from experiments.settings.schema import AblationConfig, LauncherConfig, StudyConfig
from synth.settings import SettingError, UserError


def settings(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a dataclass, by its full name, with its type."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        of = hints[field.name]
        if dataclasses.is_dataclass(of):
            yield from settings(of, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", of


def bad(of: Any) -> list[str]:
    """Values that no setting of this type can have."""
    options = typing.get_args(of) if isinstance(of, types.UnionType) else (of,)
    if bool in options:
        return ["[1]", "{a: 1}", "7.5"]
    if int in options:
        return ["-1000000000000000000", "1000000000000000000", "[1]", "{a: 1}", "nan", "1.5"]
    if float in options:
        return ["-1e300", "nan", "inf", "[1]", "{a: 1}", "word"]
    for option in options:
        if typing.get_origin(option) is tuple and typing.get_args(option)[0] is not Any:
            return ["[[1]]", "[[[a]]]", "[{a: 1}]", "[nan]", "[null]"]
    return []


NAMED = {"run": "run=x", "out": "out=x", "a": "a=x", "b": "b=x"}


def refused(kind: type, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(list(overrides), kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MANY = (StudyConfig, DataConfig)
"""Kinds of hundreds of settings, each composed anew: minutes."""


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind in MANY else []) for kind in ROOTS],
    ids=lambda kind: kind.__name__,
)
def test_a_bad_value_of_any_setting_is_one_line(kind: type) -> None:
    wrong = []
    known = {name for name, _ in settings(kind)}
    needed = [given for name, given in NAMED.items() if name in known]
    for name, of in settings(kind):
        for value in bad(of):
            try:
                load([*needed, f"{name}={value}"], kind)
            except UserError as error:
                if "\n" in str(error):
                    wrong.append(f"{name}={value}: several lines")
            except Exception as error:
                wrong.append(f"{name}={value}: {type(error).__name__} {error}")
    assert not wrong


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (StudyConfig, "methods=[[1]]", "methods=[[1]]: must be a list of words"),
        (StudyConfig, "tuning.snapshots=[[1]]", "tuning.snapshots=[[1]]: must be a list of whole numbers"),
        (StudyConfig, "paths.between=[[1]]", "paths.between=[[1]]: must be a list of finite numbers"),
        (StudyConfig, "world.grammar.symbols=[[1]]", "world.grammar.symbols=[[1]]: must be a list of whole numbers"),
        (DataConfig, "family=[[1]]", "family=[1]: must be a family's name"),
        (StudyConfig, "tuning.data.size=3000000000", "tuning.data.size=3000000000: must be at most 8388608"),
        (StudyConfig, "tuning.data.size=8388609", "tuning.data.size=8388609: must be at most 8388608"),
        (StudyConfig, "pretrain.steps=16777217", "pretrain.steps=16777217: must be at most 16777216"),
        *(
            (StudyConfig, f"{name}=1000000000000000000", f"{name}=1000000000000000000: must be at most")
            for name in (
                "world.grammar.count",
                "world.grammar.alphabet",
                "world.grammar.concepts",
                "pretrain.batch_size",
                "tuning.batch_size",
                "model.width",
                "seeds",
            )
        ),
        (DataConfig, "n=10000000000", "n=10000000000: must be at most 1073741824"),
        (StudyConfig, "ablation.name=../../x", "ablation.name='../../x': must be a name and no path"),
        (StudyConfig, "study=/x", "study=/x: there is no such preset"),
        (
            StudyConfig,
            "launcher.options._target_=os.system",
            "launcher.options._target_=...: is no setting of a launcher",
        ),
    ],
    ids=lambda value: value.split("=")[0] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(kind: type, override: str, message: str) -> None:
    assert message in refused(kind, override)


def test_a_target_within_options_is_refused_too() -> None:
    with pytest.raises(SettingError, match=r"options\._target_"):
        LauncherConfig("joblib", {"a": [{"_target_": "os.system"}]})


@pytest.mark.parametrize("values", [(1, 1.0), (-0.0, 0.0), ("a", "a"), (0.1, 1e-1)])
def test_points_that_are_equal_are_one_given_twice(values: tuple[Any, ...]) -> None:
    with pytest.raises(SettingError, match="must not repeat a value"):
        AblationConfig(name="x", setting="tuning.learning_rate", values=values)


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b", "a\nb", ".hidden", "x" * 101])
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="must be a name and no path"):
        AblationConfig(name=name, setting="seeds", values=(1,))
