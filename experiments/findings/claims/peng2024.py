"""The claims of Peng et al. 2024, Navigating the Safety Landscape (arXiv 2405.17374)."""

from functools import partial

from analysis.edits.landscape import BY_CHANGE, MOVE
from experiments.findings.claims.begun import UNSAFE
from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, within
from experiments.findings.claims.moved import jailbreaks_kept, left_basin, narrowing, orders
from experiments.findings.claims.paper import Claim, Paper

BASIN, VISAGE, FINETUNING, JAILBREAKS = "safety basin", "VISAGE", "harmful fine-tuning", "jailbreaks"

part = partial(Claim, unit="part")
rank = partial(Claim, unit="rank")

PAPER = Paper(
    "peng2024",
    {
        "step": part(
            BASIN,
            "",
            "where weights are moved at random refusal is lost in a step, more than compliance with safe prompts is",
            within({"family": "unsafe"}, {"family": "safe"}, metric="basin_fall", intervention=MOVE),
        ),
        "basin": part(
            BASIN,
            "",
            "refusal stays where weights are moved, further than compliance with safe prompts does",
            within({"family": "unsafe"}, {"family": "safe"}, metric="basin_width", intervention=MOVE),
        ),
        "tuning's direction": part(
            BASIN,
            "",
            "the basin is narrower along tuning's own change than along random directions",
            within({"intervention": BY_CHANGE}, {"intervention": MOVE}, metric="basin_width", **UNSAFE),
            expects="below",
            derived=True,
        ),
        "tuning's direction, safe": part(
            BASIN,
            "",
            "along tuning's own change it is narrower by more than the basin of compliance with safe prompts is",
            narrowing,
            expects="below",
            derived=True,
        ),
        "leaves": part(
            FINETUNING,
            "",
            "tuning on compliance moves a model further than its basin is wide",
            left_basin,
        ),
        "orders": rank(
            VISAGE,
            "",
            "models of a higher VISAGE comply with fewer unsafe prompts after tuning on compliance",
            orders("visage", intervention=MOVE),
        ),
        "orders, refusal": rank(
            VISAGE,
            "",
            "VISAGE tells this better than refusal of the models as they are",
            orders("visage", "refused", intervention=MOVE),
            derived=True,
        ),
        "orders, all points": rank(
            VISAGE,
            "",
            "VISAGE over all points, which tells the width, does so better than refusal of the models as they are",
            orders("visage_whole", "refused", intervention=MOVE),
            derived=True,
        ),
        "jailbreaks": part(
            JAILBREAKS,
            "",
            "jailbreaks are fragile: less of their success is left where weights are moved than of other compliance",
            jailbreaks_kept,
            expects="below",
        ),
    },
    Conventions(methods=(SFT, DPO, UNLEARNING)),
)
