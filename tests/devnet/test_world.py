"""The small world: everybody's role is what the chain and the hub show, and nothing is lost by any stop."""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from sn37.clock import generator, picked_up, seed_of
from sn37.devnet.building import build
from sn37.devnet.running import hub_of, open_world, running, start_hub
from sn37.devnet.world import World
from sn37.errors import ConfigError, ModelFault
from sn37.submission import content_hash, secure_hash


@pytest.fixture(scope="module")
def world(built, tmp_path_factory):
    """A copy of it that runs, to look at only."""
    root = tmp_path_factory.mktemp("running") / "world"
    shutil.copytree(built, root)
    with running(open_world(root)) as world:
        yield world


@pytest.fixture
def own(built, tmp_path):
    """A copy of it, to do anything with."""
    root = tmp_path / "world"
    shutil.copytree(built, root)
    yield root
    hub_of(root).stop()


@pytest.fixture(scope="module")
def submissions(world):
    with world.subnet() as subnet:
        return {submission.hotkey: submission for submission in subnet.submissions()}


def of_role(world, role):
    return [miner for miner in world.miners if miner.role == role]


def fetch(world, submissions, miner):
    submission = submissions[miner.hotkey]
    assert submission.model is not None, submission.fault
    return world.hub().fetch_model(submission.model, miner.hotkey, world.competition.constraints)


# Who is there, and what each did ----------------------------------------------------------------------


def test_two_validators_and_seven_miners_are_registered(world):
    neurons = {neuron.hotkey: neuron for neuron in world.metagraph().neurons}
    assert len(neurons) == 9
    assert [neurons[v.hotkey].validator_permit for v in world.validators] == [True, True]
    assert all(neurons[v.hotkey].stake == v.stake >= 100_000 for v in world.validators)
    assert [miner.role for miner in world.miners] == ["honest"] * 3 + ["copy", "pickle", "mismatch", "late"]
    assert {m.uid for m in world.miners} | {v.uid for v in world.validators} == set(range(9))


def test_every_miner_has_committed_in_the_order_told(world, submissions):
    blocks = [submissions[miner.hotkey].block for miner in world.miners]
    assert blocks == sorted(set(blocks))
    assert all(submissions[miner.hotkey].model.repo == miner.repo for miner in world.miners)


@pytest.mark.parametrize("role", ["honest", "copy", "late"])
def test_what_they_published_passes_the_hubs_checks(world, submissions, role):
    for miner in of_role(world, role):
        with fetch(world, submissions, miner) as model:
            assert model.report.architecture == "LlamaForCausalLM"
            assert submissions[miner.hotkey].model.hash == secure_hash(model.content_hash, miner.hotkey)


@pytest.mark.parametrize(
    ("role", "reason"), [("pickle", r"pytorch_model\.bin.*only safetensors"), ("mismatch", "do not match the hash")]
)
def test_cheaters_are_refused_with_the_reason(world, submissions, role, reason):
    (miner,) = of_role(world, role)
    with pytest.raises(ModelFault, match=reason):
        fetch(world, submissions, miner)


def test_the_copy_holds_the_leaders_files_and_came_later(world, submissions):
    leader, (copy,) = of_role(world, "honest")[-1], of_role(world, "copy")
    with fetch(world, submissions, leader) as original, fetch(world, submissions, copy) as copied:
        assert copied.content_hash == original.content_hash == content_hash(world.root / "models" / "120-steps")
    assert submissions[copy.hotkey].block > submissions[leader.hotkey].block
    assert submissions[copy.hotkey].model.hash != submissions[leader.hotkey].model.hash


def test_the_late_one_is_picked_up_by_the_second_epoch(world, submissions):
    first = world.clock.next_sync_block(world.chain.head())
    delay = world.competition.constraints.delay_blocks
    (late,) = of_role(world, "late")
    early = [miner for miner in world.miners if miner is not late]
    assert all(picked_up(submissions[miner.hotkey].block, delay, first) for miner in early)
    assert not picked_up(submissions[late.hotkey].block, delay, first)
    assert picked_up(submissions[late.hotkey].block, delay, first + world.clock.cadence)


