"""The loops of a validator that never stops: which epoch is due, and weights that stand whatever evaluations do."""

import json

import pytest
from small import COMPETITION

from sn37.errors import ChainFault, ConfigError, DataFault, EvaluatorFault
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.validator.journal import Journal, folder_of
from sn37.validator.service import keep_weights, run_epochs


@pytest.fixture
def said():
    return []


@pytest.fixture
def two(small, tmp_path):
    """A subnet, and settings that fund two competitions on it."""
    other = small.root / "other.toml"
    other.write_text(COMPETITION.replace("id = 7", "id = 8").replace('"SMALL"', '"OTHER"'))
    funding = {str(small.competition_file): 0.5, str(other): 0.5}
    return small, small.settings(tmp_path / "home", funding=funding)


def play(small, settings, run, said, turns, **options):
    with small.subnet("validator") as subnet:
        pauses = []
        log = Journal("epochs", settings.root, said.append)
        run_epochs(settings, subnet, small.hub(settings.root), run, log, sleep=pauses.append, turns=turns, **options)
    return pauses


def seals(settings, ran):
    """Decides an epoch as far as the loop can see: its folder is in its place."""

    def run(competition, sync_block):
        ran.append((competition.name, sync_block))
        epoch = Epoch(settings.root / "records" / str(competition.id) / str(sync_block))
        epoch.folder.mkdir(parents=True)
        epoch.write(Publication({}, {}, "set", sync_block, None, "off"))
        return {"summary": f"{competition.name} decided"}

    return run


def test_every_funded_competition_has_an_epoch_at_each_sync_block_and_missed_ones_are_skipped(two, said):
    small, settings = two
    ran = []
    first = small.next_epoch()
    play(small, settings, seals(settings, ran), said, turns=4)
    assert ran == [("SMALL", first), ("OTHER", first)]
    small.chain.advance(3 * 360)
    play(small, settings, seals(settings, ran), said, turns=4)
    newest = settings.clock.sync_block(small.chain.head())
    assert newest > first + 360 and ran[2:] == [("SMALL", newest), ("OTHER", newest)]
    state = json.loads((folder_of(settings.root) / "epochs.json").read_text())
    assert f"waiting for the sync block {newest + 360:,}" in state["doing"] and state["next_block"] == newest + 360


def test_an_epoch_whose_run_was_killed_after_its_decision_is_ended_once(two, said):
    small, settings = two
    sync_block = small.next_epoch()
    killed = Epoch(settings.root / "records" / "7" / str(sync_block))
    killed.folder.mkdir(parents=True)
    ran = []

    def run(competition, sync_block):
        ran.append(competition.name)
        Epoch(settings.root / "records" / str(competition.id) / str(sync_block)).folder.mkdir(
            exist_ok=True, parents=True
        )
        return {}

    play(small, settings, run, said, turns=4)
    assert sorted(ran) == ["OTHER", "SMALL"]
    killed.write(Publication({}, {}, "set", sync_block, None, ""))
    play(small, settings, run, said, turns=4)
    assert sorted(ran) == ["OTHER", "OTHER", "SMALL", "SMALL"], "published, but not mirrored"


def test_the_competition_that_waited_longest_comes_first(two, said):
    small, settings = two
    sync_block = small.next_epoch()
    (settings.root / "records" / "7" / str(sync_block - 360)).mkdir(parents=True)
    ran = []
    play(small, settings, seals(settings, ran), said, turns=2)
    assert ran == [("OTHER", sync_block), ("SMALL", sync_block)]


def test_a_fault_of_one_competition_keeps_no_other_from_its_epoch(two, said):
    small, settings = two
    small.next_epoch()
    ran = []
    decides = seals(settings, ran)

    def run(competition, sync_block):
        if competition.name == "SMALL" and len(ran) < 2:
            ran.append(("fault", sync_block))
            raise DataFault("the dataset is gone")
        return decides(competition, sync_block)

    pauses = play(small, settings, run, said, turns=5)
    assert [name for name, _ in ran] == ["fault", "OTHER", "SMALL"]
    assert any("data fault: the dataset is gone; tried again" in line for line in said)
    assert len(pauses) == 2, "a pause only where nothing is due"


