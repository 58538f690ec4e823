"""What the figures share: colours, and where a note stands."""

from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers and in grey.
SAFE, UNSAFE, NEUTRAL = "#009E73", "#D55E00", "#999999"


def note(figure: Figure, text: str) -> None:
    """A small line under the figure, at its right."""
    figure.supxlabel(text, x=1.0, ha="right", fontsize=6.5)


def nothing(reason: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(3, 1))
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def group_colours(groups: int) -> list[str]:
    """A colour for each concept group, from safe-dominant to unsafe-dominant."""
    between = ["#0072B2", "#CC79A7", "#E69F00", "#56B4E9"]
    return [SAFE, *(between[i % len(between)] for i in range(groups - 2)), UNSAFE]
