"""What a paper has of its own in how its claims read the results."""

from dataclasses import dataclass

from models.training.methods import CONTROLS


@dataclass(frozen=True)
class Conventions:
    """How the claims of a paper read the results table."""

    methods: tuple[str, ...]
    """The models that a claim is about where it names none"""
    placebos: tuple[str, ...] = CONTROLS
    """Models without what the paper is about: every claim is judged of each of them too, by the same rule"""
    deep: float = 0.5
    """The share of the layers, counted from the last one, that numbers by layer are read from"""
    kept: float = 0.9
    """The share of its compliance with safe prompts that an extrapolated model must keep to be compared"""
    least_carried: float = 1.0
    """Nats of log-odds that a change of weights must move before its parts are compared"""
