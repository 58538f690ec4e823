"""The claims of Qi et al. 2024, Safety Alignment Should Be Made More Than Just a Few Tokens Deep (arXiv 2406.05946)."""

from functools import partial

from experiments.findings.claims.begun import UNSAFE, attacked, complied, prefill, refusal_given
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, against, over_chance
from experiments.findings.claims.paper import Claim, Paper
from experiments.settings.names import UNTOUCHED

DEEP, DERTA, SHAM, AGAIN, CONSTRAINED = "deep_refusal", "derta", "sham", "sft again", "comply_constrained"
BENIGN = "continued"
SHALLOW, REPAIRED, TUNING = "a few tokens", "deep refusals", "fine-tuning attacks"

share = partial(Claim, unit="share")
fewer = partial(Claim, unit="share", expects="below")
part = partial(Claim, unit="part")

PAPER = Paper(
    "qi2024",
    {
        "first token": part(
            SHALLOW,
            "",
            "the first token has more of what tuning moved along a compliant response than each token has on the mean",
            over_chance("kl_first_comply", **UNSAFE),
        ),
        "prefill": share(
            SHALLOW, "", "tuned models complete more answers that are begun for them than they begin", prefill
        ),
        "refusal prefix": share(
            SHALLOW,
            "",
            "the untuned model goes on with a refusal that is begun for it, more often than it refuses",
            refusal_given,
            (UNTOUCHED,),
        ),
        "first token, matched": part(
            SHALLOW,
            "",
            "so it has among tokens that were as certain before tuning",
            over_chance("kl_first_matched_comply", **UNSAFE),
            derived=True,
        ),
        "first token, sham": part(
            SHALLOW,
            "",
            "the first token has more of it than after learning a constant response that is no refusal",
            against(SHAM, "kl_first_comply", **UNSAFE),
            derived=True,
        ),
        "moved, two draws": Claim(
            SHALLOW,
            "",
            "tuning moved the tokens of compliant responses further than another draw of the same prompts would",
            against(AGAIN, "token_kl_comply", **UNSAFE),
            derived=True,
        ),
        "deep, tokens": part(
            REPAIRED,
            "",
            "after tuning on late refusals the first token has less of what was moved than after SSFT",
            against(SFT, "kl_first_comply", **UNSAFE),
            (DEEP,),
            expects="below",
        ),
        "deep, prefill": fewer(
            REPAIRED,
            "",
            "after it fewer begun answers are completed than after SSFT",
            against(SFT, "begun_complied", **UNSAFE),
            (DEEP,),
        ),
        "deep, safe": share(
            REPAIRED,
            "",
            "after it as many safe prompts are complied with as after SSFT",
            against(SFT, "complied", family="safe"),
            (DEEP,),
            expects="same",
        ),
        "attack": share(
            TUNING,
            "",
            "a few steps of tuning on compliance make a model comply with more unsafe prompts",
            complied(attacked("{}")),
            (SFT,),
        ),
        "attack, benign": share(
            TUNING,
            "",
            "they do so more than as many steps of tuning on safe prompts alone",
            complied(attacked("{}"), attacked("{}", BENIGN)),
            (SFT,),
            derived=True,
        ),
        "deep, attack": share(
            TUNING,
            "",
            "models with deep refusals comply with as many unsafe prompts after the attack as SSFT",
            complied(attacked("{}"), attacked(SFT)),
            (DEEP, DERTA),
            expects="same",
        ),
        "constrained": fewer(
            TUNING,
            "",
            "where the attack's first tokens are held near the model's own, it complies with fewer",
            complied(attacked("{}", CONSTRAINED), attacked("{}")),
            (SFT,),
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
