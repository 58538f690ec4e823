"""The paper's claims: what each compares with what, in the results of a study.

A claim is a measure `(results, method) -> (effect, control)`, each a number per seed, and a row of
CLAIMS. `experiments/findings/scorecard.py` says what becomes of them.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from experiments.findings.claims import measures
from experiments.findings.claims.measures import (
    DPO,
    FIRST_MATRIX,
    LAST,
    MATCHED,
    SAFETY,
    SFT,
    UNLEARNING,
    WINDOW,
    Measure,
    against,
    along_alpha,
    beyond_chance,
    beyond_placebos,
    nearer_safe,
    nearer_safe_ones,
    parts,
    untouched,
    within,
)


class Unit(NamedTuple):
    """How an effect is compared with its control: on a scale on which the contrast is a difference."""

    scale: Callable[[np.ndarray], np.ndarray]
    back: Callable[[float], float]
    """From a difference on that scale to the contrast shown"""
    margin: float
    """On that scale: contrasts no larger are as good as none"""
    form: str
    """How a contrast is written"""
    resolution: float = 0.0
    """Least spread over replicates that is believed, where values are known in steps"""


UNITS = {
    # Sizes of activations and of gradients differ between seeds by factors.
    "ratio": Unit(
        lambda values: np.log(np.where(values > 0, values, np.nan)),
        lambda value: float(np.exp(value)),
        float(np.log(1.1)),
        ".3g",
    ),
    # Of prompts, so that it is known to one prompt only; a part is of anything else.
    "share": Unit(lambda values: values, float, 0.05, "+.2f"),
    "part": Unit(lambda values: values, float, 0.05, "+.2f"),
    "sine": Unit(lambda values: values, float, 0.01, "+.3f"),
    # Of ranks, in which one exchange of neighbours among seven makes 0.036.
    "rank": Unit(lambda values: values, float, 0.1, "+.2f", 0.036),
}


class Claim(NamedTuple):
    """A statement of the paper, and how to measure it."""

    source: str
    """Where the paper says it; "cf." where it observes what is tested here in another way"""
    sentence: str
    measure: Measure
    methods: tuple[str, ...] = SAFETY
    """The models it is about, each judged on its own"""
    unit: str = "ratio"
    expects: Literal["above", "below", "same"] = "above"
    """Where the effect lies from its control"""

    @property
    def family(self) -> str:
        """The claims that are corrected together: those of one observation of the paper, and those derived from it."""
        if "cf." in self.source:
            return "derived"
        return next((name for name in FAMILIES if self.source.startswith(name)), FAMILIES[-1])


FAMILIES = ("Obs. 1", "Obs. 2", "Obs. 3", "Obs. 4", "Obs. 5", "sec. 5", "app. C")

CLAIMS: dict[str, Claim] = {
    "separation": Claim(
        "Obs. 1, Fig. 3",
        "deep layers hold safe and unsafe prompts further apart than before tuning",
        untouched("separation", **WINDOW),
    ),
    "separation, scaled": Claim(
        "Obs. 1, Fig. 3",
        "relative to their spread, too, the clusters are further apart than before",
        untouched("separation_scaled", **WINDOW),
    ),
    "deep layers": Claim("Obs. 1, Fig. 3", "separation grows more in deep layers than in the others", measures.depth),
    "DPO over SSFT": Claim(
        "Obs. 1, Fig. 3", "DPO separates more than SSFT", against(SFT, "separation", **WINDOW), (DPO,)
    ),
    "unlearning over SSFT": Claim(
        "Obs. 1, Fig. 3", "unlearning separates more than SSFT", against(SFT, "separation", **WINDOW), (UNLEARNING,)
    ),
    "learning rate": Claim(
        "Obs. 1, Fig. 3", "a higher learning rate separates more than a lower one", measures.learning_rate
    ),
    "k-means": Claim(
        "Obs. 1, Figs A.31-32",
        "two clusters found by k-means are safe and unsafe prompts, more than before tuning",
        untouched("kmeans_accuracy", **WINDOW),
        unit="part",
    ),
    "unsafe collapses": Claim(
        "Obs. 1, Figs A.19-22",
        "after DPO one direction holds more of the unsafe cluster's covariance than before (q = 1)",
        untouched("spectral_share", family="unsafe", **LAST),
        (DPO,),
        "part",
    ),
    "safe does not": Claim(
        "Obs. 1, Figs A.19-22",
        "after DPO one direction holds as much of the safe cluster's covariance as before (q = 1)",
        untouched("spectral_share", family="safe", **LAST),
        (DPO,),
        "part",
        "same",
    ),
    "separation, last": Claim(
        "cf. Obs. 1, Fig. 3",
        "relative to their spread clusters are further apart even before a token of the response is read",
        untouched("separation_scaled", **LAST),
    ),
    "unsafe collapses, window": Claim(
        "cf. Obs. 1, Figs A.19-22",
        "over the window, too, one direction holds more of the unsafe cluster's covariance than before",
        untouched("spectral_share", family="unsafe", **WINDOW),
        (DPO,),
        "part",
    ),
    "safe does not, window": Claim(
        "cf. Obs. 1, Figs A.19-22",
        "over the window one direction holds as much of the safe cluster's covariance as before",
        untouched("spectral_share", family="safe", **WINDOW),
        (DPO,),
        "part",
        "same",
    ),
    "tau tells success": Claim(
        "cf. Obs. 1, Fig. A.33",
        "the jailbreaks that succeed more lie nearer the safe cluster",
        measures.follows_success,
        unit="part",
    ),
    "off the columns": Claim(
        "Obs. 2, Fig. 4",
        "dW's left singular vectors lie further off the column space of W than random ones",
        within({"metric": "sine_mean"}, {"metric": "sine_random_mean"}, **FIRST_MATRIX),
        unit="sine",
    ),
    "off, by safety": Claim(
        "Obs. 2, Fig. 4",
        "beyond random ones they lie further off it than those of an irrelevant rule's dW",
        against(MATCHED, "sine_excess", **FIRST_MATRIX),
        unit="sine",
    ),
    "angles grow": Claim(
        "Obs. 2, Fig. A.16",
        "activations of unsafe prompts leave the span they had before tuning further than those of safe ones",
        within({"family": "unsafe"}, {"family": "safe"}, metric="activation_angle_mean", **WINDOW),
        unit="sine",
    ),
    "off, by energy": Claim(
        "cf. Obs. 2",
        "more of dW's norm lies off the column space of W than of a random change's",
        within({"metric": "outside_energy"}, {"metric": "outside_energy_random"}, **FIRST_MATRIX),
        unit="sine",
    ),
    "energy, by safety": Claim(
        "cf. Obs. 2",
        "more of dW's norm lies off it than of an irrelevant rule's dW",
        beyond_chance(MATCHED, "outside_energy", "outside_energy_random", **FIRST_MATRIX),
        unit="sine",
    ),
    "refusal off columns": Claim(
        "cf. Obs. 2",
        "the part of dW outside W's column space carries more of refusal than the part inside",
        parts("without columns", "only columns"),
        unit="part",
    ),
    "little in columns": Claim(
        "cf. Obs. 2",
        "the part of dW inside W's column space carries less of refusal than a random part of its size",
        parts("only columns", "random columns scaled"),
        unit="part",
        expects="below",
    ),
    "refusal in MLPs": Claim(
        "cf. sec. 1",
        "the change of the MLPs carries more of refusal than that of attention",
        measures.mlps_over_attention,
        unit="part",
    ),
    "unsafe on dW": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs project further on the rows of dW than safe ones",
        within({"family": "unsafe"}, {"family": "safe"}, metric="projection_total", **FIRST_MATRIX),
    ),
    "unsafe, by safety": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs lead safe ones by more than on the dW of an irrelevant rule",
        lambda results, method: (measures.lead(results, method), measures.lead(results, MATCHED)),
    ),
    "unsafe, by direction": Claim(
        "Obs. 3, Fig. 5",
        "unsafe inputs project further on dW than on random directions of the same size",
        within({"metric": "projection_total"}, {"metric": "projection_total_random"}, family="unsafe", **FIRST_MATRIX),
    ),
    "safe off dW": Claim(
        "Obs. 3, Fig. 5",
        "beside the effect of dW on unsafe inputs that on safe ones is next to nothing",
        lambda results, method: (1 / measures.lead(results, method), 0.0),
        unit="part",
        expects="same",
    ),
    "few directions": Claim(
        "Obs. 3, Fig. 5",
        "the first of 15 directions has more of the effect on unsafe inputs than its size explains",
        lambda results, method: (
            measures.first_share(results, method, "projection_abs"),
            measures.first_share(results, method, "projection_abs_random"),
        ),
        unit="part",
    ),
    "safe, by safety": Claim(
        "cf. Obs. 3",
        "relative to dW's size safe inputs project less on it than on the dW of an irrelevant rule",
        against(MATCHED, "projection_rms", family="safe", **FIRST_MATRIX),
        expects="below",
    ),
    "refusal by one": Claim(
        "cf. Obs. 3",
        "without its first direction dW carries less of refusal than without a random one",
        parts("without top", "without random", strength=1.0),
        unit="part",
        expects="below",
    ),
    "unsafe Lipschitz": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness falls for unsafe prompts",
        untouched("lipschitz", family="unsafe"),
        expects="below",
    ),
    "safe Lipschitz": Claim(
        "Obs. 4, Fig. 6", "local Lipschitzness rises for safe prompts", untouched("lipschitz", family="safe")
    ),
    "unsafe, placebos": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness of unsafe prompts is lower than after any tuning without safety",
        beyond_placebos("lipschitz", lambda values: values.min(axis=1), family="unsafe"),
        expects="below",
    ),
    "safe, placebos": Claim(
        "Obs. 4, Fig. 6",
        "local Lipschitzness of safe prompts is higher than after any tuning without safety",
        beyond_placebos("lipschitz", lambda values: values.max(axis=1), family="safe"),
    ),
    "successful attacks": Claim(
        "Obs. 5, Fig. 7",
        "successful jailbreaks lie nearer the safe cluster than the unsafe one",
        nearer_safe("tau_successful", WINDOW),
        unit="part",
    ),
    "successful, Lipschitz": Claim(
        "Obs. 5, Fig. 7",
        "local Lipschitzness of successful jailbreaks is nearer that of safe prompts than of unsafe ones",
        nearer_safe_ones("lipschitz"),
    ),
    "successful, projection": Claim(
        "Obs. 5, Fig. 7",
        "successful jailbreaks project on dW nearer safe inputs than unsafe ones",
        nearer_safe_ones("projection_total", **FIRST_MATRIX),
    ),
    "soft tokens, tau": Claim(
        "Obs. 5, Figs A.66-71",
        "soft tokens fitted to the model move unsafe prompts nearer the safe cluster than random ones",
        measures.soft_position,
        unit="part",
    ),
    "successful, last": Claim(
        "cf. Obs. 5, Fig. 7",
        "successful jailbreaks lie nearer the safe cluster even before a token of the response is read",
        nearer_safe("tau_successful", LAST),
        unit="part",
    ),
    "all attacks": Claim(
        "cf. Obs. 5, Fig. 7",
        "jailbreak prompts, successful or not, lie nearer the safe cluster than the unsafe one",
        nearer_safe("tau", WINDOW),
        unit="part",
    ),
    "soft tokens": Claim(
        "sec. 5, Figs A.66-71",
        "soft tokens fitted to the model make it comply more than random ones",
        measures.soft_tokens,
        unit="share",
    ),
    "SSFT easiest": Claim(
        "sec. 5, Table A.1",
        "jailbreaks succeed less on DPO and unlearning than on SSFT",
        lambda results, method: (measures.jailbroken(results, method), measures.jailbroken(results, SFT)),
        (DPO, UNLEARNING),
        "share",
        "below",
    ),
    "text over misgen": Claim(
        "sec. 5, Table A.1",
        "on DPO competing text succeeds more than mismatched generalisation",
        within({"family": "co_text"}, {"family": "misgen_task"}, metric="complied"),
        (DPO,),
        "share",
    ),
    "misgen over task": Claim(
        "sec. 5, Table A.1",
        "on DPO mismatched generalisation succeeds more than competing tasks",
        within({"family": "misgen_task"}, {"family": "co_task"}, metric="complied"),
        (DPO,),
        "share",
    ),
    "misgen by task": Claim(
        "sec. 5, Table A.2",
        "mismatched generalisation succeeds more by tasks than by text",
        within({"family": "misgen_task"}, {"family": "misgen_text"}, metric="complied"),
        unit="share",
    ),
    "misgen by both": Claim(
        "sec. 5, Table A.2",
        "mismatched generalisation succeeds more by tasks and text than by tasks alone",
        within({"family": "misgen_both"}, {"family": "misgen_task"}, metric="complied"),
        unit="share",
    ),
    "extrapolation": Claim(
        "app. C, Fig. A.72",
        "jailbreaks succeed less on SSFT extrapolated to alpha > 1, while safe prompts are complied with",
        measures.extrapolated_jailbreaks,
        (SFT,),
        "share",
        "below",
    ),
    "extrapolation, cost": Claim(
        "app. C, Fig. A.72",
        "SSFT extrapolated to alpha > 1 complies with safe prompts as before",
        measures.extrapolated_safe,
        (SFT,),
        "share",
        "same",
    ),
    "extrapolation, SSFT": Claim(
        "app. C, Fig. A.72",
        "extrapolation takes more success from jailbreaks on SSFT than on DPO and unlearning",
        measures.gain_of_sft,
        (DPO, UNLEARNING),
        "part",
        "below",
    ),
    "transfer": Claim(
        "app. C, Fig. A.74",
        "jailbreaks succeed less on a model with the dW of another method added",
        measures.transfer,
        unit="share",
        expects="below",
    ),
    "same basin": Claim(
        "app. C, Fig. A.73",
        "tuned models are linearly connected: between their weights behaviour stays as right",
        measures.barrier,
        unit="share",
        expects="same",
    ),
    "alpha, separation": Claim(
        "app. C, Figs A.76-85",
        "with alpha the clusters move apart",
        along_alpha("separation", **LAST),
        unit="rank",
    ),
    "alpha, angles": Claim(
        "app. C, Figs A.76-85",
        "with alpha activations of unsafe prompts leave the span they had before tuning",
        along_alpha("activation_angle", family="unsafe", **LAST),
        unit="rank",
    ),
    "alpha, Lipschitz": Claim(
        "app. C, Figs A.76-85",
        "with alpha local Lipschitzness of unsafe prompts falls",
        along_alpha("lipschitz", family="unsafe"),
        unit="rank",
        expects="below",
    ),
    "alpha, Fisher": Claim(
        "app. C, Figs A.76-85",
        "with alpha the Fisher criterion grows",
        along_alpha("fisher", **LAST),
        unit="rank",
    ),
}
