"""What tuning did to the weights, and what that does to activations."""

from analysis.metric import (
    COUNT,
    DIRECTIONS,
    EVEN,
    FRAMES,
    MATRIX,
    NUMBER,
    OTHER,
    PART,
    SINE,
    UNTUNED,
    WEIGHT,
    Metric,
    Null,
)

ROWS: dict[str, Metric] = {
    "change_share": Metric(
        "share of dW",
        PART,
        "A part of the model, or a layer, has this share of dW's squared norm.",
        Null(EVEN, "change_share_even"),
    ),
    "rank_change": Metric(
        "rank of dW",
        COUNT,
        "So many leading singular vectors of dW hold `rank_share` of its squared norm.",
        Null(UNTUNED, "rank_untuned"),
    ),
    "relative_change": Metric("|dW| / |W|", NUMBER, "This is the norm of dW over that of W."),
    "effective_rank": Metric("effective rank of dW", NUMBER, "This is exp of the entropy of dW's singular values."),
    "stable_rank": Metric(
        "stable rank of dW", NUMBER, "This is the squared Frobenius norm of dW over its squared spectral norm."
    ),
    "sine": Metric(
        r"sin $\theta_i$",
        SINE,
        "This is the sine of the angle of left singular vector `index` of dW to W's column space.",
    ),
    "sine_mean": Metric("mean sine", SINE, "This is the mean of `sine`.", Null(FRAMES, "sine_random_mean")),
    "sine_excess": Metric("sine - random", SINE, "This is `sine_mean` less that of random frames.", level=0.0),
    "sine_sorted": Metric(
        r"sin $\theta_i$",
        SINE,
        "This is `sine` in ascending order.",
        Null(FRAMES, "sine_random_sorted", "sine_random_sorted_low", "sine_random_sorted_high"),
    ),
    "outside_energy": Metric(
        r"$\|(I-P)\Delta W\|/\|\Delta W\|$",
        PART,
        "This share of dW's norm lies outside W's column space.",
        Null(MATRIX, "outside_energy_random"),
    ),
    "outside_top": Metric(
        r"$\|(I-P)\Delta W\|/\|\Delta W\|$, top",
        PART,
        "This is `outside_energy` of the leading vectors that hold half of dW's squared norm.",
        Null(MATRIX, "outside_top_random"),
    ),
    "projection": Metric(
        r"$\sigma_i v_i^\top a$",
        WEIGHT,
        "An input of unit length reaches so far along right singular vector `index` of dW.",
    ),
    "projection_abs": Metric(
        r"$|\sigma_i v_i^\top a|$",
        WEIGHT,
        "This is the mean size of `projection`.",
        Null(DIRECTIONS, "projection_abs_random"),
    ),
    "projection_total": Metric(
        r"$\|\Delta W a\|$",
        WEIGHT,
        "This is the length of dW times an input of unit length.",
        Null(DIRECTIONS, "projection_total_random"),
    ),
    "projection_total_successful": Metric(
        r"$\|\Delta W a\|$, complied", WEIGHT, "This is `projection_total` of the prompts that were complied with."
    ),
    "projection_top": Metric(
        r"$\|\Delta W a\|$, top",
        WEIGHT,
        "This is the length of the first projections together.",
        Null(DIRECTIONS, "projection_top_random"),
    ),
    "projection_rms": Metric(
        r"relative $\|\Delta W a\|$",
        NUMBER,
        "This is the root mean square of `projection_total`, over that of a random direction.",
        level=1.0,
    ),
    "neuron_effect": Metric(
        r"mean $|(\Delta W a)_j|$",
        WEIGHT,
        "This is the mean size of what dW adds to neuron `index`, the most aligned with dW first.",
    ),
    "neuron_effect_mean": Metric(
        r"mean $|\Delta W a|$, all neurons",
        WEIGHT,
        "This is the mean size of what dW adds to a neuron, over all of them.",
    ),
    "neuron_sample": Metric(
        r"$(\Delta W a)_j$", WEIGHT, "This is what dW adds to neuron `index` on the family's first prompt."
    ),
    "activation_angle": Metric(
        "mean sine to untuned",
        SINE,
        "This is the sine of an angle of what activations span to what they spanned before tuning.",
        Null(OTHER, "activation_angle_untuned"),
    ),
    "activation_angle_mean": Metric(
        "mean sine", SINE, "This is the mean of `activation_angle`.", Null(OTHER, "activation_angle_untuned_mean")
    ),
}