# What validators find -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(world, tmp_path_factory):
    """The samples of one epoch, read as a validator reads them."""
    from sn37.data import PinnedDatasets
    from sn37.sources import SOURCES, Context

    head = world.chain.head()
    seed = seed_of(world.chain.block_hash(head))
    as_of = world.chain.timestamp(head)
    datasets = PinnedDatasets(world.hub(), as_of, tmp_path_factory.mktemp("pages"))
    return {
        task.name: SOURCES[task.source](**task.source_args)(
            Context(generator(seed, task.name), as_of, datasets, None, None, None)
        )
        for task in world.competition.tasks
    }


@pytest.fixture(scope="module")
def raw(world, submissions, samples):
    """Raw scores by training steps, then task."""
    from sn37.checks.tokenizer import load_tokenizer
    from sn37.checks.weights import inspect
    from sn37.engine.reference import ReferenceEngine
    from sn37.methods import METHODS, apply

    constraints = world.competition.constraints
    folder, _ = world.hub().fetch_tokenizer(constraints.tokenizer)
    tokenizer = load_tokenizer(folder)
    found = {}
    for miner in of_role(world, "honest") + of_role(world, "late"):
        with fetch(world, submissions, miner) as model:
            engine = ReferenceEngine(inspect(model.folder, constraints), constraints.sequence_length)
            found[miner.steps] = {
                task.name: apply(METHODS[task.method](**task.method_args), samples[task.name], tokenizer, engine).score
                for task in world.competition.tasks
            }
    return dict(sorted(found.items()))


def test_three_tasks_over_three_methods(world, samples):
    assert {task.method for task in world.competition.tasks} == {"text_loss", "reference_loss", "multiple_choice"}
    assert {name: len(drawn) for name, drawn in samples.items()} == {
        "DOCUMENTATION": 32,
        "WORD_SORTING": 32,
        "QUESTIONS": 64,
    }


def test_longer_training_wins_by_more_than_epsilon(world, raw):
    scores = [world.competition.score(each) for each in raw.values()]
    assert len(scores) == 4
    assert all(later < earlier * (1 - world.competition.epsilon.start) for earlier, later in pairwise(scores)), scores


@pytest.mark.parametrize("task", ["DOCUMENTATION", "WORD_SORTING", "QUESTIONS"])
def test_every_task_tells_the_least_trained_from_the_most(raw, task):
    first, *_, last = (scores[task] for scores in raw.values())
    assert last < 0.97 * first


def test_what_the_miners_trained_are_whole_models_of_the_competition(world):
    from sn37.miner.check import check_folder

    folders = sorted((world.root / "models").iterdir())
    assert len(folders) > 1
    for folder in folders:
        assert check_folder(folder, world.competition, world.hub).parameters > 100_000


def test_a_pipeline_file_is_one_that_sn37_run_takes(world, tmp_path):
    from sn37.pipeline import check_parameters, read_pipeline

    pipeline = read_pipeline(world.write_pipeline(world.validators[0], tmp_path / "home"))
    check_parameters(pipeline.notebook, pipeline.parameters)
    assert pipeline.parameters["wallet"] == "validator-1"
    assert pipeline.out == tmp_path / "home" / "validator"


# Secrets --------------------------------------------------------------------------------------------


def test_what_a_notebook_may_record_holds_no_secret(world, tmp_path):
    file = world.root / "hub" / "tokens.json"
    tokens = list(json.loads(file.read_text()))
    keys = [json.loads(path.read_text()) for path in world.wallets.glob("*/hotkeys/default")]
    secrets = tokens + [
        key[name] for key in keys for name in ("secretPhrase", "secretSeed", "privateKey") if name in key
    ]
    assert len(tokens) == 8 and len(secrets) > len(tokens)
    told = (world.root / "world.json").read_text()
    told += world.write_pipeline(world.validators[0], tmp_path).read_text()
    assert not [secret for secret in secrets if secret in told]


