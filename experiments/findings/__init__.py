"""What the results table says: outcomes, claims and their verdicts."""
