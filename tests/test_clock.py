import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.clock import Clock, generator, picked_up, seed_of
from sn37.errors import ConfigError

GENESIS = 3_138_611

HASH = "0x" + "ab" * 32
SEED = 47137133047987366843627913065961486372647734429622217293125865327054350386694
"""What sha256sum prints for the text of HASH, read as one hexadecimal number."""


@pytest.mark.parametrize(
    ("block", "sync_block", "following"),
    [
        (GENESIS, GENESIS, GENESIS + 360),
        (GENESIS + 1, GENESIS, GENESIS + 360),
        (GENESIS + 359, GENESIS, GENESIS + 360),
        (GENESIS + 360, GENESIS + 360, GENESIS + 720),
        (5_158_632, 5_158_571, 5_158_931),
    ],
)
def test_sync_blocks_count_from_genesis_and_the_next_one_is_strictly_later(block, sync_block, following):
    assert Clock().sync_block(block) == sync_block
    assert Clock().next_sync_block(block) == following


@given(st.integers(0, 10**7), st.integers(1, 10**5), st.integers(0, 10**7))
def test_a_block_lies_between_its_sync_block_and_the_next(genesis, cadence, later):
    clock = Clock(genesis, cadence)
    block = genesis + later
    sync_block = clock.sync_block(block)
    assert sync_block <= block < clock.next_sync_block(block) == sync_block + cadence
    assert clock.sync_block(sync_block) == sync_block
    assert genesis + clock.index(sync_block) * cadence == sync_block


def test_there_is_no_sync_block_before_genesis():
    with pytest.raises(ValueError, match="block 3138610 lies before the subnet's genesis, 3138611"):
        Clock().sync_block(GENESIS - 1)


@pytest.mark.parametrize(("genesis", "cadence", "named"), [(-1, 360, "genesis is -1"), (0, 0, "cadence is 0")])
def test_an_impossible_clock_is_refused(genesis, cadence, named):
    with pytest.raises(ValueError, match=named):
        Clock(genesis, cadence)


def test_the_seed_is_the_sha256_of_the_hash_as_text(fresh):
    code = f"from sn37.clock import seed_of; print(seed_of({HASH!r}))"
    assert fresh(code) == str(SEED)


@pytest.mark.parametrize(
    "text", ["", "0x", "ab" * 32, "0x" + "AB" * 32, "0x" + "ab" * 31, "0x" + "ab" * 33, HASH + "\n", " " + HASH, "None"]
)
def test_without_a_block_hash_there_is_no_seed(text):
    with pytest.raises(ValueError, match="is no block hash; expected 0x and 64 lower-case hexadecimal digits"):
        seed_of(text)


@pytest.mark.parametrize(
    ("task", "drawn"),
    [
        ("FINEWEB", "0.5039852128103554 [528466, 219154, 879307, 346849, 666678]"),
        ("WORD_SORTING", "0.5584322418121124 [585558, 773815, 464639, 286488, 770741]"),
    ],
)
def test_a_task_draws_the_same_in_every_process(fresh, task, drawn):
    code = f"""
from sn37.clock import generator
print(generator({SEED}, {task!r}).random(), generator({SEED}, {task!r}).sample(range(1_000_000), 5))
"""
    assert fresh(code) == drawn


@given(st.integers(0, 2**256 - 1), st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_generator_is_the_mersenne_twister_keyed_by_seed_and_name(seed, name):
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    words = [int.from_bytes(key[i : i + 4], "big") for i in range(28, -1, -4)]
    while words[-1] == 0:
        words.pop()
    assert generator(seed, name).random() == np.random.RandomState(words).random_sample()


def test_tasks_do_not_disturb_each_other():
    alone = generator(SEED, "FINEWEB").random()
    noisy, quiet = generator(SEED, "WORD_SORTING"), generator(SEED, "FINEWEB")
    noisy.shuffle(list(range(100)))
    assert quiet.random() == alone
    assert generator(SEED, "A").random() != generator(SEED, "B").random() != generator(SEED + 1, "B").random()


@pytest.mark.parametrize(("committed", "taken"), [(539, True), (540, True), (541, False), (1000, False)])
def test_the_pick_up_delay_must_have_passed_at_the_sync_block(committed, taken):
    assert picked_up(committed, delay_blocks=460, sync_block=1000) is taken


@given(st.integers(0, 500), st.integers(1, 50), st.integers(0, 1_000), st.integers(0, 500))
def test_the_first_epoch_of_a_submission_is_the_first_sync_block_that_picks_it_up(genesis, cadence, block, delay):
    clock = Clock(genesis, cadence)
    first = clock.first_epoch(block, delay)
    assert clock.sync_block(first) == first and picked_up(block, delay, first)
    assert first == genesis or not picked_up(block, delay, first - cadence)


@pytest.mark.parametrize("wanted", [GENESIS - 360, GENESIS + 1, GENESIS + 720])
def test_a_sync_block_is_chosen_among_those_that_are_reached(wanted):
    clock = Clock()
    assert (clock.chosen(None, GENESIS + 400), clock.chosen(GENESIS, GENESIS + 400)) == (GENESIS + 360, GENESIS)
    with pytest.raises(
        ConfigError, match=f"sync_block is {wanted}; expected {GENESIS + 360}, or 360 x n blocks before"
    ):
        clock.chosen(wanted, GENESIS + 400)
    with pytest.raises(ConfigError, match=f"the chain is at block 5; genesis is {GENESIS}"):
        clock.chosen(None, 5)