def test_the_tokens_are_for_their_owners_eyes_only(world):
    assert stat.S_IMODE((world.root / "hub" / "tokens.json").stat().st_mode) == 0o600


def test_a_stranger_to_the_hub_has_no_token(world):
    with pytest.raises(ConfigError, match=r"'mallory' has no token.*miner-1"):
        world.token("mallory")


# Stopping and coming back ---------------------------------------------------------------------------


def test_a_world_that_was_moved_goes_on(built, world):
    assert str(world.root) in world.network
    assert world.root != built
    data = json.loads((world.root / "world.json").read_text())
    assert (data["network"], data["hub"]) == (world.network, world.hub_endpoint)


def test_a_killed_hub_comes_back_with_all_it_held_at_the_same_address(own):
    with running(open_world(own)) as world:
        endpoint = world.hub_endpoint
        with world.subnet() as subnet:
            model = next(s for s in subnet.submissions() if s.hotkey == world.miners[0].hotkey).model
        before = world.hub().model_size(model.repo, model.commit)
        hub = psutil.Process(json.loads((own / "hub.process.json").read_text())["pid"])
        hub.kill()
        hub.wait()
        assert hub_of(own).endpoint is None
        assert start_hub(world).hub_endpoint == endpoint
        assert world.hub().model_size(model.repo, model.commit) == before


def test_opened_twice_it_has_one_hub(own):
    with running(open_world(own)) as first:
        second = open_world(own)
        assert second.hub_endpoint == first.hub_endpoint
        second.close()


def test_when_another_takes_its_port_the_hub_moves(own):
    with running(open_world(own)) as world:
        port = int(world.hub_endpoint.rpartition(":")[2])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with running(open_world(own)) as world:
            assert int(world.hub_endpoint.rpartition(":")[2]) != port
            assert json.loads((own / "world.json").read_text())["hub"] == world.hub_endpoint


def test_a_busy_port_asked_for_is_one_clear_error(own):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*choose a free port"):
            open_world(own, port=port)


def test_another_port_for_a_hub_that_runs_is_refused(own):
    with running(open_world(own)), pytest.raises(ConfigError, match="stop it before you choose another port"):
        open_world(own, port=1)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 999999999, "endpoint": "http://127.0.0.1:1"}'])
def test_a_stale_process_file_stops_nobody(own, content):
    (own / "hub.process.json").write_text(content)
    assert hub_of(own).endpoint is None
    assert not hub_of(own).stop()


def test_a_process_number_that_belongs_to_a_stranger_is_left_alone(own):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        record = {"pid": stranger.pid, "endpoint": "http://127.0.0.1:1"}
        (own / "hub.process.json").write_text(json.dumps(record))
        assert hub_of(own).endpoint is None
        assert not hub_of(own).stop()
        assert psutil.pid_exists(stranger.pid) and stranger.poll() is None
    finally:
        stranger.communicate()


# Making one -----------------------------------------------------------------------------------------


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"not empty and holds no world; choose another folder"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_world_is_not_built_over(own):
    with pytest.raises(ConfigError, match=r"there is a world in .* already"):
        build(own)


def test_two_do_not_build_in_one_folder(tmp_path):
    with (tmp_path / ".sn37-world").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is building"):
            build(tmp_path)


class Stop(Exception):
    """The making of a world ends here."""


def stop_once_the_hub_runs(text):
    if "tokenizer" in text:
        raise Stop


def test_an_attempt_that_fails_leaves_no_world_and_no_hub(tmp_path):
    with pytest.raises(Stop):
        build(tmp_path / "world", progress=stop_once_the_hub_runs)
    assert not World.exists(tmp_path / "world")
    assert not (tmp_path / "world" / "hub.process.json").exists()
    with pytest.raises(ConfigError, match="no world in"):
        open_world(tmp_path / "world")


