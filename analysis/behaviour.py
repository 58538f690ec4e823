"""Does a model comply, refuse, or neither: by greedy generation and by teacher forcing."""

from analysis.rows import Row, Subject, mean_row


def measure(subject: Subject) -> list[Row]:
    """Shares of each family's prompts; `neither` is every response that is not exactly one or the other.

    Teacher forcing feeds the response to be judged as input, so it bounds what generation
    does from above only for the response fed; it is reported beside it, not instead of it.
    """
    rows = []
    for family, seen in subject.observations.items():
        values = {
            "complied": seen.complied,
            "refused": seen.refused,
            "neither": ~(seen.complied | seen.refused),
            "teacher_forced_complied": seen.teacher_complied,
            "teacher_forced_refused": seen.teacher_refused,
            "token_accuracy": seen.token_accuracy,
        }
        rows += [mean_row(metric, value, family=family) for metric, value in values.items()]
    return rows
