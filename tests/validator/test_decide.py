"""From results to weights: decisions are pure functions of records."""

import itertools

import pytest
from recorded import result as recorded_result
from recorded import task_result

from sn37.competition import Competition, Constraints, EvalTask, Fixed, InverseExponential
from sn37.errors import ChainFault, DataFault, EvaluatorFault
from sn37.records.faults import Fault
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
