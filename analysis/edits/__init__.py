"""The kinds of edits by name, each of a file of its own."""

from analysis.edit import Kind
from analysis.edits import (
    cones,
    directions,
    disaligned,
    landscape,
    mixtures,
    multiples,
    parts,
    patches,
    steering,
    unshifted,
)

EDITS: dict[str, Kind] = {
    "multiples": multiples.KIND,
    "parts": parts.KIND,
    "patches": patches.KIND,
    "mixtures": mixtures.KIND,
    "directions": directions.KIND,
    "cones": cones.KIND,
    "steering": steering.KIND,
    "unshifted": unshifted.KIND,
    "landscape": landscape.KIND,
    "disaligned": disaligned.KIND,
}
