"""The claims of papers: what each compares with what, in the results of a study.

A claim is a measure `(results, method) -> (effect, control)`, each a number per seed, and a row of a paper's claims; a
paper is a row of PAPERS. `experiments/findings/scorecard.py` says what becomes of them.
"""

from experiments.findings.claims import arditi2024, jain2024, pan2025, wollschlaeger2025, zhao2025
from experiments.findings.claims.paper import Paper

PAPERS: dict[str, Paper] = {
    paper.name: paper
    for paper in (jain2024.PAPER, arditi2024.PAPER, wollschlaeger2025.PAPER, zhao2025.PAPER, pan2025.PAPER)
}
UNNAMED = "jain2024"
"""The paper of verdicts that name none: those of the time when there was no other"""
