"""What several seeds show: mean, spread, and the paired difference to a baseline."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Of n values: ``std`` is the sample's (n - 1), None for a single value."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """A row's differences to its baseline, seed by seed.

    Attributes:
        mean: of the differences.
        half: of the 95 % confidence interval (Student's t, n - 1 degrees), around ``mean``; None
            for a single seed, and where all differences are equal: no spread to judge them by.
        p: of the two-sided paired t-test; None where ``half`` is.
        better: seeds with a difference above 0.
        worse: seeds with one below 0.
        n: seeds that both have.
    """

    mean: float
    half: float | None
    p: float | None
    better: int
    worse: int
    n: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.half is not None and abs(self.mean) > self.half

    def verdict(self) -> str:
        """In words."""
        if self.n == 1:
            return f"{self.mean:+.2f} with one seed, which shows nothing"
        if self.half is None:
            return (
                f"{self.mean:+.2f}, the same difference in all {self.n} seeds: no spread to judge "
                "it by"
            )
        size = f"{self.mean:+.2f} +- {self.half:.2f}"
        if not self.told_apart:
            return (
                f"not told apart from the baseline: better in {self.better} of {self.n} seeds, "
                f"{size}"
            )
        if self.mean > 0:
            return f"better than the baseline in {self.better} of {self.n} seeds, {size}"
        return f"worse than the baseline in {self.worse} of {self.n} seeds, {size}"


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), std, len(values))


def paired(row: Mapping[int, float], baseline: Mapping[int, float]) -> Paired | None:
    """``row`` less ``baseline``, by the seeds that both have; None without a common one."""
    seeds = sorted(row.keys() & baseline.keys())
    if not seeds:
        return None
    differences = [row[seed] - baseline[seed] for seed in seeds]
    found = spread(differences)
    counts = (sum(d > 0 for d in differences), sum(d < 0 for d in differences), found.n)
    alike = max(differences) - min(differences) <= 1e-9 * max(1.0, *map(abs, differences))
    if found.std is None or alike:
        return Paired(found.mean, None, None, *counts)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, found.n - 1))
    error = found.std / math.sqrt(found.n)
    p = float(2 * stats.t.sf(abs(found.mean) / error, found.n - 1))
    return Paired(found.mean, quantile * error, p, *counts)
