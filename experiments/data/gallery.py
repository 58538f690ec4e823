"""A world to look at: its description, a few prompts of each family, two figures."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from experiments.figures import save
from experiments.figures.derivation import draw_derivation
from experiments.figures.safety_matrix import draw_safety_matrix
from experiments.settings.commands import DataConfig
from synth import sequences, vocab
from synth.describe import describe, reason
from synth.keys import fold
from synth.lookup import check_found, existing, sample_batch
from synth.prompts import SIDES
from synth.safety import SAFE, UNSAFE, VERDICTS
from synth.segments import ANSWER, CONTEXT, END, RESPONSE_START, START, TASK, TEXT, TEXT_START, TRACE, Batch
from synth.settings import naming
from synth.world import World, build_world

COLOURS = {TASK: "bold cyan", TEXT: "default", TRACE: "yellow", ANSWER: "green"}
DIM = (START, CONTEXT, TEXT_START, RESPONSE_START, END)
VERDICT_COLOURS = {VERDICTS[SAFE]: "green", VERDICTS[UNSAFE]: "red"}


def print_world(config: DataConfig, console: Console) -> None:
    """The world's description and `config.show` prompts of each family it can have."""
    world = build_world(config.world)
    console.print(describe(world), markup=False, highlight=False, soft_wrap=True)
    for family in existing(world) if config.show else ():
        key = fold(jax.random.key(config.seed), "show", family)
        side = SIDES.index(config.side)
        prompts = sample_batch(world, family, side, key, config.show)
        with naming("world"):
            check_found(world, family, side, prompts)
        complying = sequences.both(world, prompts)[0]
        console.print(f"\n{family}", style="bold", highlight=False)
        for i in range(config.show):
            prompt, answer = jax.tree.map(lambda a, i=i: np.asarray(a[i]), (prompts, complying))
            console.print(_coloured(world, answer), soft_wrap=True)
            why = reason(world, prompt)
            console.print(
                f"  {why}", style=VERDICT_COLOURS.get(why.partition(":")[0], "yellow"), highlight=False, soft_wrap=True
            )


def _coloured(world: World, answer: Batch) -> Text:
    """A prompt with its compliant response, tokens coloured by role."""
    names, line = world.vocab.names(), Text("  ")
    for token, role in zip(answer.tokens, answer.roles, strict=True):
        if token != vocab.PAD:
            line.append(f"{names[int(token)]} ", style="dim" if role in DIM else COLOURS[int(role)])
    return line


def draw_world(config: DataConfig) -> Path:
    """The folder with a derivation tree and the safety matrix of the world as figures."""
    world = build_world(config.world)
    folder = Path(config.output_dir) / f"world-{config.world.name}"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "derivation": partial(draw_derivation, world, np.random.default_rng(config.seed)),
        "safety_matrix": partial(draw_safety_matrix, world),
    }
    for name, draw in figures.items():
        save(draw, folder / name)
    return folder
