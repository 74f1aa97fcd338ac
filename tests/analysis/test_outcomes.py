"""Intervals are of the score that a method gives, also where it is no plain mean."""

from dataclasses import replace

import pytest
from recorded import manifest, measurement, result, task_result

from sn37.analysis import frames, stats
from sn37.analysis.outcomes import score_interval, task_pair
from sn37.competition import Competition, Constraints, EvalTask, Fixed, InverseExponential, Tasks
from sn37.evaluation.result import LocalResult
from sn37.methods import METHODS, Row
from sn37.records.epochs import Records
from sn37.records.results import TaskResult
from sn37.sample import InstructionSample
from sn37.validator.scores import decision_of

TASK = EvalTask("RULES", "if_eval", "if_eval", 1.0)
RULE = {"rule": "no_commas"}
SAMPLES = [InstructionSample(("a", "b"), ((RULE,) * count, (RULE,) * count)) for count in (1, 5) * 12]
"""Every other sample has five times the rules of its neighbour, and more weight in the score."""


class Says:
    """An engine, and its tokenizer, that give these replies in turn."""

    sequence_length, eos_token_id = 1_000, None

    def __init__(self, replies):
        self.replies = replies

    def generate(self, rows, progress=None):
        return [[place] for place in range(len(rows))]

    def decode(self, tokens, **options):
        return self.replies[tokens[0]]


def outcome(*, wrong, alike=False):
    """What the method makes of replies of which every `wrong`-th sample with many rules breaks them all."""
    broken = [place % 2 == 1 and place // 2 % wrong == 0 for place in range(len(SAMPLES))]
    said = ("abcd" * 5, "abcd" * 5 if alike else "xyz" * 7)
    replies = [text + "," * comma for comma in broken for text in said]
    rows = [Row(place // 2, (1,), 1) for place in range(len(replies))]
    found = METHODS["if_eval"]().score(rows, SAMPLES, Says(replies), Says(replies))
    return task_result(found.score, values=found.values, details=found.details, note=found.note)


def test_the_interval_is_around_the_score_and_not_the_plain_mean():
    found = outcome(wrong=2)
    interval = score_interval(found, SAMPLES)
    assert interval.estimate == pytest.approx(found.score) == pytest.approx(5 / 12)
    assert interval.low < found.score < interval.high
    plain = stats.mean_interval(found.values)
    assert plain.estimate == pytest.approx(1 / 4) and interval.standard_error > plain.standard_error


def test_a_score_that_alike_replies_made_is_no_estimate():
    found = outcome(wrong=2, alike=True)
    assert found.score == 1.0
    interval = score_interval(found, SAMPLES)
    assert (interval.low, interval.estimate, interval.high) == (1.0, 1.0, 1.0)
    pair = task_pair(TASK, found, outcome(wrong=1), SAMPLES)
    difference = stats.score_difference({"RULES": pair}, seed=0, draws=50)
    assert difference.estimate == pytest.approx(1.0 - outcome(wrong=1).score)


def test_results_and_comparisons_of_one_kernel_are_those_of_the_scores():
    outcomes = {"good": outcome(wrong=4), "bad": outcome(wrong=1)}
    measured = {name: measurement({"RULES": found}) for name, found in outcomes.items()}
    found = LocalResult((TASK,), {"RULES": SAMPLES}, measured, seed=1)
    assert ((found.scores["low"] + found.scores["high"]) / 2).tolist() == pytest.approx(found.scores["raw"].tolist())
    apart = outcomes["good"].score - outcomes["bad"].score
    assert found.compare()["difference"].item() == pytest.approx(apart)


def test_the_intervals_of_a_recorded_epoch_hold_its_scores(tmp_path):
    constraints = Constraints(("LlamaForCausalLM",), 1_000, 1_000, 512, None, 460)
    task = EvalTask("RULES", "if_eval", "if_eval", 1.0, normalization=InverseExponential(1.0))
    competition = Competition(9, "RULES", constraints, Fixed(0.01), Tasks((task,)))
    found = [outcome(wrong=2), outcome(wrong=2, alike=True)]
    results = [result(uid, uid, {"RULES": one}) for uid, one in enumerate(found, 1)]
    epoch = Records(tmp_path).begin(9, 360)
    epoch.write_samples("RULES", tuple(SAMPLES))
    for part in (*results, manifest(competition), decision_of(competition, 360, results)):
        epoch.write(part)
    frame = frames.with_intervals(epoch.seal()).set_index("uid")
    assert frame.loc[1, "low"] < frame.loc[1, "score"] < frame.loc[1, "high"]
    assert frame.loc[2, ["low", "high"]].tolist() == pytest.approx([1.0, 1.0])


def test_details_that_are_no_rules_count_nothing():
    """What is read back of a stranger's record."""
    found = TaskResult(0.5, (0.5, 0.5), ({"followed": [1, 2]}, {"followed": "ab"}), "", (), 0.0, 0)
    assert found.counts is None
    assert replace(found, details=({"followed": [[True], [False, True]]}, {"followed": [[1]]})).counts == (3, 1)
