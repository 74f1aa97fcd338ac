import math
from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sn37.competition import Fixed, LinearDecay
from sn37.incentive import (
    ALPHA,
    MIN_SHARE,
    Contender,
    beats,
    competition_weights,
    field,
    judge,
    moving_average,
    subnet_weights,
    wins,
)

NOW = 10_000

scores = st.one_of(
    st.floats(0, 20), st.sampled_from([0.0, 1.0, 0.99, 0.95, 2.0, math.inf, math.nan]), st.floats(1.0, 1.1)
)
epsilons = st.one_of(
    st.builds(Fixed, st.floats(0, 0.5)),
    st.builds(
        lambda a, b, n: LinearDecay(max(a, b), min(a, b), n),
        st.floats(0, 0.5),
        st.floats(0, 0.5),
        st.integers(1, 9_000),
    ),
)


@st.composite
def crowds(draw, least=0, most=7):
    """Contenders with their own hotkeys and uids; blocks may be equal."""
    size = draw(st.integers(least, most))
    uids = draw(st.permutations(range(size)))
    blocks = draw(st.lists(st.integers(0, NOW), min_size=size, max_size=size))
    losses = draw(st.lists(scores, min_size=size, max_size=size))
    return [Contender(f"hotkey{i}", uids[i], blocks[i], losses[i]) for i in range(size)]


def outcome(verdict):
    return verdict.winner, dict(verdict.win_rate), dict(verdict.wins), {c.hotkey for c in verdict.field}


DECAY = LinearDecay(0.05, 0.01, 1000)


@pytest.mark.parametrize(
    ("mine", "theirs", "won"),
    [
        # The elder is 500 of 1000 blocks old: its epsilon is 0.05 - 0.5 * 0.04 = 0.03.
        ((9_600, 1.9399), (9_500, 2.0), True),
        ((9_600, 1.9401), (9_500, 2.0), False),
        ((9_500, 2.0), (9_600, 1.9401), True),
        ((9_500, 2.0), (9_600, 1.9399), False),
        # Decayed to its end, 0.01; and never below.
        ((9_900, 1.9799), (9_000, 2.0), True),
        ((9_900, 1.9801), (9_000, 2.0), False),
        ((9_900, 1.9799), (1, 2.0), True),
        ((9_900, 1.9801), (1, 2.0), False),
        # Committed now: still whole, 0.05.
        ((10_001, 1.8999), (10_000, 2.0), True),
        ((10_001, 1.9001), (10_000, 2.0), False),
        # The younger one's own age does not matter; equality is no win.
        ((9_999, 0.97), (9_500, 1.0), False),
        # Equal blocks: plain comparison, both ways.
        ((500, 1.9999), (500, 2.0), True),
        ((500, 2.0), (500, 2.0), False),
        ((500, 2.0001), (500, 2.0), False),
    ],
)
def test_the_earlier_one_is_ahead_by_the_epsilon_of_its_own_age(mine, theirs, won):
    i, j = Contender("i", 0, *mine), Contender("j", 1, *theirs)
    assert beats(i, j, DECAY, NOW) is won


def test_an_epoch_by_hand():
    """Fixed epsilon 0.1.

    B copies A: out. C (0.85) is under A's 1.0 * 0.9. D (0.80) is too, but not under C's 0.85 * 0.9 = 0.765:
    out. E (0.70) is under all. F, the first to commit, failed.
    """
    crowd = [
        Contender("A", 5, 100, 1.0),
        Contender("B", 4, 200, 1.0),
        Contender("C", 3, 300, 0.85),
        Contender("D", 2, 400, 0.80),
        Contender("E", 1, 500, 0.70),
        Contender("F", 0, 50, math.inf),
    ]
    verdict = judge(crowd, Fixed(0.1), NOW)
    assert [c.hotkey for c in verdict.field] == ["A", "C", "E"]
    assert verdict.wins == {"A": 0, "C": 1, "E": 2}
    assert verdict.win_rate == {"A": 0.0, "C": 0.5, "E": 1.0}
    assert verdict.winner == "E"


def test_with_epsilon_still_high_the_field_admits_who_does_not_win_yet():
    elder, younger = Contender("elder", 0, NOW, 2.0), Contender("younger", 1, NOW + 1, 1.95)
    verdict = judge([elder, younger], DECAY, NOW)
    assert {c.hotkey for c in verdict.field} == {"elder", "younger"}
    assert verdict.winner == "elder"
    assert judge([elder, younger], DECAY, NOW + 2_000).winner == "younger"


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [((1, 100), (0, 200), "first"), ((1, 100), (0, 100), "second"), ((0, 100), (1, 100), "first")],
)
def test_ties_go_to_the_earlier_commitment_then_to_the_lower_uid(first, second, winner):
    crowd = [Contender("first", *first, 0.0), Contender("second", *second, 0.0)]
    assert judge(crowd, Fixed(0.1), NOW).winner == winner


