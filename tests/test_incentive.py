import math
from dataclasses import replace
from functools import reduce
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
    first_reign,
    first_win,
    moving_average,
    needed,
    reign,
    subnet_weights,
    win_rates,
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


def kings(turns):
    return [turn.contender.hotkey for turn in turns.takeovers]


def winner(crowd, epsilon, now=NOW):
    return reign(crowd, epsilon, now).winner


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

    F, the first to commit, failed. A reigns; B copies A; C needs 1.0 * 0.9 = 0.9 and has 0.85; D needs
    0.85 * 0.9 = 0.765 and has 0.80; E needs the same and has 0.70.
    """
    crowd = [
        Contender("A", 5, 100, 1.0),
        Contender("B", 4, 200, 1.0),
        Contender("C", 3, 300, 0.85),
        Contender("D", 2, 400, 0.80),
        Contender("E", 1, 500, 0.70),
        Contender("F", 0, 50, math.inf),
    ]
    turns = reign(crowd, Fixed(0.1), NOW)
    assert [(t.contender.hotkey, t.incumbent and t.incumbent.hotkey, t.succeeds) for t in turns.challenges] == [
        ("A", None, True),
        ("B", "A", False),
        ("C", "A", True),
        ("D", "C", False),
        ("E", "C", True),
    ]
    assert [t.needed for t in turns.challenges] == [math.inf, 0.9, 0.9, 0.85 * 0.9, 0.85 * 0.9]
    assert (kings(turns), turns.winner) == (["A", "C", "E"], "E")
    assert wins(crowd, Fixed(0.1), NOW) == {"A": 1, "B": 0, "C": 3, "D": 2, "E": 4}
    assert win_rates(wins(crowd, Fixed(0.1), NOW)) == {"A": 0.25, "B": 0.0, "C": 0.75, "D": 0.5, "E": 1.0}


@pytest.mark.parametrize(("score", "won"), [(0.95, False), (math.nextafter(0.95, 0), True)])
def test_what_is_needed_is_compared_as_the_formula_writes_it(score, won):
    """1.0 * (1 - 0.05) is 0.95 to the last bit: equality is no takeover, one step below is."""
    crowd = [Contender("old", 0, 1, 1.0), Contender("new", 1, 2, score)]
    assert (winner(crowd, Fixed(0.05)) == "new") is won


def test_with_epsilon_still_high_a_better_one_waits():
    crowd = [Contender("elder", 0, NOW, 2.0), Contender("younger", 1, NOW + 1, 1.95)]
    assert winner(crowd, DECAY, NOW) == "elder"
    assert winner(crowd, DECAY, NOW + 2_000) == "younger"


@pytest.mark.parametrize(
    ("first", "second", "won"),
    [
        ((1, 100, 0.0), (0, 200, 0.0), "first"),
        ((1, 100, 0.0), (0, 100, 0.0), "second"),
        ((0, 100, 0.0), (1, 100, 0.0), "first"),
        ((1, 200, 1.0), (0, 100, 1.0), "second"),
        ((0, 100, 1.0), (1, 100, 0.5), "second"),
        ((0, 100, 1.0), (1, 100, 0.999), "second"),
    ],
)
def test_in_one_block_the_lower_score_is_first_then_the_lower_uid(first, second, won):
    assert winner([Contender("first", *first), Contender("second", *second)], Fixed(0.1)) == won


short_epsilons = st.one_of(
    st.builds(Fixed, st.floats(0, 0.5)),
    st.builds(
        lambda a, b, n: LinearDecay(max(a, b), min(a, b), n), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 60)
    ),
)


@given(scores, scores, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), epsilons)
def test_one_block_before_its_first_win_a_duel_is_lost_and_at_it_won(mine, theirs, block, other, since, epsilon):
    assume(not math.isnan(theirs))
    i, j = Contender("i", 0, block, mine), Contender("j", 1, other, theirs)
    found = first_win(i, j, epsilon, since)
    if found.block is None:
        assert found.why and not any(beats(i, j, epsilon, now) for now in (since, other + 9_000, 10**12))
    else:
        assert beats(i, j, epsilon, found.block) and found.block >= since
        assert found.block == since or not beats(i, j, epsilon, found.block - 1)


@given(st.floats(0.5, 2), st.floats(0, 0.05), st.integers(0, 99), st.integers(1, 9_000), st.floats(0.01, 0.5))
def test_the_first_win_of_a_score_at_the_very_edge_is_exact(theirs, end, block, decay, more):
    """A score that is needed to the last bit at some block loses there and wins as soon as more is granted."""
    epsilon, j = LinearDecay(end + more, end, decay), Contender("j", 1, block, theirs)
    edge = block + decay // 2
    i = Contender("i", 0, block + 1, needed(j, epsilon, edge))
    found = first_win(i, j, epsilon, block + 1).block
    assert not beats(i, j, epsilon, edge)
    assert found is None or (found > edge and beats(i, j, epsilon, found) and not beats(i, j, epsilon, found - 1))


@pytest.mark.parametrize(
    ("mine", "theirs", "epsilon", "why"),
    [
        ((200, 2.0), (100, 2.0), DECAY, "its loss 2 is not below 2"),
        ((200, 1.99), (100, 2.0), DECAY, "its loss 1.99 is not below 1.98: epsilon stays at 0.01"),
        ((200, 1.95), (100, 2.0), Fixed(0.05), "its loss 1.95 is not below 1.9: epsilon stays at 0.05"),
        ((100, 2.0), (200, 1.5), DECAY, "it was committed earlier, and its own advantage only shrinks with time"),
        ((200, math.inf), (100, 2.0), DECAY, "it has no score"),
    ],
)
def test_who_never_wins_is_told_why(mine, theirs, epsilon, why):
    found = first_win(Contender("i", 0, *mine), Contender("j", 1, *theirs), epsilon, 300)
    assert (found.block, found.why) == (None, why)


@given(
    crowds(least=1, most=5),
    short_epsilons,
    st.integers(0, 50),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))),
)
def test_the_first_reign_is_the_one_that_playing_every_block_finds(crowd, epsilon, since, doubtful):
    def convinces(contender, incumbent):
        return (contender.uid, incumbent.uid) not in doubtful

    crowd = [replace(contender, block=contender.block % 50) for contender in crowd]
    # From block 50 + 60 on no epsilon changes any more.
    played = [(now, reign(crowd, epsilon, now, convinces).winner) for now in range(since, 111)]
    for contender in crowd:
        expected = next((now for now, won in played if won == contender.hotkey), None)
        assert first_reign(contender.hotkey, crowd, epsilon, since, convinces) == expected


@pytest.mark.parametrize("crowd", [[], [Contender("a", 0, 1, math.inf), Contender("b", 1, 2, math.nan)]])
def test_without_a_finite_score_there_is_no_winner_and_nothing_changes(crowd):
    turns = reign(crowd, Fixed(0.1), NOW)
    assert (turns.winner, turns.challenges, win_rates(wins(crowd, Fixed(0.1), NOW))) == (None, (), {})
    assert moving_average({"a": 0.4, "b": 0.6}, None) == {"a": 0.4, "b": 0.6}


def test_a_lone_contender_wins():
    crowd = [Contender("a", 0, 1, 3.0), Contender("failed", 1, 0, math.inf)]
    assert winner(crowd, Fixed(0.1)) == "a"
    assert win_rates(wins(crowd, Fixed(0.1), NOW)) == {"a": 1.0}


@pytest.mark.parametrize(
    ("crowd", "spoiler", "epsilon", "won"),
    [
        # The shadow loses to the fresh leader and beats the best: three that beat each other in a circle.
        (
            [("leader", 0, 0, 1.0), ("best", 2, 300, 0.945)],
            ("shadow", 1, 100, 0.985),
            LinearDecay(0.05, 0.01, 7_200),
            "best",
        ),
        # The near copy, 0.9 % better, stands between the leader and one who is 1.5 % better.
        ([("leader", 0, 0, 1.0), ("best", 2, 20, 0.985)], ("near", 1, 10, 0.991), Fixed(0.01), "best"),
    ],
)
def test_a_spoiler_saves_nobody(crowd, spoiler, epsilon, won):
    crowd = [Contender(*fields) for fields in crowd]
    assert winner(crowd, epsilon, 1_000) == winner([*crowd, Contender(*spoiler)], epsilon, 1_000) == won


def test_a_lower_loss_decides_for_nobody_else():
    decay, others = LinearDecay(0.05, 0.01, 7_200), [Contender("b", 1, 7_835, 0.881), Contender("c", 0, 8_421, 0.856)]
    assert [winner([Contender("me", 2, 5_125, score), *others], decay) for score in (0.896, 0.887)] == ["c", "c"]


@pytest.mark.parametrize("score", [-1e-9, -math.inf])
def test_a_negative_loss_is_no_loss(score):
    with pytest.raises(ValueError, match=r"the score of a is .*; a loss is 0 or more"):
        Contender("a", 0, 1, score)


@given(crowds(least=1), st.data(), epsilons)
def test_a_copy_never_wins_and_never_changes_who_wins(crowd, data, epsilon):
    original = data.draw(st.sampled_from(crowd))
    later = data.draw(st.integers(original.block + 1, 2 * NOW))
    copy = Contender("copy", data.draw(st.integers(-9, 99)), later, original.score)
    assert winner([*crowd, copy], epsilon) == winner(crowd, epsilon)


@given(crowds(least=1), st.data(), epsilons)
def test_a_later_one_better_than_the_winner_by_less_than_epsilon_changes_nothing(crowd, data, epsilon):
    takeovers = reign(crowd, epsilon, NOW).takeovers
    assume(takeovers)
    best = takeovers[-1].contender
    score = data.draw(st.floats(best.score * (1 - epsilon.at(NOW, best.block)), best.score))
    near = Contender("near", data.draw(st.integers(-9, 99)), best.block + data.draw(st.integers(1, 9_000)), score)
    assert winner([*crowd, near], epsilon) == best.hotkey


@given(crowds(), epsilons)
def test_a_model_that_never_reigns_changes_nothing(crowd, epsilon):
    turns = reign(crowd, epsilon, NOW)
    for idle in (c for c in crowd if c.hotkey not in kings(turns)):
        rest = reign([c for c in crowd if c is not idle], epsilon, NOW)
        assert rest.takeovers == turns.takeovers


@given(crowds(least=1), st.data(), epsilons)
def test_a_lower_loss_never_loses_a_win(crowd, data, epsilon):
    takeovers = reign(crowd, epsilon, NOW).takeovers
    assume(takeovers)
    best = takeovers[-1].contender
    better = replace(best, score=data.draw(st.floats(0, best.score)))
    assert winner([better if c is best else c for c in crowd], epsilon) == best.hotkey


@given(crowds(most=5), epsilons, st.randoms(use_true_random=False))
def test_the_order_of_input_never_matters(crowd, epsilon, random):
    shuffled = random.sample(crowd, len(crowd))
    assert reign(shuffled, epsilon, NOW) == reign(crowd, epsilon, NOW)
    assert list(wins(shuffled, epsilon, NOW).items()) == list(wins(crowd, epsilon, NOW).items())


@given(crowds(), epsilons)
def test_who_wins_is_what_the_protocol_says_word_for_word(crowd, epsilon):
    king = None
    for c in sorted((c for c in crowd if math.isfinite(c.score)), key=lambda c: (c.block, c.score, c.uid)):
        if king is None or (c.block > king.block and c.score < king.score * (1 - epsilon.at(NOW, king.block))):
            king = c
    assert reign(crowd, epsilon, NOW).winner == (king and king.hotkey)


@given(crowds(), epsilons)
def test_wins_are_counted_over_all_with_a_finite_score(crowd, epsilon):
    def beaten(i, j):
        if i.block == j.block:
            return i.score < j.score
        if i.block < j.block:
            return i.score * (1 - epsilon.at(NOW, i.block)) < j.score
        return i.score < j.score * (1 - epsilon.at(NOW, j.block))

    finite = [c for c in crowd if math.isfinite(c.score)]
    counted = {i.hotkey: sum(beaten(i, j) for j in finite if j is not i) for i in finite}
    assert wins(crowd, epsilon, NOW) == counted
    assert win_rates(counted) == {h: n / (len(finite) - 1) if len(finite) > 1 else 1 for h, n in counted.items()}


@given(crowds(least=2, most=2), epsilons)
def test_two_never_beat_each_other_both(crowd, epsilon):
    i, j = crowd
    assert not (beats(i, j, epsilon, NOW) and beats(j, i, epsilon, NOW))


def test_a_moving_average_by_hand():
    assert (ALPHA, MIN_SHARE) == (0.90, 0.18)
    average = moving_average(None, "A")
    assert average == {"A": 1.0}
    average = moving_average(average, "B")
    assert average == pytest.approx({"A": 0.9, "B": 0.1})
    assert competition_weights(average, {"A", "B"}, "ABB") == {"A": 1.0}
    average = moving_average(average, "B")
    assert average == pytest.approx({"A": 0.81, "B": 0.19})
    assert competition_weights(average, {"A", "B"}, "ABB") == pytest.approx({"A": 0.81, "B": 0.19})
    assert average == pytest.approx({"A": 0.81, "B": 0.19})


@pytest.mark.parametrize(
    ("average", "weights"),
    [
        ({"A": 0.82, "B": 0.18}, {"A": 0.82, "B": 0.18}),
        ({"A": 0.83, "B": 0.17}, {"A": 1.0}),
        ({"A": 0.5, "B": 0.35, "C": 0.15}, {"A": 0.5 / 0.85, "B": 0.35 / 0.85}),
        ({f"h{i}": 1 / 6 for i in range(6)}, {"h3": 1.0}),
        ({"h3": 0.16, "h4": 0.17, **{f"g{i}": 0.67 / 5 for i in range(5)}}, {"h4": 1.0}),
        ({"A": 0.0}, {"A": 1.0}),
        ({}, {}),
    ],
)
def test_below_the_threshold_is_nothing_and_the_rest_is_renormalized(average, weights):
    before = dict(average)
    assert competition_weights(average, average.keys(), ["h4", "h2", "h3", "gone"]) == pytest.approx(weights)
    assert average == before


def test_a_hotkey_that_left_gets_nothing_and_leaves_nothing_to_its_uid():
    average = moving_average(moving_average(None, "gone"), "stays")
    winners = ["gone", "stays"]
    assert competition_weights(average, {"stays", "newcomer"}, winners) == {"stays": 1.0}
    assert competition_weights(average, {"newcomer"}, winners) == {}


def test_where_eight_win_in_turn_somebody_gets_the_weight():
    winners = [f"h{epoch % 8}" for epoch in range(200)]
    average = reduce(moving_average, winners, {})
    assert max(average.values()) < MIN_SHARE
    assert competition_weights(average, set(average), winners) == {"h7": 1.0}
    assert competition_weights(average, {"h1", "h6"}, winners)["h6"] == pytest.approx(1 / (1 + 0.9**5))


@given(st.lists(st.sampled_from(["A", "B", "C", "D", "E", "F", "G", None]), max_size=60))
def test_weights_are_non_negative_and_sum_to_one_or_there_are_none(winners):
    average = {}
    for winner in winners:
        average = moving_average(average, winner)
    weights = competition_weights(average, set("ABCDEFG"), [winner for winner in winners if winner])
    for values in (average, weights, subnet_weights({1: weights}, {1: 1.0})):
        assert all(value >= 0 for value in values.values())
        assert not values or math.fsum(values.values()) == pytest.approx(1, abs=1e-12)
    assert bool(weights) == bool(average) == any(winners)
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


def test_a_reign_is_the_same_in_every_process(fresh):
    code = """
from sn37.competition import LinearDecay
from sn37.incentive import Contender, competition_weights, moving_average, reign
crowd = {Contender(f"h{i}", i, 100 * (i % 3), 2.0 - 0.05 * (i % 7)) for i in range(20)}
turns = reign(crowd, LinearDecay(0.05, 0.01, 1000), 5000)
winner = turns.winner
average = moving_average({"h1": 0.5, "h2": 0.5}, winner)
print(turns, winner, competition_weights(average, {"h1", "h2", winner}, ["h1", winner]))
"""
    assert "h6" in fresh(code)
