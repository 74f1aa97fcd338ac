"""Batches: packed or padded, a row's loss is its own."""

import pytest
import torch
from tiny_models import MODELS
from words import CAT, MAT, SAT, THE

from sn37.engine.interface import LossRow
from sn37.miner import batches
from sn37.miner.batches import Batches, batch_of, keeps_packed_rows_apart, loss_sum
from sn37.miner.rows import WeightedRow

ROWS = [
    WeightedRow(LossRow(tuple(range(first, first + length)), start), weight)
    for first, length, start, weight in ((3, 9, 1, 0.5), (40, 2, 1, 0.1), (90, 21, 8, 0.3), (130, 12, 11, 0.1))
]
UNPACKED = {"bart", "falcon", "falcon_alibi"}
"""What transformers does not keep apart by positions alone."""


def loss_and_gradients(model, batches):
    model.zero_grad()
    loss = sum(loss_sum(model, batch) for batch in batches)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_packed_where_that_changes_nothing_and_padded_elsewhere(build_model, name):
    model = build_model(name).requires_grad_(True)
    packed = keeps_packed_rows_apart(model)
    assert packed is (name not in UNPACKED)
    one_by_one, gradients = loss_and_gradients(model, [batch_of([row], packed=False) for row in ROWS])
    together, found = loss_and_gradients(model, [batch_of(ROWS, packed=packed)])
    assert together == pytest.approx(one_by_one, rel=1e-5)
    for name, gradient in gradients.items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_the_loss_is_that_of_the_targets_by_their_weights(build_model):
    model = build_model("llama")
    expected = 0.0
    for one in ROWS:
        tokens = torch.tensor(one.row.tokens)
        with torch.no_grad():
            logs = model(input_ids=tokens[None]).logits[0].log_softmax(-1)
        losses = [-logs[place - 1, tokens[place]].item() for place in range(one.row.start, len(tokens))]
        expected += one.weight * sum(losses) / len(losses)
    assert loss_sum(model, batch_of(ROWS, packed=True)).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_and_its_gradient_are_the_same_in_parts(build_model, monkeypatch):
    model = build_model("llama").requires_grad_(True)
    (whole, expected), (parts, found) = [
        monkeypatch.setattr(batches, "_POSITIONS", size) or loss_and_gradients(model, [batch_of(ROWS, packed=True)])
        for size in (1_024, 3)
    ]
    assert parts == pytest.approx(whole, rel=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_what_is_given_is_not_learnt(build_model):
    """Another prompt changes what the reply costs, but the prompt's own tokens cost nothing."""
    batch = batch_of([WeightedRow(LossRow((THE, CAT, SAT, MAT), 3), 1.0)], packed=True)
    assert batch["weights"].tolist() == [[0.0, 0.0, 1.0]]
    assert batch["targets"].tolist() == [[CAT, SAT, MAT]]


@pytest.mark.parametrize("packed", [True, False])
def test_batches_keep_to_their_size_and_show_every_row_before_any_again(packed):
    rows = [WeightedRow(LossRow(tuple(range(length)), 1), 1.0) for length in range(2, 30)]
    planned = Batches(rows, 20, 40, seed=0, packed=packed)
    assert len(planned) == 40
    assert all(planned[i]["input_ids"].numel() <= 20 or len(planned._plan[i]) == 1 for i in range(40))
    order = [index for plan in planned._plan for index in plan]
    assert len(order) > len(rows)
    assert sorted(order[: len(rows)]) == list(range(len(rows)))


def test_the_order_follows_from_the_seed():
    first, again, other = (Batches(ROWS, 20, 9, seed=seed, packed=True)._plan for seed in (1, 1, 2))
    assert first == again != other