@pytest.mark.parametrize("crowd", [[], [Contender("a", 0, 1, math.inf), Contender("b", 1, 2, math.nan)]])
def test_without_a_finite_score_there_is_no_winner_and_nothing_changes(crowd):
    verdict = judge(crowd, Fixed(0.1), NOW)
    assert (verdict.winner, verdict.field, verdict.win_rate) == (None, (), {})
    assert moving_average({"a": 0.4, "b": 0.6}, verdict.winner) == {"a": 0.4, "b": 0.6}


def test_a_lone_contender_wins():
    verdict = judge([Contender("a", 0, 1, 3.0)], Fixed(0.1), NOW)
    assert (verdict.winner, verdict.win_rate) == ("a", {"a": 1.0})


@pytest.mark.parametrize("score", [-1e-9, -math.inf])
def test_a_negative_loss_is_no_loss(score):
    with pytest.raises(ValueError, match=r"the score of a is .*; a loss is 0 or more"):
        Contender("a", 0, 1, score)


@given(crowds(least=1), st.data(), epsilons)
def test_a_copy_never_wins_nor_changes_anything(crowd, data, epsilon):
    original = data.draw(st.sampled_from(crowd))
    later = data.draw(st.integers(original.block + 1, 2 * NOW))
    copy = Contender("copy", data.draw(st.integers(-9, 99)), later, original.score)
    assert outcome(judge([*crowd, copy], epsilon, NOW)) == outcome(judge(crowd, epsilon, NOW))


@given(crowds(least=1), st.data(), epsilons)
def test_a_near_copy_within_the_final_epsilon_never_changes_anything(crowd, data, epsilon):
    original = data.draw(st.sampled_from(crowd))
    assume(math.isfinite(original.score))
    score = data.draw(st.floats(original.score * (1 - epsilon.final), original.score))
    near = Contender("near", 99, original.block + 1, score)
    # Models that came after both see a slightly lower bar to clear, so they may be touched; earlier ones never.
    assume(all(c.block <= original.block for c in crowd if math.isfinite(c.score)))
    assert outcome(judge([*crowd, near], epsilon, NOW)) == outcome(judge(crowd, epsilon, NOW))


@given(crowds(most=5), epsilons, st.randoms(use_true_random=False))
def test_the_order_of_input_never_matters(crowd, epsilon, random):
    shuffled = random.sample(crowd, len(crowd))
    assert outcome(judge(shuffled, epsilon, NOW)) == outcome(judge(crowd, epsilon, NOW))
    assert judge(shuffled, epsilon, NOW).field == judge(crowd, epsilon, NOW).field


@given(crowds(), epsilons)
def test_a_verdict_is_what_the_protocol_says_word_for_word(crowd, epsilon):
    def won(i, j):
        if i.block == j.block:
            return i.score < j.score
        if i.block < j.block:
            return i.score * (1 - epsilon.at(NOW, i.block)) < j.score
        return i.score < j.score * (1 - epsilon.at(NOW, j.block))

    finite = [c for c in crowd if math.isfinite(c.score)]
    inside = [
        c for c in finite if not any(o.block < c.block and c.score >= o.score * (1 - epsilon.final) for o in finite)
    ]
    verdict = judge(crowd, epsilon, NOW)
    assert {c.hotkey for c in verdict.field} == {c.hotkey for c in inside}
    best = None
    for c in inside:
        count = sum(won(c, o) for o in inside if o.hotkey != c.hotkey)
        assert verdict.wins[c.hotkey] == count
        assert verdict.win_rate[c.hotkey] == (count / (len(inside) - 1) if len(inside) > 1 else 1)
        if best is None or (count, -c.block, -c.uid) > best[0]:
            best = (count, -c.block, -c.uid), c.hotkey
    assert verdict.winner == (best[1] if best else None)


@given(crowds(least=2, most=2), epsilons)
def test_two_never_beat_each_other_both(crowd, epsilon):
    i, j = crowd
    assert not (beats(i, j, epsilon, NOW) and beats(j, i, epsilon, NOW))
    assert wins([i, j], epsilon, NOW) == {i.hotkey: beats(i, j, epsilon, NOW), j.hotkey: beats(j, i, epsilon, NOW)}


@given(crowds(), epsilons)
def test_the_field_is_in_the_order_of_commitment(crowd, epsilon):
    inside = field(crowd, epsilon)
    assert list(inside) == sorted(inside, key=lambda c: (c.block, c.uid))


