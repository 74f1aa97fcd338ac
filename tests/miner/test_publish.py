"""Publishing: its order keeps the model its own, and any step can be run again."""

import json
from dataclasses import replace

import pytest

from sn37.chain import Subnet
from sn37.errors import ChainFault, ConfigError, DataFault, ModelFault
from sn37.miner import plan, publish
from sn37.miner.publish import upload, verify
from sn37.submission import content_hash, secure_hash

REPO = "alice/tiny"
STEPS = (
    "check the model",
    "upload it to a private repo",
    "download it again and hash it",
    "commit it to the chain",
    "make it public",
)


class Stopped(Exception):
    """The process ends here."""


def stop_at(step):
    def on_step(text):
        if text == step:
            raise Stopped

    return on_step


def readable(outside, model):
    """Whether anybody may read the repo."""
    try:
        outside.hub(None).model_size(model.repo, model.commit)
    except ModelFault:
        return False
    return True


def test_what_is_published_is_what_a_validator_fetches(outside, model, competition):
    done = publish(model, REPO, competition, outside.hub(), outside.subnet)
    (submission,) = outside.subnet.submissions()
    assert (submission.model, submission.block) == (done.model, done.block)
    assert done.model.hash == secure_hash(content_hash(model), outside.subnet.hotkey)
    with outside.hub(None).fetch_model(done.model, done.hotkey, competition.constraints) as fetched:
        assert fetched.content_hash == content_hash(model)


def test_the_steps_come_in_the_order_of_the_protocol(outside, model, competition):
    told = []
    publish(model, REPO, competition, outside.hub(), outside.subnet, on_step=told.append)
    assert tuple(told) == STEPS


def test_nobody_else_can_read_the_model_before_the_chain_holds_its_hash(outside, model, competition):
    seen = {}

    def look(step):
        if step in STEPS[2:]:
            commit = outside.hub().newest_commit(REPO, "model", None)
            public = True
            try:
                outside.hub(None).model_size(REPO, commit)
            except ModelFault:
                public = False
            seen[step] = public, outside.subnet.committed(outside.subnet.hotkey) is not None

    done = publish(model, REPO, competition, outside.hub(), outside.subnet, on_step=look)
    assert seen == {STEPS[2]: (False, False), STEPS[3]: (False, False), STEPS[4]: (False, True)}
    assert readable(outside, done.model)


@pytest.mark.parametrize("step", STEPS)
def test_stopped_before_any_step_the_same_call_goes_on(outside, model, competition, step):
    with pytest.raises(Stopped):
        publish(model, REPO, competition, outside.hub(), outside.subnet, on_step=stop_at(step))
    committed = outside.subnet.committed(outside.subnet.hotkey)
    outside.chain.advance(500)
    done = publish(model, REPO, competition, outside.hub(), outside.subnet)
    assert outside.subnet.committed(outside.subnet.hotkey) == (done.block, done.text)
    assert committed is None or committed == (done.block, done.text), "an earlier commitment is worth more"
    assert readable(outside, done.model)


def test_published_again_nothing_changes(outside, model, competition):
    first = publish(model, REPO, competition, outside.hub(), outside.subnet)
    outside.chain.advance(500)
    head = outside.chain.head()
    assert publish(model, REPO, competition, outside.hub(), outside.subnet) == first
    assert outside.chain.head() == head, "no call was signed"


def test_another_model_needs_another_repo_once_it_is_public(outside, model, competition):
    first = publish(model, REPO, competition, outside.hub(), outside.subnet)
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"alice/tiny is public already.*choose a new repo"):
        publish(model, REPO, competition, outside.hub(), outside.subnet)
    assert outside.subnet.committed(first.hotkey) == (first.block, first.text)


def test_a_model_that_breaks_a_rule_is_not_uploaded(outside, model, competition):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x--y.Z"}}))
    with pytest.raises(ModelFault, match=r"config\.json asks for code of its own"):
        publish(model, REPO, competition, outside.hub(), outside.subnet)
    assert outside.server.stats.requests == 0
    assert outside.subnet.committed(outside.subnet.hotkey) is None


