"""Does a model comply, refuse, or neither: by greedy generation and by teacher forcing."""

import numpy as np

from analysis.rows import Result, Row, Samples, Subject


def measure(subject: Subject) -> list[Result]:
    """Shares of each family's prompts; `neither` is every response whose answer is not exactly one or the other.

    Of a jailbreak family `complied` is attack success over all attempts. `first_complied` and
    `first_refused` judge the first token of the same responses. Teacher forcing feeds the response
    to be judged as input, so it bounds what generation does from above only for the response fed;
    it is reported beside it, not instead of it. `log_odds` is log p(compliant response) -
    log p(refusal), both whole: what moves before any greedy response does. Whatever else the judge
    says of a response is a metric under the name of its label, as `complied_trace` is where a style has a trace.
    """
    results: list[Result] = []
    for family, seen in subject.observations.items():
        values = {
            "complied": seen.complied,
            "refused": seen.refused,
            "neither": ~(seen.complied | seen.refused),
            "first_complied": seen.first_complied,
            "first_refused": seen.first_refused,
            "teacher_forced_complied": seen.teacher_complied,
            "teacher_forced_refused": seen.teacher_refused,
            "token_accuracy": seen.token_accuracy,
        }
        taken = sorted({*values, "log_odds"} & seen.labels.keys())
        if taken:
            raise ValueError(f"labels {taken} of a judge: must not be metrics of all judges; name them otherwise")
        values |= seen.labels
        results += [Samples(metric, value, family=family) for metric, value in values.items()]
        odds = np.asarray(seen.logp_comply, float) - np.asarray(seen.logp_refuse, float)
        if np.isfinite(odds).all():
            results.append(Samples("log_odds", odds, family=family))
        else:
            missing = "log-probabilities that are not finite"
            results.append(Row("log_odds", np.nan, len(odds), family=family, missing=missing))
    return results
