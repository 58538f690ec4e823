"""A text's derivation tree, from the start symbol where that stays readable, else from a concept."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.common import NEUTRAL, group_colours, note
from synth.grammar import text_lengths
from synth.trees import Tree, sample_tree
from synth.world import World

WIDEST = 40
"""Letters that a tree may have at its foot and be read."""


def draw_derivation(world: World, rng: np.random.Generator) -> Figure:
    """A tree of the first grammar; concepts and what they derive are coloured by group."""
    grammar = world.grammars[0]
    whole = grammar.start is not None and text_lengths(grammar, grammar.start)[1] <= WIDEST
    top = grammar.start if whole and grammar.start else world.concepts[0]
    tree = sample_tree(grammar, top, rng)
    colours = {
        concept: colour
        for concepts, colour in zip(grammar.groups.values(), group_colours(len(world.groups)), strict=True)
        for concept in concepts
    }
    letters, depth = sum(1 for _ in tree.letters()), _depth(tree)
    figure, axis = plt.subplots(figsize=(max(2.5, 0.22 * letters + 0.6), 0.42 * depth + 0.5), layout="constrained")
    _draw(axis, tree, 0, 0, depth, colours, "0.3")
    axis.set_xlim(-0.7, letters - 0.3)
    axis.set_ylim(-depth - 0.4, 0.5)
    axis.axis("off")
    note(figure, f"world {world.config.name}, first grammar, from {top}; concepts coloured by group")
    return figure


def _depth(tree: Tree) -> int:
    return 1 + max((_depth(child) for child in tree.children), default=-1)


def _draw(
    axis: Axes, tree: Tree, left: int, level: int, bottom: int, colours: dict[str, str], colour: str
) -> tuple[float, int]:
    """Draws the tree with its leaves from place `left` on; its root's place, and the next free one."""
    if not tree.children:
        axis.text(left, -bottom, tree.symbol, ha="center", va="center", color=colour, fontsize=7)
        return left, left + 1
    colour = colours.get(tree.symbol, colour)
    places = []
    for child in tree.children:
        place, left = _draw(axis, child, left, level + 1, bottom, colours, colour)
        places.append((place, -bottom if not child.children else -level - 1))
    x = (places[0][0] + places[-1][0]) / 2
    for place, y in places:
        axis.plot([x, place], [-level - 0.22, y + 0.28], color=NEUTRAL, linewidth=0.6)
    weight = "bold" if tree.symbol in colours else "normal"
    axis.text(x, -level, tree.symbol, ha="center", va="center", color=colour, fontsize=6.5, fontweight=weight)
    return x, left
