"""What a hotkey may write on the chain: nothing of it raises, delays or hides anybody else's submission."""

import random
import threading
import time

import pytest
from huggingface_hub import HfApi

from sn37.competition import Fixed
from sn37.devnet.chain.state import commitments_at
from sn37.protocol import SelectionLimits
from sn37.records.history import History
from sn37.schedule import Period, Schedule, Share
from sn37.submission import Submission
from sn37.validator.contenders import pick, sort_out

COMMIT, HASH = "a" * 40, "A" * 43 + "="

MALFORMED = {
    "empty-parts": ("::::", "competition id '' is not 1 or 2 digits"),
    "one-part": ("hello", "1 parts instead of 5"),
    "six-parts": (f"a:b:{COMMIT}:{HASH}:7:8", "6 parts"),
    "short-commit": (f"a:b:{COMMIT[:-1]}:{HASH}:7", "no full commit"),
    "a-branch": (f"a:b:main:{HASH}:7", "no full commit"),
    "upper-commit": (f"a:b:{'A' * 40}:{HASH}:7", "no full commit"),
    "short-hash": (f"a:b:{COMMIT}:{HASH[:-2]}=:7", "no hash"),
    "url": (f"http://evil.example:80:{COMMIT}:{HASH}:7", "parts instead of 5"),
    "way-up": (f"..:..:{COMMIT}:{HASH}:7", "no part of a hub repo name"),
    "absolute": (f"/etc:passwd:{COMMIT}:{HASH}:7", "no part of a hub repo name"),
    "three-digits": (f"a:b:{COMMIT}:{HASH}:123", "not 1 or 2 digits"),
    "other-digits": (f"a:b:{COMMIT}:{HASH}:\u0667", "not 1 or 2 digits"),
    "negative": (f"a:b:{COMMIT}:{HASH}:-7", "not 1 or 2 digits"),
    "no-competition": (f"a:b:{COMMIT}:{HASH}:None", "not 1 or 2 digits"),
    "terminal": (f"a\x1b[2J:b:{COMMIT}:{HASH}:7", "no part of a hub repo name"),
    "markup": (f"[/b]<script>:b:{COMMIT}:{HASH}:7", "no part of a hub repo name"),
    "lines": ("a\nb\rc\u2028d", "1 parts"),
    "too-long-repo": (f"{'a' * 20}:{'b' * 20}:{COMMIT}:None:7", "longer than 38"),
    "zeros": (b"\0" * 128, "1 parts"),
    "binary": (random.Random(0).randbytes(128), "not UTF-8"),
    "unscheduled": (f"a:b:{COMMIT}:{HASH}:99", "competition 99 is not scheduled"),
    "no-commit": (f"a:b:None:{HASH}:7", "names no commit"),
    "no-hash": (f"a:b:{COMMIT}:None:7", "carries no hash"),
    "no-repo": (f"nobody:nothing:{COMMIT}:{HASH}:7", "does not exist"),
}


@pytest.fixture(scope="module")
def epoch(module_small, tmp_path_factory):
    small = module_small
    for name, (what, _) in MALFORMED.items():
        small.register(name)
        small.commit(name, what)
    small.register("silent")
    small.submit("honest", 0.0)
    # Somebody else's hash, and somebody else's model under one's own hotkey.
    small.register("thief")
    with small.subnet() as subnet:
        _, text = subnet.committed(small.hotkey("honest"))
    small.commit("thief", text)
    small.next_epoch()
    return small.epoch(tmp_path_factory.mktemp("home"), limits={"beyond": 50})


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_commitment_is_told_with_its_reason(epoch, module_small, name):
    reason = epoch.faults[module_small.hotkey(name)]
    assert MALFORMED[name][1] in reason
    assert reason.isprintable()


def test_a_stolen_hash_is_worthless(epoch, module_small):
    assert "do not match the hash" in epoch.faults[module_small.hotkey("thief")]


def test_the_honest_one_is_judged_as_if_alone(epoch, module_small):
    assert epoch.publication.weights == {module_small.hotkey("honest"): 1.0}
    assert module_small.hotkey("silent") not in epoch.faults
    assert len(epoch.faults) == len(MALFORMED) + 1


def test_the_record_holds_every_commitment_as_it_was(epoch, module_small):
    texts = {pick.submission.hotkey: pick.submission.text for pick in epoch.plan.picks}
    for name, (what, _) in MALFORMED.items():
        if isinstance(what, str):
            assert texts[module_small.hotkey(name)] == what
    assert texts[module_small.hotkey("binary")] == "0x" + MALFORMED["binary"][0].hex()
    page = epoch.plan._repr_html_()
    assert "<script>" not in page and "\x1b" not in page


