"""Intervals that hold what they promise, checked against statsmodels, exact enumeration and simulation."""

import doctest
import itertools
import math

import numpy
import pytest
import statsmodels.api
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests

from sn37.analysis import stats
from sn37.competition import InverseExponential
from sn37.errors import ConfigError


def clustered(generator, groups, size, between=1.0, within=1.0, mean=0.0):
    """Values in groups that are alike: the group's own shift, and each sample's."""
    shifts = generator.normal(0, between, groups).repeat(size)
    return mean + shifts + generator.normal(0, within, groups * size), numpy.arange(groups).repeat(size).tolist()


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(stats).failed == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_clustered_error_is_that_of_statsmodels(seed):
    generator = numpy.random.default_rng(seed)
    values, groups = clustered(generator, 12, 5)
    values, groups = values[:-3], groups[:-3]  # groups of unequal size
    fit = statsmodels.api.OLS(values, numpy.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    found = stats.mean_interval(values, groups)
    assert found.standard_error == pytest.approx(fit.bse[0], rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)
    assert found.p_value == pytest.approx(fit.pvalues[0], rel=1e-9)


def test_values_that_count_more_than_once_are_those_of_statsmodels_and_of_repeating_them():
    generator = numpy.random.default_rng(9)
    values, groups = clustered(generator, 9, 4)
    counts = generator.integers(1, 6, len(values))
    found = stats.mean_interval(values, groups, counts=counts)
    fit = statsmodels.api.WLS(values, numpy.ones(len(values)), weights=counts).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True
    )
    assert (found.estimate, found.p_value) == pytest.approx((fit.params[0], fit.pvalues[0]), rel=1e-9)
    again = stats.mean_interval(values.repeat(counts), list(numpy.repeat(groups, counts)))
    assert found.estimate == pytest.approx(again.estimate, rel=1e-12)
    assert found.standard_error == pytest.approx(again.standard_error, rel=1e-9)
    assert found.standard_error == pytest.approx(fit.bse[0], rel=1e-9)


@pytest.mark.parametrize("counts", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.nan]])
def test_counts_that_count_nothing_are_refused(counts):
    with pytest.raises(ConfigError, match="expected one each, 0 or more, not all 0"):
        stats.mean_interval([1.0, 2.0], counts=counts)


def test_without_groups_it_is_students_interval():
    values = [0.1, 0.5, 0.9, 0.2, 0.4]
    found = stats.mean_interval(values)
    wanted = reference.ttest_1samp(values, 0.0)
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))


def test_the_bootstrap_draws_what_enumeration_counts():
    """Three groups: all 27 equally likely draws give the exact distribution of the difference of means."""
    first, second, groups = [0.0, 1.0, 0.5, 0.2], [0.3, 0.1, 0.9, 0.8], ["a", "a", "b", "c"]
    places = {"a": [0, 1], "b": [2], "c": [3]}
    exact = []
    for draw in itertools.product("abc", repeat=3):
        taken = [place for name in draw for place in places[name]]
        exact.append(numpy.mean([first[i] - second[i] for i in taken]))
    found = stats.score_difference({"T": stats.TaskPair(first, second, groups)}, seed=1, draws=60_000)
    assert found.estimate == pytest.approx(numpy.mean([a - b for a, b in zip(first, second, strict=True)]))
    assert found.standard_error == pytest.approx(numpy.std(exact) * math.sqrt(3 / 2), rel=0.02)


def test_the_score_is_weighted_and_normalized():
    ceiling = InverseExponential(20.0)
    tasks = {
        "A": stats.TaskPair([1.0] * 4, [3.0] * 4, weight=0.25, normalization=ceiling),
        "B": stats.TaskPair([0.5] * 3, [0.25] * 3, weight=0.75),
    }
    found = stats.score_difference(tasks, seed=0, draws=50)
    assert found.estimate == pytest.approx(0.25 * (ceiling(1.0) - ceiling(3.0)) + 0.75 * 0.25)
    assert found.low == pytest.approx(found.high) == pytest.approx(found.estimate)


