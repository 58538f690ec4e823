"""The nodes of a study: its tuned models, each with the one that it starts from and the method that leads to it."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from experiments.settings.changed import changed
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.schema import StudyConfig
from models.training.methods import METHODS
from models.training.tuning import TuningConfig
from synth.settings import naming, require


class Node(NamedTuple):
    """A tuned model."""

    start: str
    """The model whose weights it starts from: UNTOUCHED or another node"""
    method: str
    reference: str
    """The model that it is compared with where a measurement is of a change: its start, UNTOUCHED or another node"""
    tuning: TuningConfig
    coefficients: Any
    """The method's dataclass"""


def nodes(config: StudyConfig) -> dict[str, Node]:
    """By name, every node, each after the one that it starts from and the one that it is compared with.

    `methods` are nodes of their own names that start from the pretrained model; `attacks` add to each of
    them, and of the same settings, START+METHOD; `nodes` has any others. Raises SettingError for a node that
    cannot be, or that starts from none there is or is compared with none, or that has a method's name and is not what
    claims take it for.
    """
    waiting: dict[str, dict[str, Any]] = {name: {"method": name} for name in config.methods}
    waiting |= {
        f"{start}+{method}": {"start": start, "method": method} for start in waiting for method in config.attacks
    }
    for name, described in config.nodes.items():
        with naming("nodes"):
            taken = name in waiting or name in (UNTOUCHED, RANDOM)
            require(not taken, name, described, "is the name of another model", "choose another name")
            # Claims and placebos are read by the names of methods.
            as_named = name == described["method"] and described.get("start", UNTOUCHED) == UNTOUCHED
            require(
                name not in METHODS or as_named,
                name,
                described,
                f"has the name of a method, so it must start from {UNTOUCHED} by that method",
                "choose another name",
            )
            require(
                name not in METHODS or (described.get("reference") or UNTOUCHED) == UNTOUCHED,
                name,
                described,
                f"has the name of a method, so it must be compared with {UNTOUCHED}",
                "choose another name",
            )
        waiting[name] = described
    found: dict[str, Node] = {}
    while waiting:
        known = (UNTOUCHED, *found)
        awaited = {name: _awaited(one, known) for name, one in waiting.items()}
        ready = [name for name, others in awaited.items() if not others]
        for name in ready:
            with naming("nodes"), naming(name):
                found[name] = _node(config, waiting.pop(name))
        if not ready:
            name, others = next(iter(awaited.items()))
            setting, value = next(iter(others.items()))
            with naming("nodes"), naming(name):
                require(False, setting, value, f"must lead to one of {', '.join(known)}", "name one of these")
    return found


def _awaited(described: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """By setting, the models that a node needs and that are not among `known`."""
    needed = {"start": described.get("start", UNTOUCHED), "reference": described.get("reference") or UNTOUCHED}
    return {setting: value for setting, value in needed.items() if value not in known}


def _node(config: StudyConfig, described: Mapping[str, Any]) -> Node:
    """Settings in `described`, by full name, stand in place of the study's own."""
    settings = dict(described)
    method, start = settings.pop("method"), settings.pop("start", UNTOUCHED)
    reference = settings.pop("reference", None) or start
    for name, value in settings.items():
        own = name.startswith(("tuning.", f"method.{method}."))
        require(own, name, value, "is no setting of a node", f"choose from tuning and method.{method}")
    own_config = changed(config, settings) if settings else config
    return Node(start, method, reference, own_config.tuning, getattr(own_config.method, method))
