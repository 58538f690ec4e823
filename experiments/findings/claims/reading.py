"""Reading a results table for a claim: means by seed, and a reason where there are none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings.claims.conventions import Conventions
from synth.families import JAILBREAKS


class MissingError(Exception):
    """A claim has no effect or no control; says why."""

    @classmethod
    def rows(cls, which: str) -> "MissingError":
        return cls(f"not in the table: {which}")


class Reading:
    """The results table of one cell, read as means by seed; a seed's number is of one world alone."""

    def __init__(self, table: pd.DataFrame, conventions: Conventions) -> None:
        self.conventions = conventions
        texts = ("family", "module", "intervention", "other", "missing")
        names = {name: table[name].astype(object).fillna("") for name in texts}
        numbers = {
            name: table[name].astype(float)
            for name in (
                *("layer", "index", "position", "strength", "step"),
                *("learning_rate", "seed", "world_seed", "value", "n"),
            )
        }
        self._columns = {name: column.to_numpy() for name, column in {**names, **numbers}.items()}
        groups = table.groupby(["metric", "node"], sort=False, observed=True).indices
        self._places = {key: np.asarray(places) for key, places in groups.items()}
        layers = numbers["layer"].max()
        self._shallow = np.floor(layers * (1 - conventions.deep)) if layers > 0 else 0
        self._world_of = dict(zip(self._columns["seed"], self._columns["world_seed"], strict=True))
        self.read = np.zeros(len(table), bool)
        """Which rows of the table a mean was taken over"""

    def mean(
        self,
        metric: str,
        method: str,
        *,
        deep: bool = True,
        rate: Callable[[np.ndarray], float] = np.max,
        weighted: bool = False,
        **where: Any,
    ) -> pd.Series:
        """By seed, the mean of a metric of a model; nan where one of the rows has no value.

        `where` picks rows by family, module, index, position, intervention, strength or other, each a value or a
        list. Rows of an intervention count only where `where` names it, those of snapshots never;
        those by layer only in the deep ones (`deep`), where the paper sees its effects, or only in
        the others; of several learning rates the highest (the paper's main results), or `rate` of
        them. `weighted` is by the number of prompts behind each row.
        """
        places = self._places_of(metric, method)
        layer = self._columns["layer"][places]
        keep = ~(layer <= self._shallow) if deep else ~(layer > self._shallow)
        keep &= np.isnan(self._columns["step"][places])
        for name, allowed in {"intervention": "", **where}.items():
            column = self._columns[name]
            keep &= np.isin(column[places], np.atleast_1d(np.array(allowed, column.dtype)))
        places = places[keep]
        wanted = _wanted(metric, method, where)
        if len(places) == 0:
            raise MissingError.rows(wanted)
        rates = self._columns["learning_rate"][places]
        if not np.isnan(rates).all():  # As they are of a model that nothing has trained.
            places = places[rates == rate(rates)]
        if np.isnan(self._columns["value"][places]).all():
            raise MissingError(f"no value: {wanted} ({self._columns['missing'][places[0]]})")
        if weighted:
            places = places[self._columns["n"][places] > 0]
        self.read[places] = True
        seeds, values, counts = (self._columns[name][places] for name in ("seed", "value", "n"))
        weights = counts if weighted else np.ones(len(places))
        which, group = np.unique(seeds.astype(int), return_inverse=True)
        return pd.Series(np.bincount(group, values * weights) / np.bincount(group, weights), which)

    def rates(self, metric: str, method: str) -> int:
        """How many learning rates there are."""
        return len(self._distinct(metric, method, "learning_rate"))

    def indices(self, metric: str, method: str) -> list[float]:
        """The indices that have a value, ascending."""
        places = self._places_of(metric, method)
        found = self._columns["index"][places[~np.isnan(self._columns["value"][places])]]
        return sorted(set(found[~np.isnan(found)].tolist()))

    def world_of(self, seeds: np.ndarray) -> np.ndarray:
        """The world that each of `seeds` is a model of."""
        return np.array([self._world_of[seed] for seed in seeds])

    def fewest(self) -> float:
        """The least number of prompts, or of whatever else, behind a row that was read and has a value."""
        there = self.read & ~np.isnan(self._columns["value"])
        return float(self._columns["n"][there].min())

    def has(self, metric: str, method: str) -> bool:
        """Whether there are rows of a metric of a model."""
        return len(self._places_of(metric, method)) > 0

    def jailbreaks(self, method: str, metric: str = "complied") -> list[str]:
        """The jailbreak families that there is a metric of."""
        found = self._distinct(metric, method, "family")
        return [name for name in JAILBREAKS if name in found]

    def strengths(self, metric: str, method: str, intervention: str) -> list[tuple[str, float]]:
        """How strong an intervention there is, and with which other model ("" for none), in the order of the table."""
        places = self._places_of(metric, method)
        of = (self._columns["intervention"][places] == intervention) & np.isnan(self._columns["step"][places])
        others, strengths = (self._columns[name][places[of]].tolist() for name in ("other", "strength"))
        return list(dict.fromkeys(zip(others, strengths, strict=True)))

    def _distinct(self, metric: str, method: str, column: str) -> list[Any]:
        return list(dict.fromkeys(self._columns[column][self._places_of(metric, method)].tolist()))

    def _places_of(self, metric: str, method: str) -> np.ndarray:
        return self._places.get((metric, method), np.array([], int))


def _wanted(metric: str, method: str, where: dict[str, Any]) -> str:
    said = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in where.items()
        if not isinstance(value, list)
    ]
    return ", ".join([f"{metric} of {method}", *said])
