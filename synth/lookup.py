"""Families by name: `unsafe`, `co_task@grammars`, `pretraining`, ... and prompts of them."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synth import sequences
from synth.coverage import PARTS, Scope
from synth.families import FAMILIES
from synth.family import Family
from synth.keys import batch_keys, fold
from synth.prompts import ATTEMPTS, NOT_FOUND, SIDES, TEST, TRAIN, VALIDATION, Prompt, Sampler, sample, side_of
from synth.segments import Size
from synth.settings import SettingError, require
from synth.shared import shared
from synth.world import World


def split_name(name: str, setting: str = "family") -> tuple[str, str]:
    """Family and part of `FAMILY` or `FAMILY@PART`. Raises SettingError, named `setting`."""
    require(isinstance(name, str), setting, name, "must be a family's name", "write unsafe, say")
    base, at, part = name.partition("@")
    known = base in FAMILIES and not (at and FAMILIES[base].kind == "any")
    require(known, setting, name, f"must be among {', '.join(FAMILIES)}", "choose from these")
    require(not at or part in PARTS, setting, name, f"@ must name one of {', '.join(PARTS)}", "write unsafe@tasks, say")
    return base, part


def modules(names: Iterable[str]) -> tuple[str, ...]:
    """Where the families `names` are defined: with this module, what their prompts depend on."""
    return tuple(dict.fromkeys(FAMILIES[split_name(name)[0]].module for name in names))


def sampler(world: World, name: str) -> Sampler:
    """The sampler of a family: an Attempt of (world, key).

    Raises SettingError, relative to the world's settings, if there is no such family in the
    world, with the setting that would make it exist.
    """
    base, part = split_name(name)
    row, scope = FAMILIES[base], left_out(world, part) if part else world.covered
    row.check(world, scope)
    return lambda world, key: row.sample(world, scope, key)


def size(world: World, names: Iterable[str] = ()) -> Size:
    """What holds the prompts of families of a world with their responses: of `names`, and of all that it can have.

    Raises SettingError, relative to the world's settings, if it has a style that there is none of.
    """
    rows = [FAMILIES[split_name(name)[0]] for name in names]
    rows += [row for row in FAMILIES.values() if row.turns and _exists(world, row)]
    return sequences.size(world, max((row.turns for row in rows), default=0))


def existing(world: World) -> tuple[str, ...]:
    """The families whose prompts are judged, among FAMILIES, that the world can have."""
    return tuple(name for name, row in FAMILIES.items() if row.kind != "any" and _exists(world, row))


def _exists(world: World, row: Family) -> bool:
    try:
        row.check(world, world.covered)
    except SettingError:
        return False
    return True


def left_out(world: World, part: str) -> Scope:
    """What tuning covers, but for one of PARTS: there, what it leaves out.

    Raises SettingError if it leaves nothing out.
    """
    if part == "productions":
        return replace(world.covered, reserved=True)
    sizes = {"tasks": world.config.tasks.count, "concepts": len(world.concepts), "grammars": len(world.grammars)}
    inside = getattr(world.covered, part)
    rest = tuple(i for i in range(sizes[part]) if i not in inside)
    require(len(rest) > 0, f"coverage.{part}", "all", f"leaves no {part} out of tuning", "name those to be covered")
    changed: dict[str, Any] = {part: rest}
    return replace(world.covered, **changed)


def check_found(world: World, name: str, side: int, prompts: Prompt) -> None:
    """Raises SettingError, relative to the world's settings, if prompts of the family `name` could not be drawn."""
    require(
        bool((prompts.length != NOT_FOUND).all()),
        "held_out",
        world.config.held_out,
        f"leaves the family {name} no prompt to {_FOR[side]}, as {ATTEMPTS} draws tell",
        "change held_out or validation, or give the grammar more and longer texts (grammar.productions, "
        "grammar.branching)",
    )


_FOR = {TRAIN: "train on", VALIDATION: "choose by", TEST: "test on"}


def check_division(world: World, draws: int = 2000) -> None:
    """Raises SettingError if a world is too small to keep safe and unsafe prompts on all sides.

    Found by drawing: a side that none of `draws` prompts falls on would be waited for in vain.
    """
    for name in ("safe", "unsafe"):
        of_family = sampler(world, name)

        def shares(key: jax.Array, sampler: Sampler = of_family) -> jax.Array:
            prompts, accepted = jax.vmap(lambda key: sampler(world, key))(batch_keys(key, draws))
            sides = jax.vmap(partial(side_of, world))(prompts)
            of_each = sides[None] == jnp.arange(len(SIDES))[:, None]
            return jnp.mean(of_each, axis=1, where=accepted[None], dtype=jnp.float32)

        key = fold(jax.random.key(world.config.seed), "division")
        drawn, tables = shared(shares, key)
        found = np.asarray(drawn.compiled(tables, key))
        for side, share in enumerate(found):
            require(
                share > 0,
                "held_out",
                world.config.held_out,
                f"must leave {name} prompts to {_FOR[side]}",
                "change held_out or validation, or raise grammar.productions for more texts",
            )


@partial(jax.jit, static_argnames=("world", "name", "size"))
def sample_batch(
    world: World, name: str, side: int | jax.Array, key: jax.Array, size: int, first: int | jax.Array = 0
) -> Prompt:
    """Prompts number `first` to `first + size` of the family `name` on a side, with a leading axis.

    The i-th depends on `key` and i alone. Raises SettingError as `sampler` does.
    """
    return sample(world, sampler(world, name), side, batch_keys(key, size, first))