def test_of_thousands_of_submissions_the_oldest_few_are_taken(module_small):
    competition = module_small.competition
    schedule = Schedule((Period(0, (Share(competition, 1.0),)),), default_id=7)
    many = [Submission.read(f"hot{n}", n, n % 1000, f"ns:m{n}:{COMMIT}:{HASH}:7") for n in range(5_000)]
    able, _ = sort_out(many, competition, schedule, 10_000)
    picks = pick(able, History(), (), Fixed(0.01), 10_000, most=10, limits=SelectionLimits())
    assert len(picks) == 5_000
    assert [p.submission.uid for p in picks if p.evaluate] == [*range(0, 5_000, 1_000), *range(1, 5_000, 1_000)]


def test_two_equal_models_committed_in_one_block_are_no_copies_of_each_other(small, tmp_path):
    """Equal blocks give no advantage to either: the tie goes to the lower uid, for every validator."""
    texts = {name: small.publish(name, 0.0, small.register(name)).to_text() for name in ("lower", "higher")}
    small.chain.set_block_time(3_600.0)  # blocks stand still: both calls wait for the same one
    calls = [threading.Thread(target=small.commit, args=(name, texts[name])) for name in ("higher", "lower")]
    for call in calls:
        call.start()
    while waiting(small) < 2:
        time.sleep(0.05)
    small.chain.advance(1)
    for call in calls:
        call.join()
    small.chain.set_block_time(None)
    with small.subnet() as subnet:
        assert len({submission.block for submission in subnet.submissions()}) == 1
    small.next_epoch()
    epoch = small.epoch(tmp_path / "home")
    assert set(epoch.decision.win_rate.values()) == {0.0}
    assert epoch.decision.winner == small.hotkey("lower")


def waiting(small):
    """How many commitments the block has that is not sealed yet."""
    head = small.chain.head()
    return sum(c.block == head + 1 for c in commitments_at(small.chain.store, 37, head + 1))


def chosen(outcome, small, *names):
    """Which of the names were evaluated."""
    evaluated = {pick.submission.hotkey for pick in outcome.plan.picks if pick.evaluate}
    return {name for name in names if small.hotkey(name) in evaluated}


def committed(small, name):
    with small.subnet() as subnet:
        return subnet.committed(small.hotkey(name))[1]


def test_committing_the_same_text_again_wipes_no_failure(small, tmp_path):
    small.submit("honest", 0.5)
    small.submit("broken", {**small.files(0.5), "model.safetensors": b"no weights"})
    small.chain.set_rules(37, commitment_rate_limit=0)
    tried = []
    for _ in range(4):
        small.next_epoch()
        tried += chosen(small.epoch(tmp_path), small, "broken")
        small.commit("broken", committed(small, "broken"))
    assert tried == ["broken", "broken"]


def test_committing_the_same_text_again_costs_the_seniority(small, tmp_path):
    """The copy that was committed in between is the elder then: it is tried again, and reigns."""
    text = small.competition_file.read_text()
    decay = 'kind = "linear_decay"\nstart = 0.05\nend = 0.01\ndecay_blocks = 1440'
    small.competition_file.write_text(text.replace('kind = "fixed"\nvalue = 0.01', decay))
    small.chain.set_rules(37, commitment_rate_limit=0)
    for name, noise in (("old", 0.55), ("older", 0.45), ("leader", 0.35)):
        small.submit(name, noise)
    small.next_epoch()
    assert small.epoch(tmp_path).decision.winner == small.hotkey("leader")
    small.submit("copy", 0.35)
    small.next_epoch()
    assert small.epoch(tmp_path).decision.winner == small.hotkey("leader")
    for _ in range(4):
        small.next_epoch()
    small.commit("leader", committed(small, "leader"))
    small.submit("better", 0.33)
    small.next_epoch()
    outcome = small.epoch(tmp_path)
    assert chosen(outcome, small, "copy", "better", "leader") == {"copy", "better", "leader"}
    assert outcome.decision.winner == small.hotkey("better")


def test_the_next_best_takes_over_when_the_leader_goes(small, tmp_path):
    for name, noise in (("old", 0.6), ("older", 0.5), ("third", 0.4), ("leader", 0.1), ("best", 0.1001)):
        small.submit(name, noise)
    small.next_epoch()
    assert small.epoch(tmp_path).decision.winner == small.hotkey("leader")
    HfApi(endpoint=small.server.endpoint, token=small.server.token_of("leader")).delete_repo("leader/model")
    winners = []
    for _ in range(2):
        small.next_epoch()
        winners.append(small.epoch(tmp_path).decision.winner)
    assert winners[-1] == small.hotkey("best")
