"""The safety matrix of a world: which tasks are unsafe for which concept group."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from experiments.figures.common import SAFE, UNSAFE, note
from synth.world import World


def draw_safety_matrix(world: World) -> Figure:
    """One row for each group, one column for each task; what safety tuning does not cover is pale."""
    rows, columns = world.unsafe.shape
    figure, axis = plt.subplots(figsize=(0.32 * columns + 1.2, 0.32 * rows + 0.9), layout="constrained")
    for row in range(rows):
        for column in range(columns):
            unsafe = bool(world.unsafe[row, column])
            axis.add_patch(
                Rectangle(
                    (column - 0.46, row - 0.46),
                    0.92,
                    0.92,
                    facecolor=UNSAFE if unsafe else SAFE,
                    alpha=1.0 if column in world.covered.tasks else 0.35,
                    hatch="////" if unsafe else "",
                    edgecolor="white",
                    linewidth=0,
                )
            )
    axis.set_xlim(-0.6, columns - 0.4)
    axis.set_ylim(rows - 0.4, -0.6)
    axis.set_aspect("equal")
    axis.set_xticks(range(columns), world.vocab.tasks)
    axis.set_yticks(range(rows), [f"group {group}" for group in world.groups])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    handles = [
        Patch(facecolor=UNSAFE, hatch="////", edgecolor="white", linewidth=0, label="unsafe"),
        Patch(facecolor=SAFE, label="safe"),
        Patch(facecolor="0.7", label="pale: not in safety tuning"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1)
    note(figure, f"world {world.config.name}, rule {world.config.safety.rule}")
    return figure
