"""The figures and tables of a study: what each shows, which rows of the results table, and how they are drawn."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import (
    activations,
    angles,
    attacks,
    behaviour,
    cones,
    depth,
    directions,
    distances,
    energy,
    groups,
    harmfulness,
    interventions,
    jailbreaks,
    landscape,
    multiples,
    neurons,
    paths,
    prefill,
    projections,
    sample,
    scorecard,
    sensitivity,
    separability,
    shifts,
    sines,
    spectra,
    tables,
    tau,
)


class Drawing(NamedTuple):
    """How a figure comes from the results table."""

    shows: str
    """What is seen, and where the paper has it"""
    rows: Callable[..., pd.DataFrame]
    """What is drawn, no rows if the table does not have it"""
    draw: Callable[..., Figure]
    """From these rows"""
    each_model: bool = False
    """Whether one for each tuned model, of its rows and those of the untouched model: NAME-MODEL"""
    of_prompts: bool = False
    """Whether it shows single prompts: its table is then `samples.coordinates`"""
    each_paper: bool = False
    """Whether one for each paper, which both functions are given after the rows: NAME-PAPER where there are several"""
    of_models: bool = False
    """Whether models share axes: `draw` is then given, after the rows, how each model of the table looks"""


FIGURES: dict[str, Drawing] = {
    "behaviour": Drawing("What each model answers, by family of prompts", behaviour.rows, behaviour.draw),
    "tau": Drawing("Mean tau against layer (Fig. 3)", tau.rows, tau.draw),
    "sines": Drawing(
        "Angle of dW's columns to those of W, first MLP matrix (Fig. 4)", partial(sines.rows, module="W_in"), sines.draw
    ),
    "energy": Drawing("How much of dW lies outside W's columns, by energy (cf. Fig. 4)", energy.rows, energy.draw),
    "projections": Drawing(
        "Reach of safe and unsafe prompts along dW's rows (Fig. 5)",
        partial(projections.rows, module="W_in", jailbreaks=False),
        projections.draw,
    ),
    "sensitivity": Drawing("Local Lipschitzness by family (Figs 6, A.64-65)", sensitivity.rows, sensitivity.draw),
    "jailbreaks": Drawing(
        "Jailbreaks beside safe and unsafe prompts (Figs 7, A.45-49)", jailbreaks.rows, jailbreaks.draw, True
    ),
    "separability": Drawing(
        "K-means and probe accuracy, spectral share (Figs A.31-32, A.19-22)", separability.rows, separability.draw
    ),
    "activations": Drawing(
        "Where single prompts lie before the second MLP matrix",
        partial(activations.rows, module="mlp.post"),
        activations.draw,
        of_prompts=True,
    ),
    "activations_resid": Drawing(
        "Where single prompts lie in the residual stream, at the last token",
        partial(activations.rows, module="resid_post_last"),
        activations.draw,
        of_prompts=True,
    ),
    "distances": Drawing(
        "Distance of cluster means against behaviour (Fig. A.33)",
        partial(distances.rows, module="mlp.post"),
        distances.draw,
        of_models=True,
    ),
    "distances_out": Drawing(
        "The same after the second MLP matrix (Fig. A.52)",
        partial(distances.rows, module="mlp_out"),
        distances.draw,
        of_models=True,
    ),
    "angles": Drawing(
        "Angles between activations before and after tuning (Fig. A.16)",
        partial(angles.rows, jailbreaks=False),
        angles.draw,
    ),
    "angles_jailbreaks": Drawing(
        "The same of jailbreaks (Figs A.43-44)", partial(angles.rows, jailbreaks=True), angles.draw
    ),
    "projections_jailbreaks": Drawing(
        "Reach of jailbreaks along dW's rows (Figs A.34-37)",
        partial(projections.rows, module="W_in", jailbreaks=True),
        projections.draw,
    ),
    "neurons": Drawing("Effect of dW by neuron (Fig. A.38)", neurons.rows, neurons.draw),
    "neurons_sample": Drawing("Effect of dW on one prompt by neuron (Figs A.39-42)", sample.rows, sample.draw),
    "tau_groups": Drawing("Mean tau by concept group (Figs A.29-30)", groups.rows, groups.draw),
    "sines_out": Drawing(
        "Angle of dW's columns to those of W, second MLP matrix (Figs A.50-63)",
        partial(sines.rows, module="W_out"),
        sines.draw,
    ),
    "projections_out": Drawing(
        "Reach of safe and unsafe prompts along dW's rows, second MLP matrix (Figs A.50-63)",
        partial(projections.rows, module="W_out", jailbreaks=False),
        projections.draw,
    ),
    "spectra": Drawing(
        "Singular values of each cluster's covariance, before and after tuning (Figs A.19-22)",
        partial(spectra.rows, spectrum=spectra.COVARIANCE, steps=False),
        partial(spectra.draw, spectrum=spectra.COVARIANCE),
    ),
    "spectra_by_step": Drawing(
        "Singular values of each cluster's covariance over tuning (Figs A.19-22)",
        partial(spectra.rows, spectrum=spectra.COVARIANCE, steps=True),
        partial(spectra.draw, spectrum=spectra.COVARIANCE),
    ),
    "sines_by_step": Drawing(
        "Angle of dW's columns to those of W over tuning (Figs A.23-25)",
        partial(spectra.rows, spectrum=spectra.SINES, steps=True),
        partial(spectra.draw, spectrum=spectra.SINES),
    ),
    "projections_by_step": Drawing(
        "Reach of prompts along dW's rows over tuning (Figs A.26-28)",
        partial(spectra.rows, spectrum=spectra.PROJECTIONS, steps=True),
        partial(spectra.draw, spectrum=spectra.PROJECTIONS),
    ),
    "attacks": Drawing("What soft tokens do, by their number (Figs A.66-71)", attacks.rows, attacks.draw),
    "interventions": Drawing(
        "Behaviour of W + alpha dW (Figs A.72, A.75)", interventions.alpha_rows, interventions.draw_alpha
    ),
    "multiples": Drawing("What W + alpha dW holds (Figs A.76-85)", multiples.rows, multiples.draw),
    "parts": Drawing("What parts of dW carry", interventions.part_rows, interventions.draw_parts),
    "patches": Drawing(
        "Activations patched along the cluster axis", interventions.patch_rows, interventions.draw_patches
    ),
    "between": Drawing(
        "Behaviour between tuned models (Fig. A.73)",
        partial(paths.rows, kind="between"),
        partial(paths.draw, kind="between"),
        of_models=True,
    ),
    "transfer": Drawing(
        "The dW of one tuned model in another (Fig. A.74)",
        partial(paths.rows, kind="transfer"),
        partial(paths.draw, kind="transfer"),
        of_models=True,
    ),
    "cones": Drawing("Refusal without directions of a cone (cf. Wollschläger et al. 2025)", cones.rows, cones.draw),
    "harmfulness": Drawing(
        "Harmfulness beside refusal: directions, jailbreaks, steering (arXiv 2507.11878)",
        harmfulness.rows,
        harmfulness.draw,
    ),
    "shifts": Drawing(
        "How tuning moved the residual stream, and the refusal direction (arXiv 2502.09674)", shifts.rows, shifts.draw
    ),
    "prefill": Drawing(
        "What becomes of responses that were begun (cf. arXiv 2406.05946)",
        prefill.rows,
        prefill.draw,
        of_models=True,
    ),
    "depth": Drawing(
        "How far tuning moved each token of a response (cf. arXiv 2406.05946)",
        depth.rows,
        depth.draw,
        of_models=True,
    ),
    "landscape": Drawing(
        "What models do whose weights are moved, or against whose tuning is sampled (cf. arXiv 2405.17374, 2402.12343)",
        landscape.rows,
        landscape.draw,
        of_models=True,
    ),
    "scorecard": Drawing("The paper's claims, each with its control", scorecard.rows, scorecard.draw, each_paper=True),
    "refusal_edits": Drawing(
        "Without a direction of refusal, and with it added (cf. Figs. 1 and 3 of arXiv 2406.11717)",
        directions.edit_rows,
        directions.draw_edits,
    ),
    "refusal_rank": Drawing(
        "How many directions must go until refusal is gone", directions.rank_rows, directions.draw_rank
    ),
    "refusal_cosine": Drawing(
        "How far prompts lie along the direction of refusal (cf. Fig. 5 of arXiv 2406.11717)",
        directions.cosine_rows,
        directions.draw_cosine,
    ),
}

TABLES: dict[str, tuple[str, tables.Columns]] = {
    "table_a1": ("Behaviour by model (Table A.1)", tables.ALL),
    "table_a2": ("Mismatched generalisation by kind (Table A.2)", tables.MISGEN),
}

GROUPS = {
    "behaviour": "Behaviour",
    "attacks": "Success of jailbreaks",
    "other families": "Compliance on the other families of prompts",
    "separation": "Separation of safe and unsafe prompts",
    "separability": "How well safe and unsafe prompts are told apart, and the shape of their clusters",
    "sines": "Angle of dW's columns to those of W",
    "projections": "Reach of prompts along dW's rows",
    "sensitivity": "Local Lipschitzness, against the untouched model",
    "change": "Size and place of dW",
    "directions": "Directions of refusal",
    "depth": "Begun responses, and how deep tuning goes",
    "data": "What the tuning data repeats",
}
"""Groups of `experiments.findings.outcomes`, each a figure of a sweep and one over the steps of tuning."""
