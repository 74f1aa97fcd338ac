"""From results to weights: decisions are pure functions of records."""

import itertools
from dataclasses import replace

import pytest
from recorded import result as recorded_result
from recorded import task_result

from sn37.competition import Competition, Constraints, EvalTask, Fixed, InverseExponential
from sn37.errors import ChainFault, DataFault, EvaluatorFault
from sn37.records.faults import Fault
from sn37.sample import ReferenceSample
from sn37.validator.scores import decision_of

COMPETITION = Competition(
    7,
    "TINY",
    Constraints(("LlamaForCausalLM",), 10, 10, 8, None, delay_blocks=0),
    Fixed(0.05),
    (EvalTask("A", "s", "m", 0.5), EvalTask("B", "s", "m", 0.5, normalization=InverseExponential(2.0))),
)


def result(uid, block, a=None, b=None, fault=None):
    return recorded_result(uid, block, None if fault else {"A": task_result(a), "B": task_result(b)}, fault)


def judged(*results, now=100):
    return decision_of(COMPETITION, now, results)


def test_a_score_is_the_weighted_sum_of_normalized_task_scores():
    decision = judged(result(1, 0, a=1.0, b=1.0))
    # (1 - e^-0.5) / (1 - e^-1) = 0.6224593312018546
    assert decision.scores[0].score == pytest.approx(0.5 * 1.0 + 0.5 * 0.6224593312018546)
    assert decision.winner == "hot1"


def test_a_model_at_fault_loses_with_its_reason_and_the_others_are_judged():
    decision = judged(result(1, 0, a=1.0, b=1.0), result(2, 0, fault=Fault("model", "norms")))
    assert [score.hotkey for score in decision.scores] == ["hot1", "hot2"]
    assert decision.scores[1].score is None
    assert decision.scores[1].fault.reason == "norms"
    assert decision.winner == "hot1"


@pytest.mark.parametrize(
    ("owner", "error"), [("data", DataFault), ("evaluator", EvaluatorFault), ("chain", ChainFault)]
)
def test_any_other_fault_leaves_the_epoch_undecided(owner, error):
    with pytest.raises(error, match="because"):
        judged(result(1, 0, a=1.0, b=1.0), result(2, 0, fault=Fault(owner, "because")))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_raw_score_that_is_not_finite_is_the_models_fault_also_where_normalization_hides_it(bad):
    decision = judged(result(1, 0, a=1.0, b=bad), result(2, 5, a=9.0, b=9.0))
    assert decision.winner == "hot2"
    assert decision.scores[-1].fault == Fault("model", "a raw score is not finite")


def test_nobody_with_a_finite_score_means_no_winner():
    assert judged(result(1, 0, fault=Fault("model", "x"))).winner is None
    assert judged().winner is None


def test_the_entry_tells_the_epsilon_that_was_used():
    assert judged(result(1, 0, a=1.0, b=1.0)).scores[0].epsilon == 0.05


def test_equal_losses_stand_in_the_order_of_their_blocks_whatever_their_uids():
    results = [result(1, 30, a=1.0, b=1.0), result(9, 10, a=1.0, b=1.0), result(5, 20, a=1.0, b=1.0)]
    for order in itertools.permutations([*results, result(2, 20, a=1.0, b=1.0)]):
        decision = judged(*order)
        assert [(score.block, score.uid) for score in decision.scores] == [(10, 9), (20, 2), (20, 5), (30, 1)]
        assert decision.winner == "hot9", "the oldest reigns, though its uid is the highest"
        assert decision == judged(*results, result(2, 20, a=1.0, b=1.0))


SIGNIFICANT = replace(COMPETITION, epsilon=Fixed(0.0), significance=0.95)
DRAWN = {name: tuple(ReferenceSample(f"{n}", "x", group=f"page {n // 8}") for n in range(64)) for name in "AB"}


def valued(uid, block, values):
    """A model with these values on both tasks."""
    outcome = task_result(sum(values) / len(values), values=tuple(values), details=({},) * len(values))
    return recorded_result(uid, block, {"A": outcome, "B": outcome})


def noisy(shift, within):
    """64 losses around 1: alike within a page of 8 samples, different between pages; `within` from sample to sample."""
    return [1.0 + shift + 0.2 * ((n // 8) % 2) + within * (-1) ** n for n in range(64)]


def test_where_significance_is_asked_for_a_takeover_must_be_beyond_chance():
    first = valued(1, 0, noisy(0.0, 0.0))
    for gain, wins in ((0.001, False), (0.3, True)):
        # The gain is seen on one page in two only: eight pages say less than 64 samples seem to.
        values = [value - gain * (0.2 + (n // 8) % 2) for n, value in enumerate(noisy(0.0, 0.0))]
        values = values if wins else [v + 0.05 * (-1) ** (n // 8) for n, v in enumerate(values)]
        decision = decision_of(SIGNIFICANT, 100, [first, valued(2, 10, values)], drawn=DRAWN)
        turn = decision.reign[1]
        assert turn.difference.level == 0.95 and turn.difference.estimate < 0
        assert turn.difference.convinces is turn.succeeds is wins
        assert decision.winner == ("hot2" if wins else "hot1")
        plain = decision_of(replace(SIGNIFICANT, significance=None), 100, [first, valued(2, 10, values)], drawn=DRAWN)
        assert plain.winner == "hot2", "epsilon alone lets any gain win"
        assert plain.reign[1].difference == turn.difference, "it is always told"


def test_clusters_count_not_samples():
    """Whole pages that differ alike are one observation each: ungrouped, the same gain would seem beyond chance."""
    first = valued(1, 0, noisy(0.0, 0.0))
    moved = [v - 0.02 + 0.05 * ((n // 8) % 4 == 0) - 0.01 * ((n // 8) % 3 == 0) for n, v in enumerate(noisy(0.0, 0.0))]
    results = [first, valued(2, 10, moved)]
    grouped = decision_of(SIGNIFICANT, 100, results, drawn=DRAWN)
    alone = decision_of(SIGNIFICANT, 100, results)
    assert alone.winner == "hot2" and grouped.winner == "hot1"


def test_the_first_has_no_difference_and_one_group_tells_nothing():
    only = {name: tuple(replace(sample, group="one page") for sample in drawn) for name, drawn in DRAWN.items()}
    results = [valued(1, 0, noisy(0.0, 0.0)), valued(2, 10, noisy(-0.5, 0.1))]
    decision = decision_of(SIGNIFICANT, 100, results, drawn=only)
    assert decision.reign[0].difference is None
    assert decision.reign[1].difference.high is None and decision.winner == "hot1"


def test_the_interval_is_the_same_in_any_order_of_the_results():
    results = [valued(uid, uid, noisy(-0.1 * uid, 0.01 * uid)) for uid in range(1, 4)]
    first, second = (decision_of(SIGNIFICANT, 100, order, drawn=DRAWN) for order in (results, results[::-1]))
    assert [turn.difference for turn in first.reign] == [turn.difference for turn in second.reign]
