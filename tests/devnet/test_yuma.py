"""One Yuma step: golden values by hand, the median's edges, and what no weights can change."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn37.devnet.yuma import Peer, step, weighted_median


@pytest.mark.parametrize(
    ("votes", "total", "expected"),
    [
        ([(1.0, 50)], 100, 1.0),  # exactly half the stake supports it
        ([(1.0, 49)], 100, 0.0),
        ([(0.8, 30), (0.5, 30), (0.1, 40)], 100, 0.5),
        ([(0.1, 40), (0.5, 30), (0.8, 30)], 100, 0.5),
        ([(0.4, 10), (0.4, 40), (0.9, 9)], 100, 0.4),
        ([], 100, 0.0),
        ([(0.5, 0)], 0, 0.0),
    ],
)
def test_the_median_is_the_largest_weight_that_half_the_stake_supports(votes, total, expected):
    assert weighted_median(votes, total) == expected


def test_three_validators_and_two_miners_give_the_values_worked_out_by_hand():
    # Stake shares .40, .35, .25. Rows: (A 1), (A 1/2, B 1/2), (B 1).
    # A: 1 has .40 < 1/2; 1/2 has .75: clipped at 1/2. B: 1 has .25; 1/2 has .60: clipped at 1/2.
    # Ranks: A = .40/2 + .35/2 = .375, B = .35/2 + .25/2 = .300; before clipping .575 and .425.
    outcome = step(
        [
            Peer(40, permit=True, last_update=9, weights={3: 7}),
            Peer(35, permit=True, last_update=9, weights={3: 5, 4: 5}),
            Peer(25, permit=True, last_update=9, weights={4: 65_535}),
            Peer(0),
            Peer(0),
        ]
    )
    assert outcome.consensus == (0, 0, 0, 0.5, 0.5)
    assert outcome.rank == pytest.approx((0, 0, 0, 0.375, 0.3))
    assert outcome.incentive == pytest.approx((0, 0, 0, 5 / 9, 4 / 9))
    assert outcome.trust == pytest.approx((0, 0, 0, 15 / 23, 12 / 17))
    assert outcome.validator_trust == pytest.approx((0.5, 1, 0.5, 0, 0))
    assert outcome.dividends == pytest.approx((8 / 27, 14 / 27, 5 / 27, 0, 0))


@pytest.mark.parametrize(("selfish", "incentive"), [(49, 0.0), (50, 0.5), (51, 1.0)])
def test_a_minority_cannot_lift_its_own_miner(selfish, incentive):
    outcome = step(
        [
            Peer(selfish, permit=True, last_update=9, weights={2: 1}),
            Peer(100 - selfish, permit=True, last_update=9, weights={3: 1}),
            Peer(0),
            Peer(0),
        ]
    )
    assert outcome.incentive[2] == incentive
    assert outcome.validator_trust[0] == (1.0 if selfish >= 50 else 0.0)


def test_a_higher_kappa_demands_more_support():
    peers = [
        Peer(60, permit=True, last_update=9, weights={2: 1}),
        Peer(40, permit=True, last_update=9, weights={3: 1}),
        Peer(0),
        Peer(0),
    ]
    assert step(peers).incentive[2] == 1.0
    assert step(peers, Fraction(2, 3)).incentive == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "silenced",
    [
        Peer(90, permit=False, last_update=9, weights={1: 1}),
        Peer(90, permit=True, active=False, last_update=9, weights={1: 1}),
        Peer(90, permit=True, last_update=5, weights={1: 1}),  # set before uid 1 changed hands
        Peer(90, permit=True, last_update=9, weights={0: 1}),  # on itself
        Peer(90, permit=True, last_update=9, weights={7: 1}),  # on a uid that is not there
        Peer(90, permit=True, last_update=9),
        Peer(0, permit=True, last_update=9, weights={1: 1}),
    ],
    ids=["no permit", "inactive", "outdated", "self", "unknown uid", "no weights", "no stake"],
)
def test_what_does_not_count_gives_nobody_anything(silenced):
    outcome = step([silenced, Peer(1, registered=5)])
    assert outcome.incentive == outcome.rank == outcome.trust == outcome.dividends == (0, 0)


def test_a_subnet_without_neurons_has_an_empty_outcome():
    assert step([]).incentive == ()


peers_lists = st.integers(1, 6).flatmap(
    lambda size: st.lists(
        st.builds(
            Peer,
            stake=st.integers(0, 10**17),
            permit=st.booleans(),
            last_update=st.just(1),
            registered=st.just(0),
            weights=st.dictionaries(st.integers(0, size - 1), st.integers(0, 65_535)),
        ),
        min_size=size,
        max_size=size,
    )
)


@settings(deadline=None)
@given(peers_lists)
def test_shares_sum_to_one_or_are_all_zero_and_trust_stays_in_bounds(peers):
    outcome = step(peers)
    for shares in (outcome.incentive, outcome.dividends):
        assert sum(shares) == pytest.approx(1) or not any(shares)
    for values in (*vars(outcome).values(),):
        assert all(0 <= value <= 1 + 1e-12 for value in values)


@settings(deadline=None)
@given(peers_lists, st.randoms(use_true_random=False))
def test_the_order_of_uids_does_not_matter(peers, random):
    order = list(range(len(peers)))
    random.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    moved = [
        Peer(
            peers[old].stake,
            permit=peers[old].permit,
            last_update=1,
            weights={place[target]: weight for target, weight in peers[old].weights.items()},
        )
        for old in order
    ]
    before, after = step(peers), step(moved)
    assert [after.incentive[place[uid]] for uid in range(len(peers))] == pytest.approx(before.incentive)
    assert [after.validator_trust[place[uid]] for uid in range(len(peers))] == pytest.approx(before.validator_trust)


@settings(deadline=None)
@given(peers_lists, st.integers(2, 9))
def test_only_the_proportions_of_a_row_matter(peers, factor):
    scaled = [
        Peer(p.stake, permit=p.permit, last_update=1, weights={t: w * factor for t, w in p.weights.items()})
        for p in peers
    ]
    assert step(scaled).incentive == pytest.approx(step(peers).incentive)
