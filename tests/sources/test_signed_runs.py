"""Data from wandb runs: only what trusted validators signed, only the hours before the sync block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from wandb_server import API_KEY, WandbServer

from sn37.data import WandbRuns
from sn37.errors import DataFault, EvaluatorFault
from sn37.sample import ChoiceSample, ReferenceSample, digest
from sn37.sources import SOURCES, Context
from sn37.sources.base import Run
from sn37.sources.cortex import unwanted

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)
PROJECTS = {"prompting": "macrocosmos/prompting-validators", "cortex": "cortex-t/multi-modality"}

Make = Callable[..., Context]


@pytest.mark.parametrize("name", PROJECTS)
def test_only_runs_signed_by_trusted_validators_count(name: str, make_context: Make, read_runs: WandbRuns) -> None:
    context = make_context(runs=read_runs)
    samples = SOURCES[name]()(context)
    dropped = {reason: count for reason, count in context.dropped.items() if reason.startswith("runs")}
    assert dropped == {
        "runs of an under-staked validator": 1,
        "runs of no validator": 1,
        "runs with a forged signature": 2,
        "runs without a signature": 1,
    }
    honest = {run.id for run in read_runs(PROJECTS[name], AS_OF - timedelta(hours=4), AS_OF)}
    only = make_context(runs=lambda *asked: [r for r in read_runs(*asked) if r.id in honest and "-" in r.id])
    assert digest(samples) == digest(SOURCES[name]()(only))


@pytest.mark.parametrize("name", PROJECTS)
def test_the_same_seed_gives_the_same_samples_another_seed_others(
    name: str, make_context: Make, read_runs: WandbRuns
) -> None:
    first, again, other = (
        digest(SOURCES[name](max_samples=60)(make_context(seed, runs=read_runs))) for seed in (7, 7, 8)
    )
    assert first == again != other


def test_fresh_processes_draw_the_same(fresh: Callable[[str], str], wandb_server: WandbServer) -> None:
    code = f"""
from datetime import datetime
from bittensor_core import Keypair
from sn37.chain import verify
from sn37.clock import generator
from sn37.sample import digest
from sn37.sources import SOURCES, Context
from sn37.data import WandbRuns
trusted = frozenset(str(Keypair.create_from_uri("//" + name).ss58_address) for name in ("trusted", "second"))
for name in ("prompting", "cortex"):
    reader = WandbRuns({wandb_server.base_url!r}, {API_KEY!r})
    as_of = datetime.fromisoformat({AS_OF.isoformat()!r})
    context = Context(generator(7, name), as_of, None, reader, lambda netuid, stake: trusted, verify)
    print(name, digest(SOURCES[name](max_samples=60)(context)))
