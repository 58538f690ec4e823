"""Cones of directions."""

from analysis.metric import DIRECTIONS, NUMBER, SHARE, Metric, Null

ROWS: dict[str, Metric] = {
    "lowest_complied": Metric(
        "complied, least", SHARE, "Whichever of the directions sampled from a cone does least leads to this `complied`."
    ),
    "highest_first_refused": Metric(
        "first token refused, most", SHARE, "Whichever of them leaves most first tokens refused leaves this share."
    ),
    "cone_dimension": Metric(
        "dimension of the cone",
        NUMBER,
        "In a cone of this dimension every direction sampled removes refusal when ablated; 0 if there is none.",
        Null(DIRECTIONS, "cone_dimension_random"),
    ),
    "cone_loss": Metric(
        "loss on validation prompts", NUMBER, "This is the loss that a cone has at check `index`; 0 is before any step."
    ),
    "cone_cosine": Metric(
        "cosine with difference of means",
        NUMBER,
        "The difference of means has a cosine of this size with row `index` of a cone's basis.",
        Null(DIRECTIONS, "cone_cosine_random"),
    ),
    "cross_effect": Metric(
        "effect on one another",
        NUMBER,
        "Ablating one of two directions changes the cosine of the stream with the other by so much, mean of both ways.",
        Null(DIRECTIONS, "cross_effect_random"),
    ),
    "cross_cosine": Metric("cosine of the two", NUMBER, "This is the cosine of the two directions of `cross_effect`."),
    "swapped": Metric(
        "answered wrong, dealt to be",
        SHARE,
        "Of prompts whose combination was dealt to be answered wrong, this share is.",
    ),
    "spared": Metric("answered right, dealt to be", SHARE, "Of all other prompts this share is answered right."),
}
