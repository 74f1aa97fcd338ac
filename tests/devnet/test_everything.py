"""A world of all competitions: the real loading code over every source, and the split of the weights."""

import json
from dataclasses import replace

import pytest

from sn37 import validator
from sn37.devnet import founding_everything as founding
from sn37.devnet.everything import FUNDING, Everything
from sn37.devnet.scaled import SHARES
from sn37.devnet.world import World
from sn37.errors import ConfigError
from sn37.evaluation.run import preloaded
from sn37.methods import METHODS
from sn37.sources import SOURCES
from sn37.workers.executors import open_executor

IDS = (1, 2, 3, 4, 50, 51)
NOT_COUNTED = {"runs of an under-staked validator", "runs with a forged signature", "runs without a signature"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world, with models that are trained for a step or two; it stands at a sync block all miners are ready for."""
    hasty = {name: replace(run, steps=tuple(range(1, 1 + len(run.steps)))) for name, run in founding.TRAININGS.items()}
    of = {(name, n): i for name, run in founding.TRAININGS.items() for i, n in enumerate(run.steps, 1)}
    miners = tuple((name, competition, run, of[run, steps]) for name, competition, run, steps in founding.MINERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(founding, "TRAININGS", hasty)
        patch.setattr(founding, "MINERS", miners)
        with Everything.create(tmp_path_factory.mktemp("everything") / "world") as world:
            for name, value in world.environment.items():
                patch.setenv(name, value)
            world.next_epoch()
            yield world


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    return tmp_path_factory.mktemp("validators")


def planned(world, root, competition, who=0):
    """A validator's plan of the competition's epoch, and its clients."""
    parameters = {**world.parameters(world.validators[who]), "root": str(root), "competition": competition}
    settings = validator.Settings.of(**parameters, wandb="off")
    subnet, hub = validator.connect(settings)
    return validator.plan(settings, subnet, hub), subnet, hub


def drawn(world, root, competition, who=0):
    plan, subnet, hub = planned(world, root, competition, who)
    with subnet:
        return validator.fetch(plan, subnet, hub)


@pytest.mark.parametrize("competition", IDS)
def test_two_validators_draw_the_same_samples(world, tmp_path, competition):
    first, second = (drawn(world, tmp_path / str(who), competition, who) for who in (0, 1))
    assert first.samples == second.samples
    assert [data["digest"] for data in first.data.values()] == [data["digest"] for data in second.data.values()]
    assert all(first.samples.values())
    assert (first.tokenizer is None) == (first.plan.competition.constraints.tokenizer is None)


def test_every_source_and_every_method_is_in_use(world):
    tasks = [task for share in world.shares() for task in share.competition.tasks]
    assert {task.source for task in tasks} == {name for name in SOURCES if _builtin(SOURCES[name])}
    assert {task.method for task in tasks} == {name for name in METHODS if _builtin(METHODS[name])}


def _builtin(entry):
    return entry.__module__.startswith("sn37.")


@pytest.mark.parametrize(("competition", "task"), [(1, "CHAT"), (51, "ASKED")])
def test_runs_that_must_not_count_are_dropped_and_counted(world, tmp_path, competition, task):
    dropped = drawn(world, tmp_path, competition).data[task]["notes"]["dropped"]
    assert {reason for reason in dropped if reason.startswith("runs")} == NOT_COUNTED


def test_rows_of_an_under_staked_author_are_dropped_and_counted(world, tmp_path):
    fetched = drawn(world, tmp_path, 2)
    assert fetched.data["SYNTHETIC_MMLU"]["notes"]["dropped"]["rows of an under-staked validator"] > 0


def test_the_funding_is_halved_between_the_schedule_and_two_of_its_own(world):
    shares = {share.competition.name: share.share for share in world.shares()}
    public, own, lent = FUNDING
    expected = {name: public * share for name, share in SHARES.items()}
    assert shares == pytest.approx({**expected, "GENERAL_KNOWLEDGE": own, "STEP_BY_STEP": lent})
    assert [world.funded_as(share.competition) for share in world.shares()] == [
        *["public"] * 4,
        str(world.root / "competition.toml"),
        world.lent,
    ]


def test_every_competition_has_two_miners_in_time(world, tmp_path):
    for competition in IDS:
        plan, subnet, _ = planned(world, tmp_path, competition)
        subnet.close()
        assert len(plan.chosen) == 2


@pytest.fixture(scope="module")
def executor():
    """One for all competitions: its server imports torch once."""
    opened = open_executor("local", ("cpu",), preloaded(("LlamaForCausalLM",)))
    yield opened
    opened.close()


def test_the_weights_on_the_chain_follow_the_funding(world, homes, executor):
    """All six competitions at one sync block, with models that hardly learned anything."""
    decisions = {}
    for competition in IDS:
        plan, subnet, hub = planned(world, homes, competition)
        with subnet:
            fetched = validator.fetch(plan, subnet, hub)
            decisions[competition] = validator.decide(validator.evaluate(fetched, executor))
            if competition == IDS[-1]:
                validator.publish(decisions[competition], subnet)
                weights = subnet.validator_weights()[subnet.hotkey]
    shares = {share.competition.id: share.share for share in world.shares()}
    won = {decision.winner: shares[id] for id, decision in decisions.items() if decision.winner}
    # a model this young may fail the sanity check of competitions 2, 3 and 50; the others have a winner each
    assert {1, 4, 51} <= {id for id, decision in decisions.items() if decision.winner}
    total = sum(won.values())
    assert weights == pytest.approx({hotkey: share / total for hotkey, share in won.items()}, abs=1e-4)


def test_a_world_of_this_kind_is_opened_as_what_it_is(world):
    with_more = json.loads((world.root / "world.json").read_text())
    assert (with_more["competitions"], with_more["wandb"], with_more["lent"]) == ("all", world.runs_url, world.lent)
    seen = World.look(world.root)
    assert isinstance(seen, Everything)
    assert (seen.runs_url, seen.funding, seen.miners) == (world.runs_url, world.funding, world.miners)
    seen.close()


def test_an_unknown_kind_of_world_is_refused():
    from sn37.devnet.world import world_of

    with pytest.raises(ConfigError, match="competitions is 'some'; expected one of one, all"):
        world_of("some")