def test_what_a_killed_attempt_left_is_cleared_away_and_its_hub_stopped(tmp_path):
    root = tmp_path / "world"
    program = (
        "import os, signal, sys; from pathlib import Path; from sn37.devnet.building import build\n"
        "def progress(text):\n"
        "    if 'tokenizer' in text: os.kill(os.getpid(), signal.SIGKILL)\n"
        "build(Path(sys.argv[1]), progress=progress)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(root)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = json.loads((root / "hub.process.json").read_text())["pid"]
    assert psutil.pid_exists(left), "the hub outlives whoever started it"
    keys = (root / "wallets" / "miner-1" / "hotkeys" / "default").read_bytes()
    with pytest.raises(Stop):
        build(root, progress=stop_once_the_hub_runs)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    assert (root / "wallets" / "miner-1" / "hotkeys" / "default").read_bytes() != keys


@pytest.mark.parametrize(
    "content", ["", "[]", '{"validators": [], "miners": [{"name": "x"}], "hub": "", "netuid": 37}']
)
def test_a_damaged_description_is_named(own, content):
    whole = (own / "world.json").read_text()
    (own / "world.json").write_text(content)
    with pytest.raises(ConfigError, match=r"world\.json is damaged.*make the world anew"):
        World.read(own)
    (own / "world.json").write_text(whole)


# Time ----------------------------------------------------------------------------------------------


def test_epochs_follow_each_other_at_the_cadence(own):
    with closing(World.read(own)) as world:
        first = world.next_epoch()
        assert first == world.sync_block == world.chain.head()
        world.chain.advance(7)
        assert world.sync_block == first
        assert world.next_epoch() == first + world.clock.cadence


def test_the_next_consensus_step_is_reached(own):
    with closing(World.read(own)) as world:
        due = world.chain.next_step(world.netuid)
        assert world.advance_to_consensus() == due == world.chain.head()


# The commands --------------------------------------------------------------------------------------


def sn37(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sn37", "devnet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


def test_up_status_advance_down(own):
    up = sn37("up", "--root", own, "--block-time", "0")
    assert up.returncode == 0, up.stderr
    assert "is up again" in up.stdout and f"sn37 run {own}/validator-1/pipeline.yaml" in up.stdout
    status = sn37("status", "--root", own)
    with closing(World.read(own)) as world:
        head = world.chain.head()
        assert hub_of(own).endpoint in status.stdout
    assert f"{head:,}" in status.stdout and "committed to miner-3's files" in status.stdout
    assert f"block {head + 5:,}" in sn37("advance", "5", "--root", own).stdout
    with closing(World.read(own)) as world:
        following = world.clock.next_sync_block(world.chain.head())
    assert f"sync block {following:,}" in sn37("advance", "--epoch", "--root", own).stdout
    assert "is stopped" in sn37("down", "--root", own).stdout
    assert "was not running" in sn37("down", "--root", own).stdout
    assert "is not running" in sn37("status", "--root", own).stdout


def test_blocks_pass_by_themselves_until_the_world_is_down(own):
    assert sn37("up", "--root", own, "--block-time", "0.01").returncode == 0
    with closing(World.read(own)) as world:
        assert world.chain.block_time_s == 0.01
    assert "one in 0.01 s" in sn37("status", "--root", own).stdout
    sn37("down", "--root", own)
    with closing(World.read(own)) as world:
        assert world.chain.block_time_s is None
        assert world.chain.head() > 5_200_500


@pytest.mark.parametrize("command", ["status", "advance", "down"])
def test_without_a_world_every_command_says_how_to_make_one(tmp_path, command):
    done = sn37(command, "--root", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "sn37 devnet up --root" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_busy_port_ends_up_with_exit_code_2_and_one_sentence(own):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = sn37("up", "--root", own, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "choose a free port" in done.stderr and done.stderr.strip().count("\n") == 0
