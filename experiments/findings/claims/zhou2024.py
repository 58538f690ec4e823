"""The claims of Zhou et al. 2024, Emulated Disalignment (arXiv 2402.12343)."""

from functools import partial

from analysis.edits.disaligned import DISALIGN, DISALIGN_RANDOM
from experiments.findings.claims.begun import UNSAFE
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING
from experiments.findings.claims.moved import AS_IT_IS, BASE, edited
from experiments.findings.claims.paper import Claim, Paper

ED = "emulated disalignment"

share = partial(Claim, unit="share")
nats = partial(Claim, unit="nats", derived=True)

PAPER = Paper(
    "zhou2024",
    {
        "base": share(
            ED,
            "",
            "what is sampled against tuning complies with more unsafe prompts than the base model",
            edited("complied", DISALIGN, BASE, **UNSAFE),
        ),
        "aligned": share(
            ED,
            "",
            "it complies with more unsafe prompts than the tuned model",
            edited("complied", DISALIGN, AS_IT_IS, **UNSAFE),
        ),
        "odds": nats(
            ED,
            "",
            "the log-odds of compliance with unsafe prompts are higher than those of the base model",
            edited("log_odds", DISALIGN, BASE, **UNSAFE),
        ),
        "odds, random": nats(
            ED,
            "",
            "they are higher than with as large a random change in tuning's place",
            edited("log_odds", DISALIGN, DISALIGN_RANDOM, **UNSAFE),
        ),
        "safe": share(
            ED,
            "",
            "as many safe prompts are complied with as by the base model",
            edited("complied", DISALIGN, BASE, family="safe"),
            expects="same",
            derived=True,
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
