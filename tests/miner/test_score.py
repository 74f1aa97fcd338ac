"""A miner's score is the validator's, and says whether and when the model would win."""

import math
import shutil
from dataclasses import replace

import pytest
from small import Small, executor  # noqa: F401
from typer.testing import CliRunner

from sn37 import incentive, miner
from sn37.cli import app
from sn37.competition import LinearDecay
from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.evaluation.local import Data
from sn37.incentive import Contender
from sn37.records.epochs import Epoch


@pytest.fixture(scope="module")
def subnet(tmp_path_factory, executor):  # noqa: F811
    """A leader with incentive, its epoch decided, another miner behind it."""
    small = Small.make(tmp_path_factory.mktemp("small"), executor)
    small.submit("leads", 0.5)
    small.submit("follows", 0.9)
    small.next_epoch()
    played = small.epoch(tmp_path_factory.mktemp("home"))
    small.chain.advance_to(small.chain.next_step(37))
    yield small, played.decided.epoch
    small.close()


def data(small, tmp_path):
    return Data(small.server.endpoint, cache=tmp_path / "cache")


def scored(small, noise, tmp_path, **options):
    with small.subnet() as chain:
        return miner.score(
            small.model(noise), small.competition, chain, data=data(small, tmp_path), device="cpu", **options
        )


def test_on_the_samples_of_an_epoch_the_score_is_the_records_to_the_last_digit(subnet, tmp_path):
    small, epoch = subnet
    best = epoch.decision.best
    for options in ({"against": epoch}, {"sync_block": epoch.sync_block}):
        verdict = scored(small, 0.5, tmp_path, **options)
        assert verdict.loss == verdict.rival.score == best.score
        assert verdict.rival == best.contender
        assert verdict.difference.estimate == 0


def test_a_better_model_would_win_and_a_worse_one_would_not(subnet, tmp_path):
    small, _ = subnet
    better, worse = (scored(small, noise, tmp_path) for noise in (0.0, 0.9))
    assert better and better.first_win.block == better.picked_up_at
    assert "would win: a loss of " in str(better) and "hardly a matter of the samples" in str(better)
    assert not worse and worse.first_win.block is None
    assert "would not win" in str(worse) and "it never wins as it is" in str(worse) and "it must gain" in str(worse)
    assert "would win" in better._repr_html_() and "<table>" in better._repr_html_()
    assert better.picked_up_at >= better.block + 10 and (better.picked_up_at - 3_138_611) % 360 == 0


def test_what_is_needed_falls_with_epsilon(subnet, tmp_path):
    small, epoch = subnet
    verdict = scored(small, 0.5, tmp_path, against=epoch)
    decaying = replace(verdict, competition=replace(verdict.competition, epsilon=LinearDecay(0.05, 0.01, 36_000)))
    now, day, week = decaying.needed.values()
    assert now < day < week == verdict.rival.score * 0.99
    rival = Contender(verdict.rival.hotkey, verdict.rival.uid, verdict.block - 10, verdict.rival.score)
    near = replace(decaying, rival=replace(rival, score=verdict.loss / 0.97))
    assert not near and near.first_win.block > near.picked_up_at
    mine = Contender("", 0, near.block, near.loss)
    assert incentive.beats(mine, near.rival, near.competition.epsilon, near.first_win.block)
    assert not incentive.beats(mine, near.rival, near.competition.epsilon, near.first_win.block - 1)
    assert "it wins from block" in str(near)


def test_without_a_leader_any_valid_model_wins(subnet, tmp_path):
    small, epoch = subnet
    alone = replace(scored(small, 0.5, tmp_path, against=epoch), rival=None)
    assert alone and "nobody reigns in SMALL yet" in str(alone) and alone.needed == {}


def test_a_loss_of_nothing_that_does_not_win_is_told(subnet, tmp_path):
    small, epoch = subnet
    verdict = scored(small, 0.5, tmp_path, against=epoch)
    (name,) = [name for name in verdict.result.measured if name == "this model"]
    mine = verdict.result.measured[name]
    perfect = replace(mine, tasks={task: replace(outcome, score=0.0) for task, outcome in mine.tasks.items()})
    none = replace(
        verdict,
        result=replace(verdict.result, measured={**verdict.result.measured, name: perfect}),
        rival=replace(verdict.rival, score=0.0),
    )
    assert none.loss == 0 and not none and "it must gain more than 0.0000" in str(none)


def test_a_leader_without_a_score_is_told_as_such(subnet, tmp_path):
    small, epoch = subnet
    verdict = scored(small, 0.5, tmp_path, against=epoch)
    measured = {**verdict.result.measured, "the reigning model": ModelFault("it is gone")}
    alone = replace(verdict, result=replace(verdict.result, measured=measured), rival=None)
    assert alone and "the leader's has none: it is gone" in str(alone)


