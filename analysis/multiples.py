"""What a model does, and what it holds, as its change is undone, halved or taken further (`analysis/edits/multiples`).

arXiv 2407.10264, Figs. A.72 and A.75-85.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.clusters import ROUNDING, row, separation, spread, unusable
from analysis.discriminant import fisher
from analysis.edits.lookup import edits_of
from analysis.edits.settings import InterventionsConfig
from analysis.observe import observe_last
from analysis.rows import Result, Subject
from analysis.scores import results_of, scores, stacked
from analysis.sensitivity import NOT_FINITE, of_families
from analysis.separability import NO_SPREAD, spectral_share
from analysis.subspaces import sines, span

FAMILIES = ("safe", "unsafe")

SITE = "mlp.post_last"
"""Where activations are measured: the paper's site, before any token of a response has been read."""


def measure(subject: Subject, config: InterventionsConfig, ridge: float) -> list[Result]:
    """Behaviour of every family under W + alpha dW, `strength` being alpha; of safe and unsafe prompts and the
    others of `config.families` what the model then holds at SITE, per layer, and Lipschitzness.

    What to compare with is the untuned model on the same prompts, which is alpha 0, and the same alpha of a control's
    dW. `activation_angle` and `lipschitz` are means, as those of `nullspace` and `sensitivity`; `ridge` is Fisher's.
    No rows for the untouched model.
    """
    if subject.untouched:
        return []
    model, tried = subject.model, stacked(subject.prompts, config.prompts)
    chosen = {
        name: of
        for name, of in subject.prompts.items()
        if config.families is None or name in (*FAMILIES, *config.families)
    }
    bases = _bases(observe_last(model, subject.reference, chosen, config.scan_prompts))
    results: list[Result] = []
    for one in edits_of("multiples", subject, config):
        edit, where = one.make(), one.label._asdict()
        results += results_of(list(subject.prompts), [scores(edit, tried)], **where)
        seen = observe_last(model, edit.params, chosen, config.scan_prompts)
        for layer in range(model.layers):
            acts = {family: np.asarray(last["mlp.post"][:, layer], float) for family, last in seen.items()}
            at: dict[str, Any] = where | {"layer": layer + 1, "module": SITE}
            results += _apart(acts["safe"], acts["unsafe"], ridge, at)
            results += _angles(acts, {family: basis[layer] for family, basis in bases.items()}, at)
        for family, values in of_families(model, edit.params, chosen, config.scan_prompts).items():
            mean = values.mean() if np.isfinite(values).all() else np.nan
            results.append(row("lipschitz", mean, len(values), NOT_FINITE, family=family, **where))
    return results


def _apart(safe: np.ndarray, unsafe: np.ndarray, ridge: float, at: dict[str, Any]) -> list[Result]:
    """`separation`, `separation_scaled` and `fisher` of rows [N, F], and of each family's `spectral_share`."""
    missing = unusable({"safe": safe, "unsafe": unsafe})
    why = missing.get("safe", missing.get("unsafe"))
    found = dict.fromkeys(("separation", "separation_scaled", "fisher"), np.nan)
    if not why:
        pooled, is_safe = np.concatenate([safe, unsafe]), np.arange(len(safe) + len(unsafe)) < len(safe)
        found["separation"], within = separation(safe, unsafe), spread(safe, unsafe)
        if within > ROUNDING * np.sqrt(np.mean(np.sum(pooled**2, axis=1))):
            found["separation_scaled"] = found["separation"] / within
            found["fisher"] = fisher(pooled, is_safe[None], ridge)[0]
    because = why or NO_SPREAD
    results: list[Result] = [row(metric, v, len(safe) + len(unsafe), because, **at) for metric, v in found.items()]
    for family, rows in zip(FAMILIES, (safe, unsafe), strict=True):
        share = np.nan if family in missing else spectral_share(rows)
        results.append(row("spectral_share", share, len(rows), missing.get(family, NO_SPREAD), family=family, **at))
    return results


def _bases(before: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, list[np.ndarray | None]]:
    """By family and layer, [F, r] what the untuned model's activations span, if they are finite and not all zero."""
    by_layer = {family: np.asarray(last["mlp.post"], float).swapaxes(0, 1) for family, last in before.items()}
    return {
        family: [span(rows) if rows.any() and np.isfinite(rows).all() else None for rows in acts]
        for family, acts in by_layer.items()
    }


def _angles(acts: Mapping[str, np.ndarray], bases: Mapping[str, np.ndarray | None], at: dict[str, Any]) -> list[Result]:
    """`activation_angle`: the mean sine of what each family's rows [N, F] span, over as many directions as that has."""
    missing, results = unusable(acts), list[Result]()
    for family, rows in acts.items():
        basis = bases[family]
        found = np.array([]) if basis is None or family in missing else sines(span(rows), basis)
        mean = found.mean() if len(found) else np.nan
        because = missing.get(family, "activations are not finite, or all zero")
        results.append(row("activation_angle", mean, len(found), because, family=family, **at))
    return results
