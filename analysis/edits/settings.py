"""Settings of the edits that are made of one model and the one that its tuning started from."""

from dataclasses import dataclass

from analysis.nullspace import MATRICES
from analysis.observe import LAST
from synth.lookup import split_name
from synth.settings import require, require_among, require_positive


@dataclass(unsafe_hash=True)
class InterventionsConfig:
    """Settings of the interventions."""

    prompts: int = 64
    """Prompts of each family that every changed model is tried on."""
    scan_prompts: int = 128
    """Prompts of each family whose activations and Lipschitzness are measured under multiples of dW."""
    families: tuple[str, ...] | None = ("safe", "unsafe")
    """Families that parts of dW and patches are tried on, null for all of them; multiples of dW are tried on all."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    """Multiples of dW."""
    matrices: tuple[str, ...] = ("W_in",)
    """MLP matrices, W_in or W_out, whose dW is taken apart, each alone."""
    top: tuple[int, ...] = (1, 2, 4)
    """How many right singular vectors of dW are removed."""
    rank_share: float = 0.99
    """Share of the squared Frobenius norm that the empirical rank must hold."""
    site: str = "resid_post"
    """Where the activation is patched."""
    draws: int = 1
    """Random splits, directions and axes in each layer behind the controls."""

    def __post_init__(self) -> None:
        self.alphas, self.matrices, self.top = tuple(self.alphas), tuple(self.matrices), tuple(self.top)
        require_positive(self, "prompts", "scan_prompts", "draws")
        if self.families is not None:
            self.families = tuple(self.families)
            require(len(self.families) > 0, "families", "[]", "must name a family", "set [safe,unsafe]")
            for name in self.families:
                split_name(name, "families")
        require(
            {0.0, 1.0} <= set(self.alphas),
            "alphas",
            list(self.alphas),
            "must contain 0 and 1, which the others are compared with",
            "add 0 and 1",
        )
        require(0 < self.rank_share <= 1, "rank_share", self.rank_share, "must be in (0, 1]", "set 0.99")
        require(min(self.top, default=1) >= 1, "top", list(self.top), "must be at least 1 each", "set [1,2,4]")
        require(
            set(self.matrices) <= set(MATRICES),
            "matrices",
            list(self.matrices),
            f"must be among {', '.join(MATRICES)}",
            "set [W_in]",
        )
        require_among(self, "site", LAST)
