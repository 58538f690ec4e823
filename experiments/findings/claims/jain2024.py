"""The claims of Jain et al. 2024, What Makes and Breaks Safety Fine-tuning? A Mechanistic Study (arXiv 2407.10264).

What tuning does to activations and weights (Obs. 1-4) is here, what jailbreaks and multiples of dW do in
`jain2024_jailbreaks.py`. The paper has SSFT, DPO and unlearning; placebos and the matched control are ours.
"""

from experiments.findings.claims import measures
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.jailbreaks import follows_success
from experiments.findings.claims.jain2024_jailbreaks import JAILBREAKS
from experiments.findings.claims.measures import (
    DPO,
    FIRST_MATRIX,
    LAST,
    SFT,
    UNLEARNING,
    WINDOW,
    against,
    beyond_chance,
    beyond_placebos,
    over_chance,
    parts,
    untouched,
    within,
)
from experiments.findings.claims.paper import Claim, Paper
from models.training.methods import MATCHED

TUNING: dict[str, Claim] = {
    "separation": Claim(
        "Obs. 1",
        "Fig. 3",
        "deep layers hold safe and unsafe prompts further apart than before tuning",
        untouched("separation", **WINDOW),
    ),
    "separation, scaled": Claim(
        "Obs. 1",
        "Fig. 3",
        "relative to their spread, too, the clusters are further apart than before",
        untouched("separation_scaled", **WINDOW),
    ),
    "deep layers": Claim("Obs. 1", "Fig. 3", "separation grows more in deep layers than in the others", measures.depth),
    "DPO over SSFT": Claim(
        "Obs. 1", "Fig. 3", "DPO separates more than SSFT", against(SFT, "separation", **WINDOW), (DPO,)
    ),
    "unlearning over SSFT": Claim(
        "Obs. 1", "Fig. 3", "unlearning separates more than SSFT", against(SFT, "separation", **WINDOW), (UNLEARNING,)
    ),
    "learning rate": Claim(
        "Obs. 1",
        "Fig. 3",
        "a higher learning rate separates more than a lower one",
        measures.learning_rate,
        across="separation",
    ),
    "k-means": Claim(
        "Obs. 1",
        "Figs A.31-32",
        "two clusters found by k-means are safe and unsafe prompts, more than before tuning",
        untouched("kmeans_accuracy", **WINDOW),
        unit="part",
    ),
    "unsafe collapses": Claim(
        "Obs. 1",
        "Figs A.19-22",
        "after DPO one direction holds more of the unsafe cluster's covariance than before (q = 1)",
        untouched("spectral_share", family="unsafe", **LAST),
        (DPO,),
        "part",
    ),
    "safe does not": Claim(
        "Obs. 1",
        "Figs A.19-22",
        "after DPO one direction holds as much of the safe cluster's covariance as before (q = 1)",
        untouched("spectral_share", family="safe", **LAST),
        (DPO,),
        "part",
        "same",
    ),
    "separation, last": Claim(
        "Obs. 1",
        "Fig. 3",
        "relative to their spread clusters are further apart even before a token of the response is read",
        untouched("separation_scaled", **LAST),
        derived=True,
    ),
    "unsafe collapses, window": Claim(
        "Obs. 1",
        "Figs A.19-22",
        "over the window, too, one direction holds more of the unsafe cluster's covariance than before",
        untouched("spectral_share", family="unsafe", **WINDOW),
        (DPO,),
        "part",
        derived=True,
    ),
    "safe does not, window": Claim(
        "Obs. 1",
        "Figs A.19-22",
        "over the window one direction holds as much of the safe cluster's covariance as before",
        untouched("spectral_share", family="safe", **WINDOW),
        (DPO,),
        "part",
        "same",
        derived=True,
    ),
    "tau tells success": Claim(
        "Obs. 1",
        "Fig. A.33",
        "the jailbreaks that succeed more lie nearer the safe cluster",
        follows_success,
        unit="part",
        derived=True,
    ),
    "off the columns": Claim(
        "Obs. 2",
        "Fig. 4",
        "dW's left singular vectors lie further off the column space of W than random ones",
        over_chance("sine_mean", **FIRST_MATRIX),
        unit="sine",
    ),
    "off, by safety": Claim(
        "Obs. 2",
        "Fig. 4",
        "beyond random ones they lie further off it than those of an irrelevant rule's dW",
        against(MATCHED, "sine_excess", **FIRST_MATRIX),
        unit="sine",
    ),
    "angles grow": Claim(
        "Obs. 2",
        "Fig. A.16",
        "activations of unsafe prompts leave the span they had before tuning further than those of safe ones",
        within({"family": "unsafe"}, {"family": "safe"}, metric="activation_angle_mean", **WINDOW),
        unit="sine",
    ),
    "off, by energy": Claim(
        "Obs. 2",
        "",
        "more of dW's norm lies off the column space of W than of a random change's",
        over_chance("outside_energy", **FIRST_MATRIX),
        unit="sine",
        derived=True,
    ),
    "energy, by safety": Claim(
        "Obs. 2",
        "",
        "more of dW's norm lies off it than of an irrelevant rule's dW",
        beyond_chance(MATCHED, "outside_energy", **FIRST_MATRIX),
        unit="sine",
        derived=True,
    ),
    "refusal off columns": Claim(
        "Obs. 2",
        "",
        "the part of dW outside W's column space carries more of refusal than the part inside",
        parts("without columns", "only columns"),
        unit="part",
        derived=True,
    ),
    "little in columns": Claim(
        "Obs. 2",
        "",
        "the part of dW inside W's column space carries less of refusal than a random part of its size",
        parts("only columns", "random columns scaled"),
        unit="part",
        expects="below",
        derived=True,
    ),
    "refusal in MLPs": Claim(
        "sec. 1",
        "",
        "the change of the MLPs carries more of refusal than that of attention",
        measures.mlps_over_attention,
        unit="part",
        derived=True,
    ),
    "unsafe on dW": Claim(
        "Obs. 3",
        "Fig. 5",
        "unsafe inputs project further on the rows of dW than safe ones",
        within({"family": "unsafe"}, {"family": "safe"}, metric="projection_total", **FIRST_MATRIX),
    ),
    "unsafe, by safety": Claim(
        "Obs. 3",
        "Fig. 5",
        "unsafe inputs lead safe ones by more than on the dW of an irrelevant rule",
        lambda results, method: (measures.lead(results, method), measures.lead(results, MATCHED)),
    ),
    "unsafe, by direction": Claim(
        "Obs. 3",
        "Fig. 5",
        "unsafe inputs project further on dW than on random directions of the same size",
        over_chance("projection_total", family="unsafe", **FIRST_MATRIX),
    ),
    "safe off dW": Claim(
        "Obs. 3",
        "Fig. 5",
        "beside the effect of dW on unsafe inputs that on safe ones is next to nothing",
        lambda results, method: (1 / measures.lead(results, method), 0.0),
        unit="part",
        expects="same",
    ),
    "few directions": Claim(
        "Obs. 3",
        "Fig. 5",
        "the first of 15 directions has more of the effect on unsafe inputs than its size explains",
        measures.few_directions,
        unit="part",
    ),
    "safe, by safety": Claim(
        "Obs. 3",
        "",
        "relative to dW's size safe inputs project less on it than on the dW of an irrelevant rule",
        against(MATCHED, "projection_rms", family="safe", **FIRST_MATRIX),
        expects="below",
        derived=True,
    ),
    "refusal by one": Claim(
        "Obs. 3",
        "",
        "without its first direction dW carries less of refusal than without a random one",
        parts("without top", "without random", strength=1.0),
        unit="part",
        expects="below",
        derived=True,
    ),
    "unsafe Lipschitz": Claim(
        "Obs. 4",
        "Fig. 6",
        "local Lipschitzness falls for unsafe prompts",
        untouched("lipschitz", family="unsafe"),
        expects="below",
    ),
    "safe Lipschitz": Claim(
        "Obs. 4", "Fig. 6", "local Lipschitzness rises for safe prompts", untouched("lipschitz", family="safe")
    ),
    "unsafe, placebos": Claim(
        "Obs. 4",
        "Fig. 6",
        "local Lipschitzness of unsafe prompts is lower than after any tuning without safety",
        beyond_placebos("lipschitz", lambda values: values.min(axis=1), family="unsafe"),
        expects="below",
    ),
    "safe, placebos": Claim(
        "Obs. 4",
        "Fig. 6",
        "local Lipschitzness of safe prompts is higher than after any tuning without safety",
        beyond_placebos("lipschitz", lambda values: values.max(axis=1), family="safe"),
    ),
}

PAPER = Paper("jain2024", {**TUNING, **JAILBREAKS}, Conventions(methods=(SFT, DPO, UNLEARNING)))