def test_an_epoch_that_is_not_decided_in_time_is_skipped_and_told(two, said):
    small, settings = two
    first = small.next_epoch()

    def run(competition, sync_block):
        small.chain.advance(360)
        raise DataFault("too few rows")

    play(small, settings, run, said, turns=2)
    assert any(f"SMALL at {first:,} is skipped: undecided" in line for line in said)


def test_a_node_that_lags_behind_brings_no_old_sync_block_back(two, said):
    small, settings = two
    ran = []
    first = small.next_epoch()
    heads = iter((first + 1, first - 1, first - 1, first + 2))

    with small.subnet("validator") as subnet:
        subnet.head = lambda: next(heads)
        log = Journal("epochs", settings.root, said.append)
        run_epochs(settings, subnet, small.hub(settings.root), seals(settings, ran), log, sleep=said.append, turns=4)
    assert ran == [("SMALL", first), ("OTHER", first)]
    assert not any("skipped" in str(line) for line in said)


def test_a_full_disk_stops_no_program(tmp_path):
    (tmp_path / "status").write_text("no folder")
    said = []
    Journal("service", tmp_path, said.append).event("epochs start")
    assert said[0].endswith("epochs start")


def test_old_things_are_pruned_after_each_epoch_and_a_disk_that_refuses_stops_none(two, said, tmp_path, monkeypatch):
    small, settings = two
    old = tmp_path / "notebooks" / f"report-{small.next_epoch() - 100 * 7_200}.html"
    old.parent.mkdir()
    old.write_text("old")
    ran = []
    play(small, settings, seals(settings, ran), said, turns=1, executed=[old.parent])
    assert not old.exists() and any(line.endswith("pruned 1 item, 0.0 MB") for line in said)

    def refuse(*_):
        raise EvaluatorFault("the disk refuses")

    monkeypatch.setattr("sn37.validator.service.prune", refuse)
    play(small, settings, seals(settings, ran), said, turns=2, executed=[old.parent])
    assert len(ran) == 2 and any("not pruned: the disk refuses" in line for line in said)


def test_pauses_grow_with_faults_in_a_row(two, said):
    small, settings = two
    small.next_epoch()

    def run(competition, sync_block):
        raise ChainFault("no answer")

    pauses = play(small, settings, run, said, turns=6)
    assert pauses == sorted(pauses) and pauses[-1] > pauses[0] and max(pauses) <= 600


def test_a_mistake_of_the_users_ends_the_loop_before_anything_has_succeeded(two, said):
    small, settings = two
    small.next_epoch()
    ran = []
    decides = seals(settings, ran)

    def wrong(competition, sync_block):
        raise ConfigError("no such device")

    def later_wrong(competition, sync_block):
        return wrong(competition, sync_block) if ran else decides(competition, sync_block)

    with pytest.raises(ConfigError, match="no such device"):
        play(small, settings, wrong, said, turns=1)
    play(small, settings, later_wrong, said, turns=3)
    assert any("error: no such device; tried again" in line for line in said)


def keeps(small, settings, said, turns=1):
    with small.subnet("validator") as subnet:
        keep_weights(
            settings, subnet, Journal("weights", settings.root, said.append), sleep=lambda _: None, turns=turns
        )


def on_chain(small):
    with small.subnet() as subnet:
        return subnet.validator_weights().get(small.hotkey("validator"), {})