def test_a_moving_average_by_hand():
    assert (ALPHA, MIN_SHARE) == (0.90, 0.18)
    average = moving_average(None, "A")
    assert average == {"A": 1.0}
    average = moving_average(average, "B")
    assert average == pytest.approx({"A": 0.9, "B": 0.1})
    assert competition_weights(average, {"A", "B"}) == {"A": 1.0}
    average = moving_average(average, "B")
    assert average == pytest.approx({"A": 0.81, "B": 0.19})
    assert competition_weights(average, {"A", "B"}) == pytest.approx({"A": 0.81, "B": 0.19})
    assert average == pytest.approx({"A": 0.81, "B": 0.19})


@pytest.mark.parametrize(
    ("average", "weights"),
    [
        ({"A": 0.82, "B": 0.18}, {"A": 0.82, "B": 0.18}),
        ({"A": 0.83, "B": 0.17}, {"A": 1.0}),
        ({"A": 0.5, "B": 0.35, "C": 0.15}, {"A": 0.5 / 0.85, "B": 0.35 / 0.85}),
        ({f"h{i}": 1 / 6 for i in range(6)}, {}),
        ({}, {}),
    ],
)
def test_below_the_threshold_is_nothing_and_the_rest_is_renormalized(average, weights):
    before = dict(average)
    assert competition_weights(average, average.keys()) == pytest.approx(weights)
    assert average == before


def test_a_hotkey_that_left_gets_nothing_and_leaves_nothing_to_its_uid():
    average = moving_average(moving_average(None, "gone"), "stays")
    assert competition_weights(average, {"stays", "newcomer"}) == {"stays": 1.0}
    assert competition_weights(average, {"newcomer"}) == {}


@given(st.lists(st.sampled_from(["A", "B", "C", "D", "E", "F", "G", None]), max_size=60))
def test_weights_are_non_negative_and_sum_to_one_or_there_are_none(winners):
    average = {}
    for winner in winners:
        average = moving_average(average, winner)
    weights = competition_weights(average, set("ABCDEFG"))
    for values in (average, weights, subnet_weights({1: weights}, {1: 1.0})):
        assert all(value >= 0 for value in values.values())
        assert not values or math.fsum(values.values()) == pytest.approx(1, abs=1e-12)
    assert bool(average) == any(winners)
    assert all(weight >= MIN_SHARE - 1e-12 for weight in weights.values())


def test_subnet_weights_by_hand():
    weights = {2: {"A": 1.0}, 3: {"A": 0.25, "B": 0.75}}
    assert subnet_weights(weights, {2: 0.75, 3: 0.25}) == pytest.approx({"A": 0.8125, "B": 0.1875})


@pytest.mark.parametrize("absent", [{}, {9: {}}])
def test_a_competition_that_has_not_run_yet_leaves_its_share_to_the_others(absent):
    weights = {2: {"A": 1.0}, 3: {"B": 1.0}, **absent}
    assert subnet_weights(weights, {2: 0.3, 3: 0.2, 9: 0.5}) == pytest.approx({"A": 0.6, "B": 0.4})


def test_a_competition_that_is_no_longer_funded_weighs_nothing():
    assert subnet_weights({1: {"A": 1.0}, 2: {"B": 1.0}}, {2: 1.0}) == {"B": 1.0}
    assert subnet_weights({1: {"A": 1.0}}, {2: 1.0}) == {}


def test_the_order_of_competitions_and_hotkeys_never_moves_a_digit():
    weights = {1: {"A": 0.1, "B": 0.9}, 2: {"B": 0.3, "C": 0.7}, 3: {"C": 0.6, "A": 0.4}}
    shares = {1: 0.2, 2: 0.5, 3: 0.3}
    expected = list(subnet_weights(weights, shares).items())
    for order in permutations(weights):
        mixed = {i: dict(reversed(weights[i].items())) for i in order}
        assert list(subnet_weights(mixed, {i: shares[i] for i in reversed(order)}).items()) == expected


def test_a_verdict_is_the_same_in_every_process(fresh):
    code = """
from sn37.competition import LinearDecay
from sn37.incentive import Contender, competition_weights, judge, moving_average
crowd = {Contender(f"h{i}", i, 100 * (i % 3), 2.0 - 0.05 * (i % 7)) for i in range(20)}
verdict = judge(crowd, LinearDecay(0.05, 0.01, 1000), 5000)
average = moving_average({"h1": 0.5, "h2": 0.5}, verdict.winner)
print(verdict, competition_weights(average, {"h1", "h2", verdict.winner}))
"""
    assert "winner='h6'" in fresh(code)
