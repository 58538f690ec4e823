"""Safe prompts, to be complied with."""

from functools import partial

import jax

from synth.coverage import Scope
from synth.family import Family
from synth.judged import check_judged, judged_mix, judged_prompt
from synth.prompts import Attempt
from synth.world import World


def safe(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """All tasks safe for the text's concept group."""
    return judged_prompt(world, scope, judged_mix(world, scope, "safe"), key)


FAMILY = Family(__name__, "safe", safe, partial(check_judged, "safe"))
