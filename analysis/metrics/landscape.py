"""How far weights can be moved before a model stops refusing."""

from analysis.metric import PART, Metric

ROWS: dict[str, Metric] = {
    "basin_width": Metric(
        "width of the basin",
        PART,
        "Weights moved by this part of their size leave most of refusal (of safe prompts, compliance).",
    ),
    "basin_fall": Metric(
        "steepest step",
        PART,
        "Of all refusal (of safe prompts, compliance) that moving weights costs, this part goes in one step.",
    ),
    "visage": Metric(
        "VISAGE",
        PART,
        "This is the mean refusal (of safe prompts, compliance) over points weights are moved to that have some.",
    ),
    "visage_whole": Metric("VISAGE, all points", PART, "This is `visage` over points without any refusal too."),
    "visage_first": Metric(
        "VISAGE, first token", PART, "This is `visage` where a response refuses whose first token is a refusal's."
    ),
    "visage_complied": Metric(
        "VISAGE, compliance", PART, "This is `visage` where only compliance is a success, and nonsense is none."
    ),
    "change_strength": Metric(
        r"size of $\Delta W$", PART, "Tuning itself moved matrices by this part of their size.", level=0.0
    ),
}
