"""The styles of responses by name, each of a file of its own."""

from synth.style import Style
from synth.styles import comply, late_refusal, refuse

STYLES: dict[str, Style] = {
    "comply": comply.STYLE,
    "refuse": refuse.STYLE,
    "late_refusal": late_refusal.STYLE,
}