def test_what_is_scored_on_is_said_once_and_kept(subnet, tmp_path):
    small, epoch = subnet
    for options in ({"seed": 1}, {"sync_block": epoch.sync_block}):
        with pytest.raises(ConfigError, match="name no sync_block and no seed beside it"):
            scored(small, 0.5, tmp_path, against=epoch, **options)
    with pytest.raises(ConfigError, match=r"expected 5,?[0-9]+, or 360 x n blocks before it"):
        scored(small, 0.5, tmp_path, sync_block=epoch.sync_block + 1)
    pruned = shutil.copytree(epoch.folder, tmp_path / "7" / epoch.folder.name)
    shutil.rmtree(pruned / "samples")
    with pytest.raises(ConfigError, match="are not kept any more; name a newer epoch"):
        scored(small, 0.5, tmp_path, against=Epoch(pruned))


def test_a_model_that_breaks_a_rule_is_told_and_does_not_win(subnet, tmp_path):
    small, epoch = subnet
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with small.subnet() as chain:
        verdict = miner.score(folder, small.competition, chain, against=epoch, data=data(small, tmp_path), device="cpu")
    assert not verdict and math.isinf(verdict.loss) and "not valid: " in str(verdict)


def test_a_folder_without_a_model_is_no_verdict(subnet, tmp_path):
    small, epoch = subnet
    with small.subnet() as chain, pytest.raises(ConfigError, match="is no model; expected a folder with"):
        miner.score(tmp_path, small.competition, chain, against=epoch, data=data(small, tmp_path))


def uid_of(small, hotkey):
    with small.subnet() as chain:
        return chain.metagraph().neuron(hotkey).uid


@pytest.fixture
def said(subnet, tmp_path, monkeypatch):
    """Runs `sn37 miner` as a new miner with a wallet and a token; gives what it prints."""
    small, _ = subnet
    monkeypatch.setenv("HOME", str(tmp_path))
    where = ["-c", str(small.competition_file), "--hub", small.server.endpoint]
    chain = ["--network", small.chain.url, "--device", "cpu"]

    def run(command, noise, *more, name="rookie"):
        monkeypatch.setenv("HF_TOKEN", small.server.token_of(name))
        options = {"check": [], "score": chain, "publish": [*chain, "--wallet", name]}[command]
        if command == "publish":
            options += ["--wallet-path", str(small.root / "wallets"), "--repo", f"{name}/model"]
        result = CliRunner().invoke(app, ["miner", command, str(small.model(noise)), *where, *options, *more])
        if isinstance(result.exception, Exception):
            raise result.exception
        return result

    return run


def test_a_miners_life_from_the_command_line(subnet, said, tmp_path):
    small, _ = subnet
    hotkey = small.register("rookie")
    assert "fits SMALL" in said("check", 0.0).output
    assert said("score", 0.9).exit_code == 1
    won = said("score", 0.0)
    assert won.exit_code == 0 and "would win" in won.output
    with pytest.raises(ConfigError, match="it would not win, so nothing is published"):
        said("publish", 0.9)
    head = small.chain.head()
    assert "dry run: nothing was changed" in said("publish", 0.0, "--dry-run").output
    assert small.chain.head() == head
    with pytest.raises(DataFault, match="not there"):
        small.hub(tmp_path).newest_commit("rookie/model", "model", None)
    told = said("publish", 0.0).output
    assert "published: rookie/model at " in told and small.server.token_of("rookie") not in told
    assert "published: rookie/model at " in said("publish", 0.0).output, "run again, all is found done"
    small.next_epoch()
    assert small.epoch(tmp_path / "home").decided.winner == hotkey
    lost = CliRunner().invoke(app, ["miner", "explain", "2", "--records", str(tmp_path / "home" / "records")])
    assert lost.exit_code == 0 and "lost to uid 1 by " in lost.output, "who reigned at its turn"
    assert f"uid {uid_of(small, hotkey)} won with" in lost.output
    assert "this score never wins" in lost.output
    small.chain.set_rules(37, commitment_rate_limit=100)
    with pytest.raises(ConfigError, match=r"next commitment from block 5,2\d\d,\d\d\d on, in \d+ blocks"):
        small.register("hasty")
        said("publish", 0.0, "--force", name="hasty")
        said("publish", 0.5, "--force", "--repo", "hasty/other", name="hasty")


def test_what_a_miner_cannot_do_is_one_sentence(subnet, said):
    small, _ = subnet
    small.register("other")
    with pytest.raises(ConfigError, match="expected `leader`, or the folder"):
        said("score", 0.0, "--against", "nowhere")
    with pytest.raises(ConfigError, match="B7_MULTI_CHOICE is not scheduled at block 5,2"):
        said("publish", 0.0, "-c", "B7_MULTI_CHOICE", name="other")
    with pytest.raises(ConfigError, match="nobody"):
        said("publish", 0.0, "--wallet", "nobody", name="other")
    with pytest.raises(ConfigError, match="the hub does not let this token create it: rookie/other"):
        said("publish", 0.0, "--force", "--repo", "rookie/other", name="other")
