"""What a miner learns from: rows as a validator judges them, drawn with seeds that no validator has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from words import ASSISTANT, CAT, END, MAT, SAT, THE, USER

import sn37
from sn37.clock import seed_of, training_seed
from sn37.engine.interface import LossRow
from sn37.errors import ConfigError
from sn37.evaluation.local import Data, draw
from sn37.methods import METHODS
from sn37.miner.rows import draw_material, loss_rows, weighted_rows
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample
from sn37.sources import SOURCES


@pytest.mark.parametrize(
    ("sample", "tokens", "start"),
    [
        (TextSample("the cat sat"), (THE, CAT, SAT, END), 1),
        (ReferenceSample("the cat", "sat"), (USER, THE, CAT, ASSISTANT, SAT, END), 4),
        (ChoiceSample("the cat", ("sat", "mat"), "mat"), (USER, THE, CAT, ASSISTANT, MAT, END), 4),
    ],
)
def test_a_sample_becomes_the_row_its_method_would_judge(tokenizer, sample, tokens, start):
    assert loss_rows([sample], tokenizer, 64) == (LossRow(tokens, start),)


@pytest.mark.parametrize("length", [3, 4, 5, 64])
@pytest.mark.parametrize(
    ("method", "sample"),
    [
        ("text_loss", TextSample("the cat sat on the mat")),
        ("reference_loss", ReferenceSample("the cat sat on", "the mat")),
        ("reference_loss", ReferenceSample("the cat", "sat on the mat")),
    ],
)
def test_a_row_too_long_is_cut_where_a_validator_cuts_it(tokenizer, method, sample, length):
    (mine,), (judged,) = loss_rows([sample], tokenizer, length), METHODS[method]().rows([sample], tokenizer, length)
    assert len(mine.tokens) <= length
    if length == 64:
        assert mine == LossRow((*judged.tokens, END), judged.start)
    elif len(judged.tokens) - judged.start < length - 1:  # the end of the text takes the place of a prompt's token
        assert mine.tokens == (*judged.tokens[1:], END)
    else:
        assert mine == LossRow(judged.tokens, judged.start)


def test_a_sample_without_a_reply_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="InstructionSample holds no reply"):
        loss_rows([InstructionSample(("a", "b"), ((), ()))], tokenizer, 64)


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20))
def test_no_block_hash_gives_a_seed_of_a_training(block_hash, name):
    assert seed_of(f"0x{block_hash.hex()}") < 2**256 <= training_seed(name)


@pytest.fixture
def few():
    """A source of 20 samples, of which each draw takes 12."""

    @sn37.source("few")
    def few(rng, count: int = 12):
        return [ReferenceSample(f"What follows {number}?", str(number + 1)) for number in rng.sample(range(20), count)]

    yield [sn37.task("FEW", source="few", method="reference_loss")]
    del SOURCES._factories["few"]


def with_tasks(competition, tasks):
    return type(competition)(**{**vars(competition), "tasks": tuple(tasks)})


def test_nothing_held_out_is_learnt_and_nothing_is_learnt_twice(competition, few):
    material = draw_material(with_tasks(competition, few), 5, 0, Data())
    held_out, learnt = material.held_out["FEW"], material.learnt["FEW"]
    assert held_out == draw(few[0], training_seed("0: held out"))
    assert len(held_out) == 12
    assert len(learnt) == len(set(learnt)) == 8
    assert not set(held_out) & set(learnt)


def test_another_seed_holds_out_other_samples(competition, few):
    first, second = (draw_material(with_tasks(competition, few), 1, seed, Data()) for seed in (0, 1))
    assert first.held_out != second.held_out


def test_a_draw_that_leaves_nothing_to_learn_is_refused(competition, few):
    whole = sn37.task("FEW", source="few", method="reference_loss", source_args={"count": 20})
    with pytest.raises(ConfigError, match=r"TINY: 2 draws gave no sample to learn from.*draw more often"):
        draw_material(with_tasks(competition, [whole]), 2, 0, Data())


def test_tasks_count_as_in_the_score_and_their_samples_alike(competition, tokenizer):
    tasks = [
        sn37.task("A", source="word_sorting", method="reference_loss", weight=0.75),
        sn37.task("B", source="word_sorting", method="reference_loss", weight=0.25),
    ]
    long, short = ReferenceSample("the", "cat sat on the mat"), ReferenceSample("the", "cat")
    rows = weighted_rows(with_tasks(competition, tasks), {"A": [long, short, short], "B": [short]}, tokenizer)
    assert [row.weight for row in rows] == [0.25] * 4
