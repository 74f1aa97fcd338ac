"""From results to weights: decisions are pure functions of records."""

import pytest

from sn37.competition import Competition, Constraints, EvalTask, Fixed, InverseExponential
from sn37.errors import ChainFault, DataFault, EvaluatorFault
from sn37.records.faults import Fault
from sn37.validator.decide import judge_results

COMPETITION = Competition(
    7,
    "TINY",
    Constraints(("LlamaForCausalLM",), 10, 10, 8, None, delay_blocks=0),
    Fixed(0.05),
    (EvalTask("A", "s", "m", 0.5), EvalTask("B", "s", "m", 0.5, normalization=InverseExponential(2.0))),
)


def result(uid, block, a=None, b=None, fault=None):
    tasks = {} if fault else {"A": {"score": a}, "B": {"score": b}}
    return {"hotkey": f"hot{uid}", "uid": uid, "block": block, "text": "t", "fault": fault, "tasks": tasks}


def judged(*results, now=100):
    return judge_results(COMPETITION, now, {r["hotkey"]: r for r in results})


def test_a_score_is_the_weighted_sum_of_normalized_task_scores():
    (entry,), reign = judged(result(1, 0, a=1.0, b=1.0))
    # (1 - e^-0.5) / (1 - e^-1) = 0.6224593312018546
    assert entry["score"] == pytest.approx(0.5 * 1.0 + 0.5 * 0.6224593312018546)
    assert reign.winner == "hot1"


def test_a_model_at_fault_loses_with_its_reason_and_the_others_are_judged():
    entries, reign = judged(result(1, 0, a=1.0, b=1.0), result(2, 0, fault=Fault("model", "norms").to_dict()))
    assert [e["hotkey"] for e in entries] == ["hot1", "hot2"]
    assert entries[1]["score"] is None
    assert entries[1]["fault"]["reason"] == "norms"
    assert reign.winner == "hot1"


@pytest.mark.parametrize(
    ("owner", "error"), [("data", DataFault), ("evaluator", EvaluatorFault), ("chain", ChainFault)]
)
def test_any_other_fault_leaves_the_epoch_undecided(owner, error):
    with pytest.raises(error, match="because"):
        judged(result(1, 0, a=1.0, b=1.0), result(2, 0, fault={"owner": owner, "reason": "because"}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_raw_score_that_is_not_finite_is_the_models_fault_also_where_normalization_hides_it(bad):
    entries, reign = judged(result(1, 0, a=1.0, b=bad), result(2, 5, a=9.0, b=9.0))
    assert reign.winner == "hot2"
    assert entries[-1]["fault"] == {"owner": "model", "reason": "a raw score is not finite"}


def test_nobody_with_a_finite_score_means_no_winner():
    assert judged(result(1, 0, fault={"owner": "model", "reason": "x"}))[1].winner is None
    assert judged()[1].winner is None


def test_the_entry_tells_the_epsilon_that_was_used():
    (entry,), _ = judged(result(1, 0, a=1.0, b=1.0))
    assert entry["epsilon"] == 0.05
