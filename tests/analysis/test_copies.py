"""Which earlier submission a model copies, from records alone."""

import random
from dataclasses import replace

import pytest
from recorded import BROKEN, measurement, result
from simulated import COMPETITION, simulate, submission

from sn37.analysis import copies
from sn37.records.results import Sketch

TENSORS = {f"t{n}": tuple(random.Random(n).gauss(0, 1) for _ in range(8)) for n in range(16)}


def sketch(noise=0.0, seed=0, tensors=TENSORS, digest=None):
    """Those weights with noise of a share of their size."""
    draw = random.Random(f"noise {seed}")
    noisy = {name: tuple(w * (1 + noise * draw.gauss(0, 1)) for w in weights) for name, weights in tensors.items()}
    return Sketch(digest or f"{noise} {seed}".encode().hex().zfill(64), noisy)


def model(uid, block, made, **fields):
    return replace(result(uid, block), measurement=measurement({}, sketch=made), **fields)


def test_a_distance_is_symmetric_and_grows_with_the_noise():
    noises = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
    found = [copies.distance(sketch(), sketch(noise)) for noise in noises]
    assert found[0] == 0 and found == sorted(found)
    assert found[2] == pytest.approx(1e-3 / 2**0.5, rel=0.2)
    assert found == [copies.distance(sketch(noise), sketch()) for noise in noises]
    strangers = {name: tuple(random.Random(name).gauss(0, 1) for _ in range(8)) for name in TENSORS}
    assert 0.8 < copies.distance(sketch(), sketch(tensors=strangers)) <= 1


def test_what_most_tensors_have_in_common_is_compared_and_nothing_else():
    other_head = {**TENSORS, "t15": (9.0,) * 8}
    assert copies.distance(sketch(), sketch(tensors=other_head)) == pytest.approx(1 / 16, rel=0.1)
    without = {name: weights for name, weights in TENSORS.items() if name != "t15"}
    assert copies.distance(sketch(), sketch(tensors=without)) == 0
    shorter = {name: weights[:4] for name, weights in TENSORS.items()}
    assert copies.distance(sketch(), sketch(tensors=shorter)) == 0
    elsewhere = {f"other {name}": weights for name, weights in TENSORS.items()}
    assert copies.distance(sketch(), sketch(tensors=elsewhere)) is None
    assert copies.distance(sketch(tensors={}), sketch(tensors={})) is None


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e308, -1e308])
def test_no_finite_weight_makes_a_distance_that_is_none(value):
    odd = sketch(tensors=dict.fromkeys(TENSORS, (value,) * 8))
    assert copies.distance(odd, odd) in (0, 1)
    assert 0 <= copies.distance(odd, sketch()) <= 1


def test_the_nearest_earlier_submission_of_another_hotkey_is_named():
    first, second = model(1, 10, sketch()), model(2, 20, sketch(0.5))
    copied = model(3, 30, sketch(0.001))
    others = [second, first, model(4, 30, sketch()), model(5, 40, sketch()), replace(first, hotkey="hot3", block=5)]
    found = copies.nearest(copied, others)
    assert (found.uid, found.block, found.near, found.equal) == (1, 10, True, "")
    assert str(found).startswith("a near-copy of uid 1, committed at block 10: distance of weights 0.000")
    tuned = copies.nearest(second, [first, copied])
    assert (tuned.uid, tuned.near) == (1, False) and str(tuned).startswith("nearest to uid 1")
    assert copies.nearest(first, others[:4]) is None


def test_equal_weights_and_equal_files_are_told_and_the_oldest_is_the_one_copied():
    digest = "ab" * 32
    first, again = (model(uid, 10 * uid, sketch(digest=digest)) for uid in (1, 2))
    last = model(3, 30, sketch(digest=digest), content_hash="same")
    assert str(copies.nearest(last, [again, first])) == "the same weights as uid 1, committed at block 10"
    files = [replace(first, content_hash=""), replace(again, content_hash="same")]
    assert str(copies.nearest(last, files)) == "the same files as uid 2, committed at block 20"
    near = model(4, 5, sketch(digest="cd" * 32))
    assert copies.nearest(last, [near, again]).equal == "weights"


def test_what_has_no_sketch_is_compared_by_its_files_alone():
    old = replace(result(1, 10), content_hash="same")
    assert old.measurement.sketch is None
    assert copies.nearest(model(2, 20, sketch()), [old]) is None
    assert copies.nearest(replace(result(2, 20, fault=BROKEN), content_hash="same"), [old]).equal == "files"
    assert copies.nearest(result(2, 20), [replace(old, content_hash="")]) is None


def test_every_submission_of_a_record_is_compared_and_one_file_is_read_of_each(tmp_path, monkeypatch):
    records = simulate(tmp_path, epochs=8, models=6)
    epochs = records.sealed(COMPETITION.id)
    read = []
    monkeypatch.setattr(type(epochs[0]), "result", lambda epoch, hotkey: read.append(epoch) or epoch.results[hotkey])
    found = copies.of(epochs)
    assert len(read) == 5 and set(read) == {epochs[-1]}
    named = {key[0]: (copy.uid, copy.near) for key, copy in found.items()}
    hotkeys = [submission(uid, 0).hotkey for uid in range(6)]
    assert named[hotkeys[3]] == (2, True) and not named[hotkeys[4]][1]
    assert hotkeys[0] not in named and hotkeys[1] not in named  # the oldest, and one that failed
    pairs = {(one.uid, other.uid): apart for one, other, apart in copies.pairs(epochs)}
    assert len(pairs) == 5 * 4 and pairs[2, 3] == pairs[3, 2] < copies.NEAR
