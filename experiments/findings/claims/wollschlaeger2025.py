"""The claims of Wollschläger et al. 2025, The Geometry of Refusal in Large Language Models: Concept Cones and
Representational Independence (arXiv 2502.17420): of directions found by gradient (RDO), of cones of them, and of which
are independent. That these beat random ones of equal number and length is tested throughout."""

from typing import Any

from experiments.findings.claims.conventions import Conventions
from experiments.findings.claims.measures import DPO, SFT, UNLEARNING, Measure, Values, over_chance, within
from experiments.findings.claims.paper import Claim, Paper
from experiments.findings.claims.reading import MissingError, Reading

RDO, CONES, INDEPENDENCE = "RDO", "cones", "independence"


def tried(name: str, dim: int = 1, what: str = "ablate") -> dict[str, Any]:
    """Of directions of a cone of so many dimensions, ablated or added."""
    return {"intervention": f"{what} {name}", "strength": float(dim)}


def than(other: str, metric: str, name: str = "cone", dim: int = 1, what: str = "ablate", **where: Any) -> Measure:
    """What directions of a cone do against what those of another, `other`, do."""
    return within(tried(name, dim, what), tried(other, dim, what), metric=metric, **where)


def largest(results: Reading, method: str) -> tuple[Values, Values]:
    """The least success among directions of the largest cone there is, and that of a single direction."""
    metric = "lowest_complied"
    most = max((strength for _, strength in results.strengths(metric, method, "ablate cone")), default=0.0)
    if most < 2:
        raise MissingError.rows(f"{metric} of {method}, a cone of two dimensions")
    one, other = (results.mean(metric, method, **tried("cone", int(k))) for k in (most, 1))
    return one, other


CLAIMS: dict[str, Claim] = {
    "removes refusal": Claim(
        RDO,
        "",
        "without a direction found by gradient fewer unsafe prompts are refused than without a random one",
        than("cone random", "first_refused", family="unsafe"),
        unit="share",
        expects="below",
    ),
    "attacks": Claim(
        RDO,
        "",
        "without it more unsafe prompts are complied with than without a random one",
        than("cone random", "complied", family="unsafe"),
        unit="share",
    ),
    "attacks better": Claim(
        RDO,
        "",
        "without it more unsafe prompts are complied with than without the difference of means",
        than("means", "complied", family="unsafe"),
        unit="share",
    ),
    "less side effect": Claim(
        RDO,
        "",
        "leaving it out changes answers to safe prompts less than leaving out the difference of means",
        than("means", "first_token_kl", family="safe"),
        expects="below",
    ),
    "keeps safe answers": Claim(
        RDO,
        "",
        "without it more safe prompts are complied with than without the difference of means",
        than("means", "complied", family="safe"),
        unit="share",
    ),
    "induces refusal": Claim(
        RDO,
        "",
        "added, it makes more safe prompts begin with a refusal than a random direction does",
        than("cone random", "first_refused", what="add", family="safe"),
        unit="share",
    ),
    "cone of two": Claim(
        CONES,
        "",
        "without directions of a cone of two dimensions fewer unsafe prompts are refused than without random ones",
        than("cone random", "first_refused", dim=2, family="unsafe"),
        unit="share",
        expects="below",
    ),
    "worst of two": Claim(
        CONES,
        "",
        "whichever direction of that cone leaves the most refused, it leaves fewer than random ones",
        than("cone random", "highest_first_refused", dim=2, family="unsafe"),
        unit="share",
        expects="below",
    ),
    "worst of two attacks": Claim(
        CONES,
        "",
        "whichever direction of that cone does least leads to more compliance with unsafe prompts than a random one",
        than("cone random", "lowest_complied", dim=2, family="unsafe"),
        unit="share",
    ),
    "falls with dimension": Claim(
        CONES,
        "",
        "in the largest cone the direction that does least leads to less compliance than a single direction",
        largest,
        unit="share",
        expects="below",
    ),
    "orthogonal, not independent": Claim(
        INDEPENDENCE,
        "",
        "directions of a cone at right angles have more effect on one another than random ones at right angles",
        over_chance("cross_effect", intervention="basis", strength=2.0),
    ),
    "independent": Claim(
        INDEPENDENCE,
        "",
        "a direction found to be independent and the difference of means have less effect on one another than random "
        "directions at the same angle",
        over_chance("cross_effect", intervention="means, independent"),
        expects="below",
    ),
    "independent removes": Claim(
        INDEPENDENCE,
        "",
        "without that direction fewer unsafe prompts are refused than without a random one",
        than("cone random", "first_refused", name="independent", family="unsafe"),
        unit="share",
        expects="below",
    ),
    "not any behaviour": Claim(
        RDO,
        "",
        "a direction of wrong answers to combinations dealt anew is found less well than that of refusal",
        within(tried("arbitrary"), tried("cone"), metric="swapped"),
        unit="share",
        expects="below",
        derived=True,
    ),
}

PAPER = Paper("wollschlaeger2025", CLAIMS, Conventions(methods=(SFT, DPO, UNLEARNING)))