"""
    assert [line.split()[0] for line in fresh(code).splitlines()] == ["prompting", "cortex"]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_later_reader_of_longer_runs_draws_the_same(
    name: str, make_context: Make, read_runs: WandbRuns, wandb_server: WandbServer
) -> None:
    now = SOURCES[name]()(make_context(runs=read_runs))
    grown = [
        replace(
            run,
            history=[*run.history, *({**row, "_step": run.last_step + 1 + i, "_timestamp": row["_timestamp"] + 90_000}
                                     for i, row in enumerate(run.history))],
            heartbeat_at=run.heartbeat_at + timedelta(days=1),
        )
        for run in wandb_server.runs
    ]  # fmt: skip
    with WandbServer(grown) as later:
        reader = WandbRuns(later.base_url, API_KEY, timeout_s=20, pause_s=0.05)
        assert digest(SOURCES[name]()(make_context(runs=reader))) == digest(now)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(429, id="429"),
        pytest.param(500, id="500", marks=pytest.mark.slow),
        pytest.param(503, id="503", marks=pytest.mark.slow),
        pytest.param(0, id="cut", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", PROJECTS)
def test_requests_that_fail_in_between_change_nothing(
    name: str, status: int, make_context: Make, read_runs: WandbRuns, wandb_server: WandbServer
) -> None:
    undisturbed = digest(SOURCES[name]()(make_context(runs=read_runs)))
    wandb_server.failures, wandb_server.failure_status = 2, status
    assert digest(SOURCES[name]()(make_context(runs=read_runs))) == undisturbed
    assert wandb_server.failures == 0


def test_prompting_keeps_the_questions_of_the_last_hours(make_context: Make, read_runs: WandbRuns) -> None:
    samples = SOURCES["prompting"](max_samples=700)(make_context(runs=read_runs))
    asked = {
        (row["challenge"], row["reference"])
        for run in read_runs(PROJECTS["prompting"], AS_OF - timedelta(hours=4), AS_OF)
        if run.id in ("prompting-first", "prompting-second")
        for row in run.history
        if row["task"] == "multi_choice" and 0 <= AS_OF.timestamp() - row["_timestamp"] <= 4 * 3600
    }
    assert {(s.prompt, s.answer) for s in samples if isinstance(s, ChoiceSample)} == asked
    assert len(samples) == len(asked) > 100


def test_cortex_keeps_well_scored_replies_that_do_not_refuse(make_context: Make, read_runs: WandbRuns) -> None:
    context = make_context(runs=read_runs)
    samples = SOURCES["cortex"](max_samples=1_000)(context)
    assert all(isinstance(sample, ReferenceSample) and not unwanted(sample.reference) for sample in samples)
    assert context.dropped["replies with a low score"] > 0
    assert context.dropped["replies that refuse or speak of themselves"] > 0
    assert len(SOURCES["cortex"](max_samples=1_000, min_score=0.92)(make_context(runs=read_runs))) < len(samples)


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't assist with that request.",
        "I\u2019m sorry, I cannot provide this.",
        "As an AI language model, I do not have opinions.",
        "as a helpful AI, this is easy",
        "I am a large language model trained by someone.",
        "My knowledge cutoff is in 2021.",
        "I apologize, but no.",
        "You could ask ChatGPT.",
        "We are unable to help with that.",
    ],
)
def test_a_refusal_or_a_word_about_itself_is_unwanted(reply: str) -> None:
    assert unwanted(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "The capital of France is Paris.",
        "She could not provide an answer in time.",
        "A language needs speakers; a model needs data.",
        "Sorry is a board game.",
        "The AI said so.",
        "",
    ],
)
def test_a_plain_reply_is_wanted(reply: str) -> None:
    assert not unwanted(reply)


@pytest.mark.parametrize(
    "row",
    [
        {"prompts.1": "a", "responses.1": "b", "scores.1": float("nan")},
        {"prompts.1": "a", "responses.1": "b", "scores.1": "1.0"},
        {"prompts.1": "a", "responses.1": "b", "scores.1": None},
        {"prompts.1": ["a"], "responses.1": "b", "scores.1": 1.0},
        {"prompts.1": " ", "responses.1": "b", "scores.1": 1.0},
        {"prompts.1": "a", "responses.1": "b", "scores.1": 1.0, "modality": "images"},
        {"prompts.1": "a", "responses.1": "b", "scores.1": 1.0, "_timestamp": "now"},
        {"prompts.1": "a", "responses.1": "b", "scores.1": 1.0, "_timestamp": AS_OF.timestamp() + 1},
        {"prompts.1": "a", "responses.1": "b", "scores.1": 1.0, "_timestamp": AS_OF.timestamp() - 4 * 3600 - 1},
        {"prompts.1": "a", "responses.1": "b\ud800", "scores.1": 1.0},
        {"prompts.x": "a", "responses.x": "b", "scores.x": 1.0},
    ],
)
def test_a_hostile_row_is_left_out(row: dict[str, Any], make_context: Make, read_runs: WandbRuns) -> None:
    """A row of a trusted run is no more trusted than its values are right."""
    base = {"modality": "text", "_timestamp": AS_OF.timestamp() - 60}
    config = next(run.config for run in read_runs(PROJECTS["cortex"], AS_OF, AS_OF) if run.id == "cortex-first")
    good = {**base, "prompts.1": "a", "responses.1": "c", "scores.1": 1}

    def runs(project: str, since: datetime, until: datetime) -> list[Run]:
        return [Run("cortex-first", config, [{**base, **row}, good])]

    assert SOURCES["cortex"](min_samples=1)(make_context(runs=runs)) == [ReferenceSample("a", "c")]


def test_too_few_samples_are_a_data_fault_with_the_reasons(make_context: Make, read_runs: WandbRuns) -> None:
    with pytest.raises(DataFault, match=r"gave \d+ samples; expected 5000 or more; left out: .* runs of no validator"):
        SOURCES["prompting"](min_samples=5_000)(make_context(runs=read_runs))


def test_a_missing_project_is_a_data_fault(read_runs: WandbRuns) -> None:
    with pytest.raises(DataFault, match="wandb has no project nobody/nothing"):
        read_runs("nobody/nothing", AS_OF, AS_OF)


def test_a_server_that_is_gone_is_the_evaluators_fault() -> None:
    with WandbServer() as server:
        base_url = server.base_url
    with pytest.raises(EvaluatorFault, match="wandb"):
        WandbRuns(base_url, API_KEY, timeout_s=2, attempts=2, pause_s=0.01)("a/b", AS_OF, AS_OF)


def test_runs_come_oldest_first_and_long_ones_from_their_end(make_context: Make) -> None:
    from wandb_server import ServedRun

    rows = [{"_step": i, "_timestamp": AS_OF.timestamp() - 5_000 + i} for i in range(5_000)]
    runs = [
        ServedRun("a/b", name, {"n": n}, rows if n == 2 else [], AS_OF - timedelta(hours=n), AS_OF)
        for n, name in enumerate(("newest", "middle", "oldest"))
    ]
    with WandbServer(runs) as server:
        found = WandbRuns(server.base_url, API_KEY, timeout_s=20)("a/b", AS_OF - timedelta(seconds=500), AS_OF)
        assert [(run.id, run.config) for run in found] == [
            ("oldest", {"n": 2}),
            ("middle", {"n": 1}),
            ("newest", {"n": 0}),
        ]
        history = [row["_step"] for row in found[0].history]
    assert history == list(range(history[0], 5_000))
    assert 3_000 <= history[0] <= 4_500
