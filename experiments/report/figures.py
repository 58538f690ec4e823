"""The figures as pictures inside the page, with what they show in words."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from experiments.figures import described
from experiments.figures.registry import FIGURES

BUDGET = 2_600_000
"""Bytes of all pictures together."""


class Picture(NamedTuple):
    """A figure for the page; `data` is empty where the budget did not allow it."""

    name: str
    title: str
    caption: str
    data: str
    """base64 of a PNG"""
    width: int
    height: int


def embed(folder: Path) -> list[Picture]:
    """Every PNG of `folder`, in the order of the registry, then by name."""
    order = {name: i for i, name in enumerate(FIGURES)}
    paths = sorted(
        folder.glob("*.png"), key=lambda path: (order.get(path.stem.partition("-")[0], len(order)), path.name)
    )
    pictures, left = [], BUDGET
    for path in paths:
        content, width, height = _few_colours(path)
        encoded = base64.b64encode(content).decode()
        kept = encoded if len(encoded) <= left else ""
        left -= len(kept)
        pictures.append(Picture(path.stem, *described(path.stem), kept, width, height))
    return pictures


def _few_colours(path: Path) -> tuple[bytes, int, int]:
    """The picture with at most 256 colours, which figures do not have more of but at edges: a third of the bytes."""
    with Image.open(path) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    out = io.BytesIO()
    flat.quantize(256, dither=Image.Dither.NONE).save(out, "PNG")
    return out.getvalue(), *flat.size
