"""What models do that are mixtures of two tuned ones (`analysis/edits/mixtures`).

arXiv 2407.10264, Figs. A.73 (linear connectivity) and A.74 (transfer).
"""

from collections.abc import Collection, Mapping

import jax

from analysis.edits.lookup import edits_of
from analysis.edits.mixtures import PathsConfig
from analysis.rows import Result, Subject
from analysis.scores import Known, results_of, stacked, tried
from models.transformer import ModelConfig, Params
from synth.sequences import Prompts


def measure(
    model: ModelConfig,
    tuned: Mapping[str, Params],
    reference: Params,
    prompts: Mapping[str, Prompts],
    config: PathsConfig,
    key: jax.Array,
    controls: Collection[str] = (),
) -> dict[str, list[Result]]:
    """Behaviour of every edit made of one seed's models, two at least, on each family, by the method it starts from.

    Nothing is said of two `controls` together.
    """
    batch = stacked(prompts, config.prompts)
    known: Known = {}
    results: dict[str, list[Result]] = {}
    for method, params in tuned.items():
        others = {name: of for name, of in tuned.items() if name != method and not {method, name} <= set(controls)}
        subject = Subject(model, params, reference, prompts, {}, {}, key, name=method, others=others)
        found = tried(edits_of("paths", subject, config), batch, known)
        known |= {(method, label): draws for label, draws in found.items()}
        results[method] = [
            result for label, draws in found.items() for result in results_of(list(prompts), draws, **label._asdict())
        ]
    return results
