"""The claims of papers: what each compares with what, in the results of a study.

A claim is a measure `(results, method) -> (effect, control)`, each a number per seed, and a row of a paper's claims; a
paper is a row of PAPERS. `experiments/findings/scorecard.py` says what becomes of them.
"""

from experiments.findings.claims import (
    arditi2024,
    jain2024,
    pan2025,
    peng2024,
    qi2024,
    wollschlaeger2025,
    yuan2024,
    zhao2025,
    zhou2024,
)
from experiments.findings.claims.paper import Paper

PAPERS: dict[str, Paper] = {
    module.PAPER.name: module.PAPER
    for module in (jain2024, arditi2024, wollschlaeger2025, zhao2025, pan2025, yuan2024, qi2024, peng2024, zhou2024)
}
UNNAMED = "jain2024"
"""The paper of verdicts that name none: those of the time when there was no other"""
