"""The claims of Pan et al. 2025, The Hidden Dimensions of LLM Alignment (arXiv 2502.09674), and what joins them to the
claims on dW and on clusters of arXiv 2407.10264: whether all of these hold the refusal direction."""

from functools import partial
from typing import Any

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, beyond_placebos, over_chance, within
from experiments.findings.claims.paper import Claim, Paper

REFUSED = {"metric": "refused", "family": "unsafe", "strength": 1.0}
"""By models without one direction"""
DOMINANT = "a dominant direction"

part, fewer = partial(Claim, unit="part"), partial(Claim, unit="share", expects="below")


def bridge(observation: str, sentence: str, metric: str, **where: Any) -> Claim:
    """That the refusal direction is nearer to something than chance has it."""
    return part(observation, "", sentence, over_chance(metric, **where), derived=True)


def goes_with(observation: str, sentence: str, module: str) -> Claim:
    """That a direction that is found anew is less of what it was without the refusal direction in dW."""
    without = within(
        {"intervention": "change without refusal"},
        {"intervention": "change without random"},
        metric="found_again",
        module=module,
    )
    return part(observation, "", sentence, without, expects="below", derived=True)


PAPER = Paper(
    "pan2025",
    {
        "one direction": part(
            DOMINANT,
            "",
            "the first component has more of the shift of the residual stream at EOT than of random shifts",
            over_chance("shift_energy"),
        ),
        "low rank": Claim(
            DOMINANT,
            "",
            "fewer components hold 90 % of the shift than of random shifts",
            over_chance("shift_rank", index=90),
            expects="below",
        ),
        "refusal": part(
            DOMINANT,
            "",
            "the first component is the refusal direction, nearer to it than a random one",
            over_chance("shift_overlap"),
        ),
        "detector": part(
            DOMINANT,
            "",
            "a component that validation prompts choose tells unsafe from safe prompts, better than permuted labels",
            over_chance("shift_accuracy"),
        ),
        "first detects": part(
            DOMINANT,
            "",
            "the first component tells them apart, better than permuted labels",
            over_chance("shift_accuracy_first"),
        ),
        "removal": fewer(
            DOMINANT,
            "",
            "without the first component in its stream a model refuses fewer unsafe prompts than without a random one",
            within({"intervention": "ablate shift"}, {"intervention": "ablate shift random"}, **REFUSED),
        ),
        "one direction, centred": part(
            DOMINANT,
            "",
            "less their mean, too, the first component has more of the shifts than of random ones",
            over_chance("shift_energy_centred"),
            derived=True,
        ),
        "one direction, by safety": part(
            DOMINANT,
            "",
            "the first component has more of the shift than after any tuning without safety",
            beyond_placebos("shift_energy", lambda there: there.max(axis=1)),
            derived=True,
        ),
        "refusal, centred": bridge(
            DOMINANT,
            "the first component of shifts less their mean is nearer to the refusal direction than a random one",
            "shift_overlap_centred",
        ),
        "refusal in W_out": bridge(
            "dW",
            "what dW of the second MLP matrix writes most strongly is nearer to the refusal direction than by chance",
            "change_overlap",
            module="W_out",
            index=1,
        ),
        "refusal in W_O": bridge(
            "dW",
            "what dW of the attention's output writes most strongly is nearer to the refusal direction than by chance",
            "change_overlap",
            module="W_O",
            index=1,
        ),
        "refusal in W_in": bridge(
            "dW",
            "what dW of the first MLP matrix reads most strongly is nearer to the refusal direction than by chance",
            "change_overlap",
            module="W_in",
            index=1,
        ),
        "refusal off dW": fewer(
            "dW",
            "",
            "without the refusal direction in dW the model refuses fewer unsafe prompts than without a random one",
            within({"intervention": "change without refusal"}, {"intervention": "change without random"}, **REFUSED),
            derived=True,
        ),
        "shift off dW": fewer(
            "dW",
            "",
            "without the first component of the shift in dW it refuses fewer unsafe prompts than without a random one",
            within({"intervention": "change without shift"}, {"intervention": "change without random"}, **REFUSED),
            derived=True,
        ),
        "shift goes with refusal": goes_with(
            "dW",
            "without the refusal direction in dW, the first component of the shift is less of what it was than "
            "without a random one",
            "shift",
        ),
        "axis goes with refusal": goes_with(
            "clusters",
            "without the refusal direction in dW, the cluster axis is less of what it was than without a random one",
            "axis",
        ),
        "refusal between clusters": bridge(
            "clusters",
            "the axis between the clusters in the stream is nearer to the refusal direction than a random one",
            "axis_overlap",
            module="resid_post",
        ),
        "refusal between clusters, MLP": bridge(
            "clusters",
            "the axis before the second MLP matrix, as that writes it, is nearer to refusal than a random one",
            "axis_overlap",
            module="mlp.post",
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