def test_weights_are_set_beside_the_epochs_at_the_first_block_that_takes_them(small, tmp_path, said):
    """Long after the evaluation, at the block that the chain has named."""
    home = tmp_path / "home"
    settings = small.settings(home)
    best = small.submit("best", 0.5)
    keeps(small, settings, said)
    assert said == [], "nothing is decided yet"
    small.next_epoch()
    small.epoch(home)
    assert on_chain(small) == {best: 1.0}
    small.chain.replace(37, 1, "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM")
    better = small.submit("better", 0.0)
    sync_block = small.next_epoch()
    small.chain.set_rules(37, weights_rate_limit=400)
    set_at = Records(home / "records").sealed(7)[0].read(Publication).block
    small.epoch(home)
    epoch = Records(home / "records").sealed(7)[-1]
    possible = epoch.read(Publication).possible_from
    assert epoch.sync_block == sync_block and possible == set_at + 400
    keeps(small, settings, said)
    assert said == [], "the notebook has told already"
    small.chain.advance_to(possible - 1)
    with small.subnet("validator") as subnet:
        weights = Journal("weights", settings.root, said.append)
        keep_weights(settings, subnet, weights, sleep=lambda _: small.chain.advance(1), turns=3)
    assert on_chain(small) == {better: 1.0}
    assert epoch.read(Publication).block == possible + 1
    assert "read back" in said[-1]


def test_weights_of_every_epoch_are_set_at_the_first_block_that_takes_them(small, tmp_path, said):
    """A rate limit of 100 blocks, epochs of 360, and a service that starts 65 blocks before a sync block."""
    home, figures = tmp_path / "home", {"alpha": 0.0}
    settings = small.settings(home, figures=figures)
    small.chain.set_rules(37, weights_rate_limit=100)
    small.submit("first", 0.8)
    small.epoch(home, publish=False, figures=figures, sync_block=small.next_epoch())
    small.chain.advance_to(settings.clock.next_sync_block(small.chain.head()) - 65)
    keeps(small, settings, said)
    set_at = small.chain.head()
    for name, noise in (("second", 0.6), ("third", 0.4), ("fourth", 0.0)):
        winner = small.submit(name, noise)
        sync_block = small.chain.advance_to(settings.clock.next_sync_block(small.chain.head()))
        assert small.epoch(home, publish=False, figures=figures).decided.winner == winner
        possible = max(small.chain.head(), set_at + 100)
        with small.subnet("validator") as subnet:
            log = Journal("weights", settings.root, said.append)
            keep_weights(settings, subnet, log, sleep=lambda _: small.chain.advance(1), turns=105)
        assert on_chain(small) == {winner: 1.0}
        set_at = Records(home / "records").epoch(7, sync_block).read(Publication).block
        assert set_at == possible + 1, "the block after the first that takes them"


def test_the_notebook_and_the_weights_process_set_them_once(module_small, tmp_path, said):
    small = module_small
    small.submit("one", 0.25)
    small.next_epoch()
    settings = small.settings(tmp_path / "home")
    small.epoch(tmp_path / "home")
    before = small.chain.head()
    keeps(small, settings, said, turns=3)
    assert small.chain.head() == before, "no extrinsic, no block"
    assert said == [], "that they stand is no news"


def test_weights_that_another_validator_sets_with_the_same_hotkey_are_told(small, tmp_path, said):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    small.submit("one", 0.25)
    small.next_epoch()
    small.epoch(home)
    small.chain.advance(200)
    with small.subnet("validator") as subnet:
        subnet.set_weights({small.hotkey("validator"): 1.0})
    small.chain.advance(200)
    assert not elsewhere.exists()
    keeps(small, small.settings(home), said)
    assert "another validator may run on this hotkey" in said[-1]
    assert on_chain(small) == {small.hotkey("one"): 1.0}


def test_lines_are_for_people_or_for_machines(tmp_path):
    said = []
    Journal("epochs", tmp_path, said.append).event("begins", block=5_200_000, seconds=3.0)
    Journal("epochs", tmp_path, said.append, as_json=True).event("ends", block=5, more={"winner": "5x"})
    assert said[0][19:] == "  epochs    block 5,200,000  begins  (3 s)"
    found = json.loads(said[1])
    assert found.pop("time") and found == {"program": "epochs", "block": 5, "event": "ends", "winner": "5x"}
