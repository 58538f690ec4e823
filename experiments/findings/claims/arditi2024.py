"""The claims of Arditi et al. 2024, Refusal in Language Models Is Mediated by a Single Direction (arXiv 2406.11717).

The paper chooses a direction that keeps to thresholds. Its claims are read here of that of the lowest bypass score,
which every model has; one claim says whether a direction keeps to them. Permuted labels and placebos are ours.
"""

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.refusal import (
    ABLATED,
    INTACT,
    WEIGHTS,
    all_together,
    by_chance,
    edited,
    heads_of_jailbreaks,
    jailbreaks_against_unsafe,
    small_divergence,
    soft_tokens,
    some_pass,
)
from experiments.settings.names import RANDOM, UNTOUCHED
from models.training.methods import CONTROLS

CLAIMS: dict[str, Claim] = {
    "ablation": Claim(
        "sec. 3.1",
        "Fig. 1",
        "without one direction unsafe prompts are refused less than without a random one",
        by_chance("ablate", "first_refused", "unsafe"),
        unit="share",
        expects="below",
    ),
    "compliance": Claim(
        "sec. 3.1",
        "Fig. 1",
        "without it the model does what unsafe prompts ask for, more than as it is",
        edited("complied", ABLATED, INTACT, "unsafe"),
        unit="share",
    ),
    "addition": Claim(
        "sec. 3.2",
        "Fig. 3",
        "with it added safe prompts are refused more than with a random one added",
        by_chance("add", "first_refused", "safe"),
        unit="share",
    ),
    "a direction passes": Claim(
        "app. C",
        "Table 5",
        "in most models a direction keeps to the thresholds on what it induces and on what it costs",
        some_pass,
        unit="part",
    ),
    "safe accuracy": Claim(
        "sec. 4.3",
        "Table 3",
        "a model whose weights write nothing along it complies with safe prompts as before",
        edited("complied", {**ABLATED, **WEIGHTS}, INTACT, "safe"),
        unit="share",
        expects="same",
    ),
    "small divergence": Claim(
        "app. C",
        "Table 5",
        "ablation changes the first token for safe prompts by less than 0.1 nats",
        small_divergence,
        expects="below",
    ),
    "suppressed": Claim(
        "sec. 5.1",
        "Fig. 5",
        "jailbreaks that succeed lie less along it than plain unsafe prompts",
        jailbreaks_against_unsafe("refusal_cosine_successful"),
        unit="part",
        expects="below",
    ),
    "soft tokens suppress": Claim(
        "sec. 5.1",
        "Fig. 5",
        "with fitted soft tokens unsafe prompts lie less along it than with random ones",
        soft_tokens("adv_refusal_cosine", "adv_random_refusal_cosine"),
        unit="part",
        expects="below",
    ),
    "random ones do not": Claim(
        "sec. 5.1",
        "Fig. 5",
        "with random soft tokens unsafe prompts lie as far along it as without",
        soft_tokens("adv_random_refusal_cosine", "refusal_cosine"),
        unit="part",
        expects="same",
    ),
    "heads": Claim(
        "sec. 5.2",
        "Fig. 6",
        "heads write less along it for competing objectives than for plain unsafe prompts",
        heads_of_jailbreaks,
        unit="part",
        expects="below",
    ),
    "one suffices": Claim(
        "sec. 3.1",
        "",
        "without further directions as much refusal is left as without the first alone",
        all_together,
        unit="share",
        expects="same",
        derived=True,
    ),
    "ablation, by safety": Claim(
        "sec. 3.1",
        "",
        "without it unsafe prompts are refused less than without what the search finds for permuted labels",
        by_chance("ablate", "first_refused", "unsafe", "permuted"),
        unit="share",
        expects="below",
        derived=True,
    ),
    "addition, by safety": Claim(
        "sec. 3.2",
        "",
        "with it added safe prompts are refused more than with what the search finds for permuted labels",
        by_chance("add", "first_refused", "safe", "permuted"),
        unit="share",
        derived=True,
    ),
    "failed ones do not": Claim(
        "sec. 5.1",
        "Fig. 5",
        "jailbreaks that fail lie as far along it as plain unsafe prompts",
        jailbreaks_against_unsafe("refusal_cosine_failed"),
        unit="part",
        expects="same",
        derived=True,
    ),
    "recentred": Claim(
        "sec. 3.1",
        "",
        "with its coordinate set to that of safe prompts unsafe ones are refused less than with a random one set",
        by_chance("recentre", "first_refused", "unsafe"),
        unit="share",
        expects="below",
        derived=True,
    ),
    "recentred, cost": Claim(
        "sec. 4.3",
        "",
        "with its coordinate set to that of safe prompts the model complies with these as before",
        edited("complied", {"intervention": "recentre", "strength": 1.0}, INTACT, "safe"),
        unit="share",
        expects="same",
        derived=True,
    ),
}

PAPER = Paper(
    "arditi2024", CLAIMS, Conventions(methods=(SFT, DPO, UNLEARNING), placebos=(*CONTROLS, UNTOUCHED, RANDOM))
)
