"""What models do that were changed in part, or have one of their activations changed: all edits of one model."""

from analysis.edits.lookup import edits_of
from analysis.edits.settings import InterventionsConfig
from analysis.rows import Result, Subject
from analysis.scores import results_of, stacked, tried


def measure(subject: Subject, config: InterventionsConfig) -> list[Result]:
    """Behaviour of `config.families` under every edit of one model but multiples of dW (`analysis/multiples.py`), on
    the same prompts as these; no rows for the untouched model."""
    if subject.untouched:
        return []
    families = [name for name in subject.prompts if config.families is None or name in config.families]
    prompts = stacked(subject.prompts, config.prompts, families)
    found = tried(edits_of("interventions", subject, config), prompts)
    return [result for label, draws in found.items() for result in results_of(families, draws, **label._asdict())]
