"""Whether a difference is real: standard errors, intervals, comparisons and power for scores of models.

Samples that come from one place (a page, a source document) are alike, so they are counted by group: the groups are
independent, not the samples (Miller 2024, "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640). All values
are losses: lower is better; a difference is "first less second", so below 0 the first model is better.

Pure functions of arrays over numpy and scipy: knows nothing of records, models or plots. It does not protect against
groups that depend on each other, nor against looking at many differences and telling only of one: see `holm`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sn37.errors import ConfigError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Array = NDArray[numpy.float64]

__all__ = [
    "Comparison",
    "Interval",
    "TaskPair",
    "compare",
    "holm",
    "mean_interval",
    "paired_difference",
    "samples_needed",
    "score_difference",
    "smallest_difference",
]


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it may be off."""

    estimate: float
    """The mean, or the difference, of the samples at hand."""
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of the confidence interval."""
    standard_error: float
    """The estimate's standard error, clustered by group."""
    p_value: float
    """Two-sided, of the hypothesis that the true value is 0."""
    samples: int
    """How many values the estimate is made of."""
    groups: int
    """How many independent groups they come from."""
    level: float
    """The share of such intervals that hold the true value."""

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}] ({self.level:.0%}, {self.groups} groups)"


def mean_interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    counts: Sequence[float] | None = None,
    level: float = 0.95,
) -> Interval:
    """The mean of `values` with an interval that counts groups, not samples.

    groups: the group of each value; None where each stands alone. counts: how often each value counts in the mean;
    None: once. The standard error is the cluster-robust one of a mean, `sqrt(G/(G-1) * sum_g (sum_{i in g} c_i (x_i -
    mean))^2) / sum_i c_i`, the interval Student's with G - 1 degrees of freedom (Miller 2024, section 2.2; the same as
    statsmodels' WLS on a constant with `cov_type="cluster"`). Raises ConfigError for no value, a value that is not
    finite, or lengths that differ.

    >>> mean_interval([0.0, 1.0, 1.0, 0.0]).estimate
    0.5
    """
    array, codes, count = _checked(values, groups, level)
    weights = _weights(counts, len(array))
    mean, total = float(weights @ array / weights.sum()), float(weights.sum())
    deviations = _sums(weights * (array - mean), codes, count)
    error = math.sqrt(count / (count - 1) * float(deviations @ deviations)) / total if count > 1 else math.inf
    return _student(mean, error, len(array), count, level)


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    counts: Sequence[float] | None = None,
    level: float = 0.95,
) -> Interval:
    """The mean of `first - second` on the same samples: below 0 the first model is better.

    Pairing takes out what makes a sample hard for both (Miller 2024, section 3.2). Raises as `mean_interval`.

    >>> paired_difference([0.5, 0.75], [0.75, 1.0]).estimate
    -0.25
    """
    if len(first) != len(second):
        raise ConfigError(f"the models have {len(first)} and {len(second)} values; expected the same samples")
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], groups, counts=counts, level=level)


@dataclass(frozen=True)
class TaskPair:
    """Two models' values on the same samples of one task, and what the task counts."""

    first: Sequence[float]
    """Losses of the first model, one a sample."""
    second: Sequence[float]
    """Losses of the second model on the same samples."""
    groups: Sequence[Hashable] | None = None
    """The group of each sample; None where each stands alone."""
    weight: float = 1.0
    """The task's share of the score."""
    normalization: Callable[[float], float] = float
    """Raw score -> normalized score, as the competition has it."""
    counts: Sequence[float] | None = None
    """How often each value counts in the mean (its number of rules, for if_eval); None: once."""


def score_difference(tasks: Mapping[str, TaskPair], *, seed: int, draws: int = 4_000, level: float = 0.95) -> Interval:
    """The difference of two models' weighted, normalized scores: below 0 the first model is better.

    The interval comes from a bootstrap over groups, drawn for both models alike and for each task apart: a model's
    score is not a mean once tasks are normalized and weighted. Its ends are widened as Student's are for few groups
    (Hesterberg 2015, "What Teachers Should Know about the Bootstrap", section 5.3). seed: the same seed, the same
    interval. Raises ConfigError for no task, and as `mean_interval`.
    """
    import numpy
    from scipy import stats

    if not tasks:
        raise ConfigError("no task to compare; expected one or more")
    estimate, samples, total, smallest = 0.0, 0, 0, math.inf
    drawn = numpy.zeros(draws)
    for place, (_, task) in enumerate(sorted(tasks.items())):
        pair, weights, codes, count = _pair(task, level)
        samples, total, smallest = samples + len(codes), total + count, min(smallest, count)
        # One row per group: how much it counts, and the sums of both models' losses in it.
        mass = _sums(weights, codes, count)
        sums = numpy.stack([_sums(weights * values, codes, count) for values in pair])  # (2, G)
        whole = sums.sum(axis=1) / mass.sum()
        estimate += task.weight * (task.normalization(float(whole[0])) - task.normalization(float(whole[1])))
        # A draw takes G groups with replacement, so it is how often each was taken: (draws, G).
        generator = numpy.random.default_rng([seed % 2**63, place])
        taken = generator.multinomial(count, numpy.full(count, 1 / count), size=draws)
        means = (taken @ sums.T) / (taken @ mass)[:, None]  # (draws, 2)
        normalized = numpy.vectorize(task.normalization, otypes=[float])(means)
        drawn += task.weight * (normalized[:, 0] - normalized[:, 1])
    if smallest < 2:
        return _student(estimate, math.inf, samples, total, level)
    # A percentile interval is too narrow by sqrt((G-1)/G), and by the normal's quantile in place of Student's.
    student = stats.t.ppf((1 + level) / 2, smallest - 1) * math.sqrt(smallest / (smallest - 1))
    tail = float(stats.norm.cdf(-student))
    low, high = numpy.quantile(drawn, [tail, 1 - tail])
    error = float(drawn.std(ddof=1)) * math.sqrt(smallest / (smallest - 1))
    p_value = 2 * float(stats.t.sf(abs(estimate) / error, smallest - 1)) if error else float(estimate == 0)
    return Interval(estimate, float(low), float(high), error, p_value, samples, total, level)


