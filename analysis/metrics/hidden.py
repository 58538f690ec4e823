"""Harmfulness beside refusal, and how tuning moved the residual stream."""

from analysis.metric import DIRECTIONS, MATRIX, NUMBER, OTHER_PLACE, PART, Metric, Null, permuted, soft

HARMFULNESS: dict[str, Metric] = {
    "harm_refuse_cosine": Metric(
        "cosine of both directions",
        PART,
        "This is the cosine of v_harm, at the last token of the text, with v_refuse, at EOT.",
        Null(DIRECTIONS, "harm_refuse_cosine_random"),
    ),
    "harm_refuse_cosine_halves": Metric(
        "cosine, across halves", PART, "This is `harm_refuse_cosine` of one half of the prompts with the other half."
    ),
    "halves_cosine": Metric(
        "cosine with itself",
        PART,
        "This is the cosine of v_harm, or v_refuse, of one half of the prompts with that of the other.",
        level=0.0,
    ),
    "column_cosine": Metric(
        "cosine with a part of a combination",
        PART,
        "V_harm, or v_refuse, has this size of cosine with what tells risky from other safe prompts by column `index`.",
        Null(DIRECTIONS, "column_cosine_random"),
    ),
    "side_score": Metric(
        "nearer unsafe",
        NUMBER,
        "This is the cosine with the mean of unsafe prompts less that with the mean of safe ones, over layers.",
        Null(OTHER_PLACE, "side_score_swapped"),
        level=0.0,
    ),
    "side_score_successful": Metric(
        "nearer unsafe, complied", NUMBER, "This is `side_score` of the prompts that were complied with."
    ),
    "side_score_failed": Metric("nearer unsafe, others", NUMBER, "This is `side_score` of all other prompts."),
    "side_gap": Metric(
        "unsafe less safe",
        NUMBER,
        "By `side_score` unsafe and safe prompts are so many standard deviations apart.",
        Null(OTHER_PLACE, "side_gap_swapped"),
        level=0.0,
    ),
    "side_gap_start": Metric(
        "unsafe less safe, by the start",
        NUMBER,
        "This is `side_gap` by the means that the model had which tuning started from.",
        level=0.0,
    ),
    "adv_side_score": Metric(
        "nearer unsafe",
        NUMBER,
        "This is `side_score` with `index` soft tokens fitted to the model, the last of which is read at -1.",
        soft("side_score"),
        level=0.0,
    ),
    "adv_side_score_successful": Metric(
        "nearer unsafe, complied", NUMBER, "This is `adv_side_score` of the prompts that were then complied with."
    ),
    "steering_layer": Metric("layer of steering", NUMBER, "What is added is added to what this layer reads."),
}

SHIFTS: dict[str, Metric] = {
    "shift_energy": Metric(
        "energy of the first component",
        PART,
        "The first component of how tuning moved the stream at EOT has this share of its squares.",
        Null(MATRIX, "shift_energy_random"),
    ),
    "shift_energy_centred": Metric(
        "energy, centred",
        PART,
        "This is `shift_energy` of shifts less their mean.",
        Null(MATRIX, "shift_energy_centred_random"),
    ),
    "shift_rank": Metric(
        "effective rank",
        NUMBER,
        "So many components hold `index` percent of the squares of how tuning moved the stream.",
        Null(MATRIX, "shift_rank_random"),
    ),
    "shift_rank_centred": Metric(
        "effective rank, centred",
        NUMBER,
        "This is `shift_rank` of shifts less their mean.",
        Null(MATRIX, "shift_rank_centred_random"),
    ),
    "shift_accuracy": Metric(
        "accuracy of a component",
        PART,
        "The component that does best on validation prompts tells this share of unsafe and safe prompts apart.",
        permuted("shift_accuracy", low=False, high=False),
    ),
    "shift_accuracy_first": Metric(
        "accuracy of the first component",
        PART,
        "The first component of the shift tells this share of unsafe and safe prompts apart.",
        permuted("shift_accuracy_first", low=False, high=False),
    ),
    "shift_overlap": Metric(
        "refusal in the shift",
        PART,
        "This is the size of the cosine of the refusal direction with the first component of the shift.",
        Null(DIRECTIONS, "shift_overlap_random"),
    ),
    "shift_overlap_centred": Metric(
        "refusal in the centred shift",
        PART,
        "This is `shift_overlap` of shifts less their mean.",
        Null(DIRECTIONS, "shift_overlap_centred_random"),
    ),
    "change_overlap": Metric(
        r"refusal in $\Delta W$",
        PART,
        "The refusal direction is so long within the first `index` singular directions of dW in the stream.",
        Null(DIRECTIONS, "change_overlap_random"),
    ),
    "axis_overlap": Metric(
        "refusal between clusters",
        PART,
        "This is the size of the cosine of the refusal direction with the axis between clusters, carried to there.",
        Null(DIRECTIONS, "axis_overlap_random"),
    ),
    "found_again": Metric(
        "what it was",
        PART,
        "The direction `module` that is found anew in an edited model has this size of cosine with what it was.",
        Null(DIRECTIONS, "found_again_random"),
    ),
    "shift_layer": Metric(
        "layer of the component", NUMBER, "The component that is removed was found behind this layer."
    ),
}

ROWS = {**HARMFULNESS, **SHIFTS}
