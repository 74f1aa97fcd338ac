import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.competition import Competition, Constraints, EvalTask, Fixed
from sn37.schedule import PUBLIC, Period, Schedule, Share, fund


def competition(number, name=None, epsilon=0.01):
    return Competition(
        id=number,
        name=name or f"C{number}",
        constraints=Constraints(("LlamaForCausalLM",), 10, 10, 10, None, 10),
        epsilon=Fixed(epsilon),
        tasks=(EvalTask("T", "fineweb", "text_loss", 1.0),),
    )


C2, C3, C4 = competition(2), competition(3), competition(4)
C3_LATER = competition(3, epsilon=0.02)

SCHEDULE = Schedule(
    (
        Period(0, (Share(C2, 0.75), Share(C3, 0.25))),
        Period(4_675_163, (Share(C3_LATER, 1.0),)),
        Period(5_158_632, (Share(C4, 1.0),)),
    )
)


@pytest.mark.parametrize(
    ("block", "split"),
    [
        (0, {2: 0.75, 3: 0.25}),
        (4_675_162, {2: 0.75, 3: 0.25}),
        (4_675_163, {3: 1.0}),
        (5_158_631, {3: 1.0}),
        (5_158_632, {4: 1.0}),
        (10**9, {4: 1.0}),
    ],
)
def test_a_period_holds_from_its_block_until_the_next(block, split):
    assert {share.competition.id: share.share for share in SCHEDULE.at(block)} == split


def test_nothing_runs_before_the_first_period():
    later = Schedule((Period(100, (Share(C2, 1.0),)),))
    assert later.at(99) == ()
    assert later.competition(2, 99) is None


def test_a_competition_is_the_one_that_runs_at_that_block():
    assert SCHEDULE.competition(3, 4_675_162) is C3
    assert SCHEDULE.competition(3, 4_675_163) is C3_LATER
    assert SCHEDULE.competition(3, 5_158_632) is None
    assert SCHEDULE.competition(4, 0) is None


def test_the_split_comes_in_the_order_of_ids():
    mixed = Schedule((Period(0, (Share(C4, 0.5), Share(C2, 0.25), Share(C3, 0.25))),))
    assert [share.competition.id for share in mixed.at(0)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((), "sum to 0; expected positive shares with the sum 1"),
        ((Share(C2, 0.5), Share(C3, 0.4)), r"the shares of the schedule from block 5 sum to 0\.9"),
        ((Share(C2, 1.5), Share(C3, -0.5)), "expected positive shares"),
        ((Share(C2, 1.0), Share(C3, 0.0)), "expected positive shares"),
        ((Share(C2, math.nan),), "sum to nan"),
        ((Share(C2, math.inf),), "sum to inf"),
        ((Share(C3, 0.5), Share(C3_LATER, 0.5)), r"the schedule from block 5 uses a competition id twice: \[3, 3\]"),
    ],
)
def test_shares_that_are_no_split_are_refused(shares, told):
    with pytest.raises(ValueError, match=told):
        Period(5, shares)


@pytest.mark.parametrize("starts", [(), (5, 5), (6, 5)])
def test_periods_must_rise(starts):
    with pytest.raises(ValueError, match="a schedule needs periods with rising blocks"):
        Schedule(tuple(Period(start, (Share(C2, 1.0),)) for start in starts))


def split(shares):
    return {share.competition.id: share.share for share in shares}


def test_funding_by_hand():
    public = (Share(C2, 0.75), Share(C3, 0.25))
    own = competition(50)
    assert fund({PUBLIC: 1.0}, public) == public
    assert split(fund({own: 1.0}, public)) == {50: 1.0}
    assert split(fund({own: 0.5, PUBLIC: 0.3, C3: 0.2}, public)) == pytest.approx({2: 0.225, 3: 0.275, 50: 0.5})


@pytest.mark.parametrize(
    ("funding", "told"),
    [
        ({PUBLIC: 0.9}, r"the funding shares sum to 0\.9; expected 1"),
        ({}, "the funding shares sum to 0; expected 1"),
        ({PUBLIC: 1.5, C2: -0.5}, "every funding share must be above 0"),
        ({PUBLIC: 1.0, C2: 0.0}, "every funding share must be above 0"),
        ({PUBLIC: math.nan}, "the funding shares sum to nan"),
        ({PUBLIC: math.inf}, "the funding shares sum to inf"),
        ({"C2": 1.0}, "unknown funding item 'C2'; expected a competition or 'public'"),
        ({C3_LATER: 0.5, PUBLIC: 0.5}, "competition id 3 is used twice: by C3 and by C3"),
        (
            {competition(2, "MINE"): 0.5, PUBLIC: 0.5},
            "competition id 2 is used twice: by MINE and by C2",
        ),
    ],
)
def test_funding_that_is_no_split_is_refused(funding, told):
    with pytest.raises(ValueError, match=told):
        fund(funding, (Share(C2, 0.75), Share(C3, 0.25)))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_a_funded_split_sums_to_one_whatever_the_order(parts, public_part, random):
    total = sum(parts) + public_part
    funding = {competition(10 + i): part / total for i, part in enumerate(parts)}
    if public_part:
        funding[PUBLIC] = public_part / total
    public = (Share(C2, 0.75), Share(C3, 0.25))
    shares = fund(funding, public)
    assert math.fsum(share.share for share in shares) == pytest.approx(1, abs=1e-9)
    mixed = dict(random.sample(list(funding.items()), len(funding)))
    assert fund(mixed, public) == shares


def test_funding_holds_in_every_period():
    own = competition(50)
    funded = SCHEDULE.funded({own: 0.5, PUBLIC: 0.5})
    assert split(funded.at(0)) == {2: 0.375, 3: 0.125, 50: 0.5}
    assert split(funded.at(5_158_632)) == {4: 0.5, 50: 0.5}
    assert funded.default_id == SCHEDULE.default_id
