"""Directions of the residual stream."""

from analysis.metric import ACTIVATION, COUNT, DIRECTIONS, NATS, NUMBER, PART, SHARE, Metric, Null, soft

ROWS: dict[str, Metric] = {
    "direction_norm": Metric(
        "difference of means",
        ACTIVATION,
        "This is the distance between the means of the stream over unsafe and safe training prompts.",
    ),
    "direction_bypass": Metric(
        "bypass score",
        NATS,
        "This is the log-odds of a refusal's first token on unsafe validation prompts, with the direction ablated.",
    ),
    "direction_induce": Metric(
        "induce score", NATS, "This is the same on safe validation prompts, with the direction added at its layer."
    ),
    "direction_kl": Metric(
        "KL score",
        NATS,
        "Ablation changes the prediction for safe validation prompts by this Kullback-Leibler divergence.",
        level=0.0,
    ),
    "direction_passing": Metric("directions that pass", COUNT, "So many directions keep to the thresholds."),
    "direction_rank": Metric(
        "directions until refusal is gone",
        COUNT,
        "So many directions must be ablated for hardly any refusal to be left.",
    ),
    "direction_layer": Metric("layer of the direction", NUMBER, "This layer reads the stream where it was found."),
    "direction_position": Metric("position of the direction", NUMBER, "It was found so many tokens behind EOT."),
    "direction_kept": Metric(
        "kept by the filter", SHARE, "The filter left this share of the training prompts, or too few to be used."
    ),
    "first_token_kl": Metric(
        "KL at the first token",
        NATS,
        "An edit changes the prediction of the first token by this Kullback-Leibler divergence.",
        level=0.0,
    ),
    "refusal_cosine": Metric(
        "cosine with the direction",
        NUMBER,
        "This is the cosine of the stream with the first direction.",
        Null(DIRECTIONS, "refusal_cosine_random"),
    ),
    "refusal_cosine_successful": Metric(
        "cosine, complied", NUMBER, "This is `refusal_cosine` of the prompts that were complied with."
    ),
    "refusal_cosine_failed": Metric("cosine, others", NUMBER, "This is `refusal_cosine` of all other prompts."),
    "component_effect": Metric(
        "written along the direction",
        ACTIVATION,
        "A head, by `index`, or an MLP writes so much along the first direction at EOT.",
        Null(DIRECTIONS, "component_effect_random"),
    ),
    "attention_share": Metric(
        "share of attention", PART, "Head `index` has this share of its attention at EOT on a part of the prompt."
    ),
    "adv_refusal_cosine": Metric(
        "cosine with the direction",
        NUMBER,
        "This is `refusal_cosine` with `index` soft tokens fitted to the model.",
        soft("refusal_cosine"),
    ),
    "adv_direction_complied": Metric(
        "share complied", SHARE, "This is `complied` with these soft tokens.", soft("direction_complied")
    ),
}