def test_a_value_counts_as_often_as_it_says():
    heavy = stats.score_difference({"T": stats.TaskPair([1.0, 0.0], [0.0, 0.0], counts=[3, 1])}, seed=0, draws=50)
    assert heavy.estimate == 0.75


def coverage(method, fields=1_000):
    """The share of simulated fields whose interval holds the true difference."""
    held = 0
    for number in range(fields):
        generator = numpy.random.default_rng([42, number])
        shared, groups = clustered(generator, 30, 6)
        own, _ = clustered(generator, 30, 6, between=0.6, within=0.4)
        first = shared + own + 0.2
        held += method(first, shared, groups) <= 0.2 <= method.high
    return held / fields


class By:
    """Calls an interval's function and remembers its upper end."""

    def __init__(self, function):
        self.function = function

    def __call__(self, first, second, groups):
        found = self.function(first, second, groups)
        self.high = found.high
        return found.low


def test_the_paired_interval_holds_the_truth_as_often_as_it_says():
    assert 0.93 <= coverage(By(stats.paired_difference)) <= 0.97


def test_the_bootstrap_interval_holds_the_truth_as_often_as_it_says():
    def bootstrap(first, second, groups):
        return stats.score_difference({"T": stats.TaskPair(first, second, groups)}, seed=5, draws=1_000)

    assert 0.93 <= coverage(By(bootstrap)) <= 0.97


def test_whoever_ignores_the_groups_is_too_sure():
    assert coverage(By(lambda first, second, groups: stats.paired_difference(first, second))) < 0.9


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    assert stats.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_many_differences_are_judged_together():
    close = stats.paired_difference([0.0, 0.1, 0.0, 0.1, 0.05] * 2, [0.1, 0.15, 0.15, 0.1, 0.1] * 2)
    assert close.p_value < 0.05
    alone = stats.compare({"a": close})
    many = stats.compare({f"m{i}": close for i in range(100)})
    assert alone[0].real and not any(found.real for found in many)


def test_power_is_what_simulation_finds():
    generator = numpy.random.default_rng(0)
    size = stats.smallest_difference(1.0, 200)
    seen = [stats.mean_interval(generator.normal(size, 1.0, 200)).low > 0 for _ in range(2_000)]
    assert numpy.mean(seen) == pytest.approx(0.8, abs=0.03)
    assert stats.samples_needed(1.0, size) in (200, 201)


def test_the_same_seed_gives_the_same_interval():
    generator = numpy.random.default_rng(3)
    pair = stats.TaskPair(generator.random(40).tolist(), generator.random(40).tolist())
    assert stats.score_difference({"T": pair}, seed=9) == stats.score_difference({"T": pair}, seed=9)
    assert stats.score_difference({"T": pair}, seed=9) != stats.score_difference({"T": pair}, seed=10)


def test_one_group_says_nothing_of_its_error():
    found = stats.mean_interval([0.1, 0.2], ["page"] * 2)
    assert (found.low, found.high, found.p_value) == (-math.inf, math.inf, 1.0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stats.mean_interval([]), "the values are empty"),
        (lambda: stats.mean_interval([math.nan]), "not finite"),
        (lambda: stats.mean_interval([1.0], ["a", "b"]), "2 groups for 1 values"),
        (lambda: stats.mean_interval([1.0], level=95), "level is 95"),
        (lambda: stats.paired_difference([1.0], [1.0, 2.0]), "1 and 2 values"),
        (lambda: stats.score_difference({}, seed=0), "no task"),
        (lambda: stats.samples_needed(1.0, 0.0), "difference is 0"),
        (lambda: stats.smallest_difference(-1.0, 10), "deviation is -1.0"),
        (lambda: stats.smallest_difference(1.0, 0), "samples is 0"),
    ],
)
def test_what_cannot_be_computed_is_said(call, said):
    with pytest.raises(ConfigError, match=said):
        call()
