"""Tiny Llamas: a head start from bigrams, and the same model again from the same rows."""

import math
from itertools import islice
from random import Random

import pytest
import torch
from words import CAT, END, MAT, ON, SAT, THE

from sn37.devnet import tiny_llama
from sn37.devnet.bigrams import start_from_bigrams
from sn37.devnet.tiny_llama import Part
from sn37.engine.interface import LossRow
from sn37.errors import ConfigError
from sn37.submission import is_model_file

SENTENCE = LossRow((THE, CAT, SAT, ON, THE, MAT, END), 1)


def fresh(tokenizer, **options):
    return tiny_llama.small_llama(tokenizer, hidden=16, layers=1, **options)


def trained(model, steps):
    """The losses of so many steps."""
    return list(islice(tiny_llama.train(model, [Part((SENTENCE,), 1)]), steps))


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_same_rows_give_the_same_model(tokenizer):
    models = [fresh(tokenizer, seed=3) for _ in range(2)]
    losses = [trained(model, 4) for model in models]
    assert losses[0] == losses[1]
    assert torch.equal(*map(flat, models))


def test_training_leaves_the_global_random_state_alone(tokenizer):
    before = torch.get_rng_state()
    trained(fresh(tokenizer), 1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_learns_what_it_is_shown(tokenizer):
    losses = trained(fresh(tokenizer), 40)
    assert losses[-1] < losses[0] / 4


def test_only_targets_are_learnt(tokenizer):
    """The loss of a row is that of its targets, whatever is padded beside it."""
    model = fresh(tokenizer)
    row = LossRow((THE, CAT, SAT, ON), 2)
    long = LossRow((THE, CAT, SAT, ON, THE, MAT, END), 6)
    with torch.no_grad():
        alone = [tiny_llama._loss(model, [each], "cpu").item() for each in (row, long)]
        logits = model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        both = tiny_llama._loss(model, [row, long], "cpu").item()
    assert alone[0] == pytest.approx(-(logits[1, SAT] + logits[2, ON]).item() / 2, rel=1e-5)
    assert both == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-5)


def test_every_row_comes_up_once_before_any_comes_again(tokenizer):
    rows = tuple(LossRow((THE, token), 1) for token in range(10))
    deck = tiny_llama._shuffled(Part(rows, 4), Random(0))
    drawn = [row for _ in range(5) for row in next(deck)]
    assert set(drawn[:10]) == set(rows) == set(drawn[10:])


@pytest.mark.parametrize("rows", [(), (SENTENCE,)])
def test_a_part_smaller_than_its_step_is_refused(rows):
    with pytest.raises(ConfigError, match=f"2 rows of {len(rows)}"):
        Part(rows, 2)


def test_a_loss_that_explodes_is_named(tokenizer):
    model = fresh(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    with pytest.raises(ConfigError, match="not finite at step 1"):
        trained(model, 3)


def test_saving_leaves_the_files_of_a_submission(tokenizer, tmp_path):
    folder = tiny_llama.save(fresh(tokenizer), tokenizer, tmp_path / "model")
    assert all(is_model_file(path) for path in folder.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_from_bigrams_a_model_starts_as_a_bigram_model(tokenizer):
    """After `the` come cat and mat, after `cat` always sat: its guesses say so, before any step."""
    sequences = [SENTENCE.tokens] * 400
    model = fresh(tokenizer)
    before = tiny_llama._loss(model, [SENTENCE], "cpu").item()
    start_from_bigrams(model, sequences)
    with torch.no_grad():
        guesses = model(input_ids=torch.tensor([SENTENCE.tokens])).logits[0].softmax(-1)
    assert [int(guess) for guess in guesses[[1, 2, 3, 5]].argmax(-1)] == [SAT, ON, THE, END]
    assert {int(token) for token in guesses[0].topk(2).indices} == {CAT, MAT}
    assert tiny_llama._loss(model, [SENTENCE], "cpu").item() < before / 2


def test_from_bigrams_the_same_corpus_gives_the_same_start(tokenizer):
    models = [fresh(tokenizer, seed=1) for _ in range(2)]
    for model in models:
        start_from_bigrams(model, [SENTENCE.tokens])
    assert torch.equal(*map(flat, models))


def test_a_tied_head_cannot_hold_bigrams(tokenizer):
    model = fresh(tokenizer)
    model.lm_head.weight = model.model.embed_tokens.weight
    with pytest.raises(ValueError, match="tie_word_embeddings=False"):
        start_from_bigrams(model, [SENTENCE.tokens])
