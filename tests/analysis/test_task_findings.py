"""What is said of a task, on evidence whose truth is known."""

import random

import pytest

from sn37.analysis.judgement import Judgement
from sn37.analysis.task_evidence import Evidence, Game
from sn37.analysis.task_references import contradictions
from sn37.competition import EvalTask, Fixed, InverseExponential, Unnormalized
from sn37.records.results import TaskResult
from sn37.sample import ChoiceSample, ReferenceSample

CHOICES = ("a", "b", "c", "d")


def outcome(values, details=()):
    values = tuple(map(float, values))
    return TaskResult(sum(values) / len(values), values, tuple(details), "", (), 1.0, 1)


def evidence(samples, models, **more):
    task = EvalTask("T", "word_sorting", "reference_loss", 0.5, normalization=more.pop("normalization", Unnormalized()))
    gold = Game("gold", "gives the reference", outcome([0.0] * len(samples)))
    given = {"games": (), "repeated": 0.0, "faults": {}, "variants": {}, "beside": (), "others": {}, **more}
    return Evidence(task=task, samples=samples, seed=1, epsilon=Fixed(0.01), gold=gold, models=models, **given)


def texts(count):
    return [ReferenceSample(f"Say {n}.", "x" * (1 + n % 7)) for n in range(count)]


def losses(count, level, seed, noise=0.1):
    draw = random.Random(seed)
    return [max(0.0, draw.gauss(level, noise)) for _ in range(count)]


def answered(draw, samples, skill):
    """A model that errs independently on each sample; its answers are compared with the references as they are."""
    true = [sample.group.partition(" ")[0] for sample in samples]
    said = [right if draw.random() < skill else draw.choice([c for c in CHOICES if c != right]) for right in true]
    details = [{"answer": a, "expected": sample.answer} for a, sample in zip(said, samples, strict=True)]
    return outcome([a != sample.answer for a, sample in zip(said, samples, strict=True)], details)


def questions(draw, count, wrong):
    """Samples, a share of whose references is wrong; the group keeps what is true."""
    found = []
    for number in range(count):
        right = draw.choice(CHOICES)
        answer = draw.choice([c for c in CHOICES if c != right]) if number < wrong * count else right
        found.append(ChoiceSample(f"Question {number}?", CHOICES, answer, group=f"{right} {number}"))
    return found


def of(found, aspect):
    return next((one for one in Judgement(found).findings if one.aspect == aspect), None)


def test_wrong_references_are_found_and_right_ones_left_alone():
    """Of 200 tasks each: few false alarms (4), and 5 % wrong ones are seen in five of six (168)."""
    alarms = {}
    for wrong in (0.0, 0.05):
        alarms[wrong] = 0
        for seed in range(200):
            draw = random.Random(f"{wrong} {seed}")
            samples = questions(draw, 200, wrong)
            models = {name: answered(draw, samples, skill) for name, skill in (("middle", 0.75), ("strong", 0.9))}
            found = contradictions(evidence(samples, models))
            alarms[wrong] += found is not None and found.p_value < 0.01
    assert alarms[0.0] <= 6 and alarms[0.05] >= 160, alarms


def test_a_reference_that_only_the_best_model_is_surprised_by_is_told():
    samples, weak, strong = texts(60), losses(60, 3.0, 1), losses(60, 2.0, 2)
    assert of(evidence(samples, {"weak": outcome(weak), "strong": outcome(strong)}), "wrong references").samples == ()
    for place in (4, 17, 30):
        strong[place] = 6.0
    found = of(evidence(samples, {"weak": outcome(weak), "strong": outcome(strong)}), "wrong references")
    assert found.samples == (4, 17, 30) and found.grade == "warning" and "no proof" in found.text


@pytest.mark.parametrize(
    ("moved", "grade"), [({}, "good"), ({"weak": 0.4, "strong": 0.4}, "warning"), ({"strong": 2.0}, "defect")]
)
def test_other_words_that_move_scores_or_turn_the_ranking_are_told(moved, grade):
    samples = texts(60)
    models = {"weak": outcome(losses(60, 3.0, 1)), "strong": outcome(losses(60, 2.0, 2))}
    other = {name: outcome([v + moved.get(name, 0.0) for v in one.values]) for name, one in models.items()}
    found = of(evidence(samples, models, variants={"asked to answer": other}), "asked to answer")
    assert found.grade == grade and (grade != "defect" or "turns the ranking: weak before strong" in found.text)


def test_a_ceiling_below_the_scores_makes_models_equal_and_is_told():
    models = {"weak": outcome(losses(40, 3.0, 1)), "strong": outcome(losses(40, 2.0, 2))}
    found = of(evidence(texts(40), models, normalization=InverseExponential(1.5)), "normalization")
    assert found.grade == "defect" and "makes 1.0000 of both" in found.text
    assert of(evidence(texts(40), models, normalization=InverseExponential(20.0)), "normalization").grade == "good"


def test_models_closer_than_epsilon_leave_nothing_to_win():
    models = {"weak": outcome(losses(40, 3.001, 1)), "strong": outcome([v - 0.001 for v in losses(40, 3.001, 1)])}
    found = of(evidence(texts(40), models), "saturation")
    assert found.grade == "defect" and "closer together than epsilon" in found.text


def test_a_loss_that_follows_length_is_told():
    samples = texts(70)
    models = {"only": outcome([len(s.reference) + n % 2 / 10 for n, s in enumerate(samples)])}
    found = of(evidence(samples, models), "length of the reference")
    assert found.grade == "warning" and "longer ones cost more" in found.text


def test_a_game_as_good_as_the_best_model_is_told():
    models = {"weak": outcome(losses(40, 3.0, 1)), "strong": outcome(losses(40, 2.0, 2))}
    grades = {}
    for score in (1.9, 2.5, 3.5):
        game = Game("unigram model", "counts tokens", outcome([score] * 40))
        grades[score] = of(evidence(texts(40), models, games=(game,)), "games").grade
    assert grades == {1.9: "defect", 2.5: "warning", 3.5: "good"}


def test_samples_that_decide_nothing_and_repeated_draws_are_told():
    models = {"weak": outcome([1.0] * 4 + [0.0] * 36), "strong": outcome([0.0] * 40)}
    found = evidence(texts(40), models, repeated=0.5)
    assert (
        of(found, "deciding samples").grade == "warning"
        and "differ on 10% of the samples" in of(found, "deciding samples").text
    )
    assert of(found, "samples never seen").grade == "warning"


def test_enough_samples_for_epsilon_are_enough():
    draw = losses(400, 2.0, 3, noise=0.5)
    models = {"weak": outcome([v + 0.1 + n % 2 / 100 for n, v in enumerate(draw)]), "strong": outcome(draw)}
    assert of(evidence(texts(400), models), "noise").grade == "good"