@pytest.mark.parametrize("repo", ["alice", "alice/" + "x" * 60, "alice/a--b", "alice/a:b"])
def test_a_repo_that_cannot_be_committed_is_refused_before_anything_is_uploaded(outside, model, competition, repo):
    with pytest.raises(ConfigError, match="cannot be committed"):
        publish(model, repo, competition, outside.hub(), outside.subnet)
    assert outside.server.stats.requests == 0


def test_files_changed_behind_the_miners_back_are_not_committed(outside, model, competition):
    """Whoever else may write to the repo cannot make the miner commit to what a validator would refuse."""
    promised = upload(model, REPO, competition, outside.hub(), outside.subnet.hotkey)
    other = outside.hub().publish_file(REPO, "generation_config.json", b"{}", private=True)
    swapped = type(promised)(promised.namespace, promised.name, other, promised.hash, promised.competition_id)
    with pytest.raises(ModelFault, match="do not match the hash"):
        verify(swapped, competition, outside.hub(), outside.subnet.hotkey)


def test_the_download_does_not_come_from_this_machine(outside, model, competition):
    promised = upload(model, REPO, competition, outside.hub(), outside.subnet.hotkey)
    for _ in range(2):
        outside.server.stats.reset()
        verify(promised, competition, outside.hub(), outside.subnet.hotkey)
        assert outside.server.stats.bytes_by_route["GET resolve"] > (model / "model.safetensors").stat().st_size


def test_a_chain_that_refuses_leaves_the_model_private(outside, model, competition):
    outside.subnet.commit("alice:early:" + "0" * 40 + ":None:7")
    with pytest.raises(ChainFault, match=f"the model lies in the private repo {REPO} at [0-9a-f]{{8}}: publish again"):
        publish(model, REPO, competition, outside.hub(), outside.subnet)
    revision = outside.hub().newest_commit(REPO, "model", None)
    with pytest.raises(ModelFault, match="not public"):
        outside.hub(None).model_size(REPO, revision)


def test_a_hotkey_that_is_not_registered_is_told_before_anything_is_uploaded(outside, model, competition, wallet):
    stranger = Subnet(outside.chain.url, 37, wallet=wallet("stranger"), attempts=1)
    with stranger, pytest.raises(ConfigError, match="is not registered on netuid 37: register it first"):
        publish(model, REPO, competition, outside.hub(), stranger)
    with pytest.raises(DataFault, match="not there"):
        outside.hub().newest_commit(REPO, "model", None)


def test_a_plan_says_what_would_happen_and_when_and_changes_nothing(outside, model, competition):
    competition = replace(competition, constraints=replace(competition.constraints, delay_blocks=460))
    first = plan(model, REPO, competition, outside.hub(), outside.subnet)
    assert first.checked and first.wait_blocks == 0 and first.standing == "" and not first.committed
    # It is committed in the next block at the earliest.
    assert first.picked_up_at - first.block > 460 and first.picked_up_at - first.block <= 460 + 360
    publish(model, REPO, competition, outside.hub(), outside.subnet)
    head = outside.chain.head()
    assert plan(model, REPO, competition, outside.hub(), outside.subnet).committed
    assert not plan(model, REPO, replace(competition, id=8), outside.hub(), outside.subnet).committed
    (model / "generation_config.json").write_text('{"max_length": 7}')
    assert not plan(model, REPO, competition, outside.hub(), outside.subnet).committed, "another model in its place"
    again = plan(model, "alice/other", competition, outside.hub(), outside.subnet)
    assert 90 < again.wait_blocks <= 100 and again.standing.startswith("alice:tiny:")
    assert f"from block {again.possible_from:,} on, in about 20 min" in str(again) and "private repo" in str(again)
    assert outside.chain.head() == head
    with pytest.raises(DataFault, match="not there"):
        outside.hub().newest_commit("alice/other", "model", None)


def test_without_a_token_the_miner_is_told_so(outside, model, competition):
    with pytest.raises(ConfigError, match="needs a token"):
        publish(model, REPO, competition, outside.hub(None), outside.subnet)


def test_a_commitment_that_does_not_stand_is_a_chain_fault(outside, model, competition, monkeypatch):
    """A node that takes the call and forgets it."""
    monkeypatch.setattr(type(outside.subnet), "commit", lambda self, text: 1)
    with pytest.raises(ChainFault, match="holds nothing for"):
        publish(model, REPO, competition, outside.hub(), outside.subnet)
