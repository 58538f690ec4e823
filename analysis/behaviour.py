"""Does a model comply, refuse, or neither: by greedy generation and by teacher forcing."""

from analysis.rows import Result, Samples, Subject


def measure(subject: Subject) -> list[Result]:
    """Shares of each family's prompts; `neither` is every response that is not exactly one or the other.

    Teacher forcing feeds the response to be judged as input, so it bounds what generation
    does from above only for the response fed; it is reported beside it, not instead of it.
    """
    results: list[Result] = []
    for family, seen in subject.observations.items():
        values = {
            "complied": seen.complied,
            "refused": seen.refused,
            "neither": ~(seen.complied | seen.refused),
            "teacher_forced_complied": seen.teacher_complied,
            "teacher_forced_refused": seen.teacher_refused,
            "token_accuracy": seen.token_accuracy,
        }
        results += [Samples(metric, value, family=family) for metric, value in values.items()]
    return results