@dataclass(frozen=True)
class Comparison:
    """One of several differences, corrected for their number."""

    name: str
    """What was compared."""
    difference: Interval
    """Its interval by itself."""
    p_value: float
    """Corrected by Holm's method: small enough, and the difference is real although many were looked at."""
    real: bool
    """Whether the corrected p-value is below 1 - level."""


def compare(differences: Mapping[str, Interval]) -> list[Comparison]:
    """Many differences at once, each corrected for the others' number (see `holm`), in the order given."""
    corrected = holm([difference.p_value for difference in differences.values()])
    return [
        Comparison(name, difference, p_value, p_value < 1 - difference.level)
        for (name, difference), p_value in zip(differences.items(), corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given (Holm 1979): the chance of any false alarm stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def smallest_difference(deviation: float, samples: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that so many samples show with probability `power`.

    deviation: standard deviation of the paired differences, or their clustered standard error times sqrt(samples).
    `(z_(1+level)/2 + z_power) * deviation / sqrt(samples)` (Miller 2024, section 5).

    >>> round(smallest_difference(0.5, 400), 3)
    0.07
    """
    _power(level, power, deviation)
    if not samples > 0:
        raise ConfigError(f"samples is {samples}; expected more than 0")
    return _quantiles(level, power) * deviation / math.sqrt(samples)


def samples_needed(deviation: float, difference: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """How many samples show a true difference of that size with probability `power`; see `smallest_difference`.

    >>> samples_needed(0.5, 0.07)
    401
    """
    _power(level, power, deviation)
    if not difference:
        raise ConfigError("difference is 0; expected the size of a difference to be seen")
    return math.ceil((_quantiles(level, power) * deviation / difference) ** 2)


def _quantiles(level: float, power: float) -> float:
    from scipy import stats

    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))


def _power(level: float, power: float, deviation: float) -> None:
    if not (0 < level < 1 and 0 < power < 1):
        raise ConfigError(f"level and power are {level} and {power}; expected shares between 0 and 1")
    if not (deviation >= 0 and math.isfinite(deviation)):
        raise ConfigError(f"deviation is {deviation}; expected a finite number, 0 or more")


def _pair(task: TaskPair, level: float) -> tuple[tuple[Array, Array], Array, NDArray[numpy.intp], int]:
    """Both models' values, how much each counts, the groups as numbers, and how many groups there are."""
    first, codes, count = _checked(task.first, task.groups, level)
    second, _, _ = _checked(task.second, task.groups, level)
    if len(first) != len(second):
        raise ConfigError(f"a task has {len(first)} and {len(second)} values; expected the same samples")
    return (first, second), _weights(task.counts, len(first)), codes, count


def _weights(counts: Sequence[float] | None, length: int) -> Array:
    """How often each of so many values counts."""
    import numpy

    weights = numpy.ones(length) if counts is None else numpy.asarray(counts, dtype=float)
    if len(weights) != length or not (numpy.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ConfigError(
            f"there are {len(weights)} counts for {length} values; expected one each, 0 or more, not all 0"
        )
    return weights


def _checked(
    values: Sequence[float], groups: Sequence[Hashable] | None, level: float
) -> tuple[Array, NDArray[numpy.intp], int]:
    """The values, each one's group as a number from 0 on, and how many groups there are."""
    import numpy

    array = numpy.asarray(values, dtype=float)
    if not len(array) or not numpy.isfinite(array).all():
        raise ConfigError("the values are empty or hold one that is not finite; expected finite losses")
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; expected a share between 0 and 1, as 0.95")
    if groups is None:
        return array, numpy.arange(len(array)), len(array)
    if len(groups) != len(array):
        raise ConfigError(f"there are {len(groups)} groups for {len(array)} values; expected one each")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return array, numpy.asarray([numbers[group] for group in groups]), len(numbers)


def _sums(values: Array, codes: NDArray[numpy.intp], count: int) -> Array:
    """The values' sum in each group, (G,)."""
    import numpy

    return numpy.bincount(codes, weights=values, minlength=count).astype(float, copy=False)


def _student(estimate: float, error: float, samples: int, groups: int, level: float) -> Interval:
    """Student's interval and p-value with G - 1 degrees of freedom; a single group says nothing of its error."""
    from scipy import stats

    if not math.isfinite(error):
        return Interval(estimate, -math.inf, math.inf, error, 1.0, samples, groups, level)
    half = float(stats.t.ppf((1 + level) / 2, groups - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(estimate) / error, groups - 1)) if error else float(estimate == 0)
    return Interval(estimate, estimate - half, estimate + half, error, p_value, samples, groups, level)
