"""The claims of Pan et al. 2025, The Hidden Dimensions of LLM Alignment (arXiv 2502.09674), and what joins them to the
claims on dW and on clusters of arXiv 2407.10264: whether all of these hold the refusal direction."""

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, beyond_placebos, over_chance, within
from experiments.findings.claims.paper import Claim, Paper

REFUSED = {"metric": "refused", "family": "unsafe", "strength": 1.0}
"""By models without one direction"""

PAPER = Paper(
    "pan2025",
    {
        "one direction": Claim(
            "a dominant direction",
            "",
            "the first component has more of the shift of the residual stream at EOT than of random shifts",
            over_chance("shift_energy"),
            unit="part",
        ),
        "low rank": Claim(
            "a dominant direction",
            "",
            "fewer components hold 90 % of the shift than of random shifts",
            over_chance("shift_rank", index=90),
            expects="below",
        ),
        "refusal": Claim(
            "a dominant direction",
            "",
            "the first component is the refusal direction, nearer to it than a random one",
            over_chance("shift_overlap"),
            unit="part",
        ),
        "detector": Claim(
            "a dominant direction",
            "",
            "a component that validation prompts choose tells unsafe from safe prompts, better than permuted labels",
            over_chance("shift_accuracy"),
            unit="part",
        ),
        "first detects": Claim(
            "a dominant direction",
            "",
            "so does the first component",
            over_chance("shift_accuracy_first"),
            unit="part",
        ),
        "removal": Claim(
            "a dominant direction",
            "",
            "without the first component in its stream a model refuses fewer unsafe prompts than without a random one",
            within({"intervention": "ablate shift"}, {"intervention": "ablate shift random"}, **REFUSED),
            unit="share",
            expects="below",
        ),
        "one direction, centred": Claim(
            "a dominant direction",
            "",
            "less their mean, too, the first component has more of the shifts than of random ones",
            over_chance("shift_energy_centred"),
            unit="part",
            derived=True,
        ),
        "one direction, by safety": Claim(
            "a dominant direction",
            "",
            "the first component has more of the shift than after any tuning without safety",
            beyond_placebos("shift_energy", lambda there: there.max(axis=1)),
            unit="part",
            derived=True,
        ),
        "refusal, centred": Claim(
            "a dominant direction",
            "",
            "the first component of shifts less their mean is nearer to the refusal direction than a random one",
            over_chance("shift_overlap_centred"),
            unit="part",
            derived=True,
        ),
        "refusal in W_out": Claim(
            "dW",
            "",
            "what dW of the second MLP matrix writes most strongly is nearer to the refusal direction than by chance",
            over_chance("change_overlap", module="W_out", index=1),
            unit="part",
            derived=True,
        ),
        "refusal in W_O": Claim(
            "dW",
            "",
            "so is what dW of the attention's output writes most strongly",
            over_chance("change_overlap", module="W_O", index=1),
            unit="part",
            derived=True,
        ),
        "refusal in W_in": Claim(
            "dW",
            "",
            "so is what dW of the first MLP matrix reads most strongly",
            over_chance("change_overlap", module="W_in", index=1),
            unit="part",
            derived=True,
        ),
        "refusal off dW": Claim(
            "dW",
            "",
            "without the refusal direction in dW the model refuses fewer unsafe prompts than without a random one",
            within({"intervention": "change without refusal"}, {"intervention": "change without random"}, **REFUSED),
            unit="share",
            expects="below",
            derived=True,
        ),
        "refusal between clusters": Claim(
            "clusters",
            "",
            "the axis between the clusters in the stream is nearer to the refusal direction than a random one",
            over_chance("axis_overlap", module="resid_post"),
            unit="part",
            derived=True,
        ),
        "refusal between clusters, MLP": Claim(
            "clusters",
            "",
            "so is the axis between them before the second MLP matrix, as that writes it",
            over_chance("axis_overlap", module="mlp.post"),
            unit="part",
            derived=True,
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
