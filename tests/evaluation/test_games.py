"""Players without a model: they predict honestly, and the same samples in another order stay the same samples."""

import math
import random

import pytest

from sn37.engine.interface import LossRow
from sn37.evaluation.games import Counts
from sn37.evaluation.variants import reordered, reworded
from sn37.methods import Row
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample


@pytest.mark.parametrize("kind", ["unigram", "prefix", "copy"])
def test_a_counting_model_gives_all_tokens_together_a_probability_of_one(kind):
    counts = Counts.of([Row(0, (1, 2, 3, 4, 3), 2), Row(1, (1, 2, 3, 3), 2)], vocabulary=9)
    nats = getattr(counts, kind)
    for context, start in (((5, 3, 4), 3), ((5, 3, 4, 3), 2), ((8, 8), 2)):
        before = nats(LossRow(context, start)) if len(context) > start else 0.0
        total = sum(math.exp(before - nats(LossRow((*context, token), start))) for token in range(9))
        assert total == pytest.approx(1.0)


LETTERED = "Which city?\nA. Oslo\nB. Rome\nC. Lima\nD. Cairo\nSay a letter."


def test_reordered_choices_keep_what_is_right():
    named = ChoiceSample("Oslo, Rome or Lima: which is in Peru?", ("Oslo", "Rome", "Lima"), "Lima")
    seen = set()
    for seed in range(40):
        lettered, plain = reordered(
            [ChoiceSample(LETTERED, ("A", "B", "C", "D"), "B"), named], random.Random(seed)
        ) or (None, named)
        if lettered is not None:
            assert f"{lettered.answer}. Rome\n" in lettered.prompt and lettered.prompt.endswith("\nSay a letter.")
            assert sorted(lettered.prompt.split()) == sorted(LETTERED.split())
            seen.add(lettered.answer)
        assert plain.answer == "Lima" and sorted(plain.choices) == sorted(named.choices)
        assert [plain.prompt.find(choice) for choice in plain.choices] == sorted(map(plain.prompt.find, plain.choices))
    assert seen == {"A", "B", "C", "D"}


@pytest.mark.parametrize(
    "samples",
    [[ReferenceSample("a", "b")], [ChoiceSample("Which is it?", ("yes", "no"), "no")], [TextSample("A. b B. c")]],
)
def test_what_lists_no_choices_has_no_other_order(samples):
    assert reordered(samples, random.Random(1)) == ()


def test_prompts_are_put_in_other_words():
    assert reworded([ReferenceSample("a {b}", "c")], "Well: {prompt}!") == (ReferenceSample("Well: a {b}!", "c"),)
    assert reworded([ReferenceSample("a\n\nb", "c")], "") == (ReferenceSample("a b", "c"),)
    two = InstructionSample(("a", "b"), ((), ()))
    assert reworded([two], "{prompt}?")[0].prompts == ("a?", "b?")
    assert reworded([TextSample("a")], "{prompt}?") == reworded([ReferenceSample("a", "c")], "") == ()
