"""Sources over hub datasets: what is drawn, from which rows, and that nothing but the seed decides it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import Fault, FaultyHub
from public_datasets import all_datasets, codeforces_cots, fineweb, macrobench, synthetic_1_sft

from sn37.clock import generator
from sn37.data import PinnedDatasets
from sn37.devnet.datasets import Dataset
from sn37.errors import DataFault
from sn37.hub import Hub
from sn37.sample import ChoiceSample, ReferenceSample, TextSample, digest
from sn37.sources import SOURCES, Context
from sn37.sources.synthetic_1_sft import SYSTEM_PROMPT, answer_end, exchange

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)
QUESTIONS = {
    "repo": "PrimeIntellect/SYNTHETIC-1-SFT-Data",
    "prompt": "{messages[0][content]}",
    "reference": "{messages[1][content]}",
    "filters": [{"column": "task_type", "op": "==", "value": "verifiable_math"}],
    "rows": 200,
    "page_rows": 25,
}
ARGS: dict[str, dict[str, Any]] = {
    "macrobench": {},
    "fineweb": {},
    "synthetic_1_sft": {},
    "codeforces_cots": {},
    "if_eval": {},
    "hub_dataset": QUESTIONS,
}
Make = Callable[..., Context]


def rows_of(dataset: Dataset) -> list[Any]:
    return [row for rows in dataset.parts.values() for row in rows]


@pytest.mark.parametrize("name", ARGS)
def test_the_same_seed_gives_the_same_samples_another_seed_others(name: str, make_context: Make, datasets: Any) -> None:
    first, again, other = (
        digest(SOURCES[name](**ARGS[name])(make_context(seed, datasets=datasets.reader()))) for seed in (7, 7, 8)
    )
    assert first == again != other


@pytest.mark.parametrize(
    "ill",
    [pytest.param(False, id="calm"), pytest.param(True, id="requests fail in between", marks=pytest.mark.slow)],
)
def test_fresh_processes_draw_the_same(
    ill: bool, fresh: Callable[[str], str], make_context: Make, datasets: Any, tmp_path: Path
) -> None:
    """Each interpreter has its own hash seed and its own empty cache; it draws what this one draws."""
    code = f"""
import json, tempfile
from datetime import datetime
from pathlib import Path
from sn37.clock import generator
from sn37.hub import Hub
from sn37.data import PinnedDatasets, ReadLimits
from sn37.sample import digest
from sn37.sources import SOURCES, Context
as_of = datetime.fromisoformat({AS_OF.isoformat()!r})
folder = Path(tempfile.mkdtemp(dir={str(tmp_path)!r}))
reader = PinnedDatasets(Hub({datasets.server.endpoint!r}, cache=folder / "models"), as_of, folder / "pages")
trusted = frozenset(json.loads({json.dumps(json.dumps(sorted(_trusted())))}))
for name, args in json.loads({json.dumps(json.dumps(ARGS))}).items():
    context = Context(generator(7, name), as_of, reader, None, lambda netuid, stake: trusted, None)
    print(name, digest(SOURCES[name](**args)(context)))
"""
    # in bursts, each shorter than the client's patience, so that more than the first process meets them
    for burst in range(3 * ill):
        for fault in FAULTS:
            between = 12 if "resolve" in fault.where else 4
            datasets.server.faults.add(replace(fault, skip=fault.skip + between * burst))
    try:
        printed = dict(line.split() for line in fresh(code).splitlines())
        assert datasets.server.faults.left == 0
    finally:
        datasets.server.faults.clear()
    here = {name: replace(make_context(datasets=datasets.reader()), generator=generator(7, name)) for name in ARGS}
    assert printed == {name: digest(SOURCES[name](**args)(here[name])) for name, args in ARGS.items()}


def _trusted() -> list[str]:
    from bittensor_core import Keypair

    return [str(Keypair.create_from_uri(f"//{name}").ss58_address) for name in ("trusted", "second")]


FAULTS = [
    Fault("GET .*/resolve/", status=429, retry_after_s=0, times=2),
    Fault("GET .*/resolve/", status=500, times=2, skip=1),
    Fault("GET .*/resolve/", cut_after=100, times=2, skip=2),
    Fault("GET /api/", status=503, times=1),
]


@pytest.mark.parametrize("name", ARGS)
def test_requests_that_fail_in_between_change_nothing(name: str, make_context: Make, datasets: Any) -> None:
    undisturbed = digest(SOURCES[name](**ARGS[name])(make_context(datasets=datasets.reader())))
    for fault in FAULTS:
        datasets.server.faults.add(Fault(**vars(fault)))
    try:
        disturbed = digest(SOURCES[name](**ARGS[name])(make_context(datasets=datasets.reader())))
        assert datasets.server.faults.left == 0
    finally:
        datasets.server.faults.clear()
    assert disturbed == undisturbed


LATER: dict[str, Callable[[], Dataset]] = {
    "macrobench": lambda: macrobench(_trusted(), AS_OF + timedelta(days=3), rows=90),
    "fineweb": lambda: fineweb(rows=800),
    "synthetic_1_sft": lambda: synthetic_1_sft(900),
    "codeforces_cots": lambda: codeforces_cots(700),
    "if_eval": lambda: macrobench(_trusted(), AS_OF + timedelta(days=3), rows=90),
    "hub_dataset": lambda: synthetic_1_sft(900),
}
"""What the owner of each source's dataset pushes after the sync block."""


@pytest.mark.parametrize("name", ARGS)
def test_what_is_pushed_later_changes_no_source(name: str, make_context: Make, tmp_path: Path) -> None:
    """On a hub of its own, for what is pushed stays."""
    now = AS_OF - timedelta(days=1)
    trusted = _trusted()
    old = {d.repo: d for d in all_datasets(trusted, AS_OF)}

    def drawn(server: FaultyHub, as_of: datetime, folder: str) -> str:
        hub = Hub(server.endpoint, cache=tmp_path / folder / "models")
        reader = PinnedDatasets(hub, as_of, tmp_path / folder / "pages")
        return digest(SOURCES[name](**ARGS[name])(make_context(datasets=reader, as_of=as_of)))

    with FaultyHub(tmp_path / "hub", clock=lambda: now) as server:
        new = LATER[name]()
        token = server.token_of(new.repo.split("/")[0])
        old[new.repo].publish(server.endpoint, token)
        before = drawn(server, AS_OF, "before")
        now = AS_OF + timedelta(seconds=1)
        new.publish(server.endpoint, token)
        assert drawn(server, AS_OF, "after") == before
        assert drawn(server, AS_OF + timedelta(seconds=2), "later") != before


def test_what_is_pushed_after_the_sync_block_changes_nothing(make_context: Make, datasets: Any) -> None:
    columns = {"text": "{text}", "repo": "someone/changing", "rows": 20, "page_rows": 5}
    datasets.upload(Dataset("someone/changing", {("default", "train"): [{"text": f"old {i}"} for i in range(40)]}))

    def drawn(as_of: datetime) -> str:
        return digest(SOURCES["hub_dataset"](**columns)(make_context(datasets=datasets.reader(as_of))))

    before = drawn(AS_OF)
    datasets.time.now = AS_OF + timedelta(seconds=1)
    try:
        datasets.upload(Dataset("someone/changing", {("default", "train"): [{"text": f"new {i}"} for i in range(90)]}))
    finally:
        datasets.time.now = AS_OF - timedelta(days=1)
    assert drawn(AS_OF) == before
    assert drawn(AS_OF + timedelta(seconds=2)) != before


def test_macrobench_keeps_rows_by_trusted_validators_with_a_letter(
    make_context: Make, datasets: Any, hotkeys: dict[str, str]
) -> None:
    context = make_context(datasets=datasets.reader())
    samples = SOURCES["macrobench"]()(context)
    made = macrobench([hotkeys["trusted"], hotkeys["second"]], AS_OF, [hotkeys["poor"], hotkeys["nobody"]])
    trusted = {hotkeys["trusted"], hotkeys["second"]}
    allowed = {
        (row["challenge"], row["reference"])
        for (config, _), rows in made.parts.items()
        if config in context.notes["configs"]
        for row in rows
        if row["hotkey"] in trusted and row["reference"] in "ABCD"
    }
    assert all(isinstance(s, ChoiceSample) and s.choices == ("A", "B", "C", "D") for s in samples)
    assert {(s.prompt, s.answer) for s in samples if isinstance(s, ChoiceSample)} <= allowed
    assert len(context.notes["configs"]) == 10
    assert len(samples) == 700
    assert set(context.dropped) == {
        "rows of an under-staked validator",
        "rows of no validator",
        "rows without an answer from A to D",
    }


def test_macrobench_without_trusted_validators_is_a_data_fault_with_the_reasons(
    make_context: Make, datasets: Any
) -> None:
    context = make_context(datasets=datasets.reader())
    context.trusted = lambda netuid, min_stake: frozenset()
    with pytest.raises(DataFault, match="gave 0 samples; expected 50 or more; left out: 1000 rows of no validator"):
        SOURCES["macrobench"]()(context)


def test_fineweb_draws_whole_pages_of_one_dump(make_context: Make, datasets: Any) -> None:
    context = make_context(datasets=datasets.reader())
    samples = [s.text for s in SOURCES["fineweb"]()(context) if isinstance(s, TextSample)]
    assert len(samples) == 400
    pages = [samples[i : i + 100] for i in range(0, 400, 100)]
    dumps = {config: [row["text"] for row in rows] for (config, _), rows in fineweb().parts.items()}
    assert datasets.reader().num_rows("HuggingFaceFW/fineweb-edu-score-2", "default", "train") == 1_000
    starts = [(name, at) for page in pages for name, texts in dumps.items() for at in range(0, 401, 100)
              if texts[at : at + 100] == page]  # fmt: skip
    assert len(starts) == len(set(starts)) == 4


def test_synthetic_keeps_two_task_types_with_trace_and_answer_as_they_are(make_context: Make, datasets: Any) -> None:
    context = make_context(datasets=datasets.reader())
    samples = SOURCES["synthetic_1_sft"]()(context)
    made = {exchange(row["messages"])[0]: row for row in rows_of(synthetic_1_sft())}
    assert len(samples) == 120
    for sample in samples:
        assert isinstance(sample, ReferenceSample)
        assert sample.system == SYSTEM_PROMPT
        row = made[sample.prompt]
        assert row["task_type"] in ("verifiable_math", "code_output_prediction")
        assert row["messages"][1]["content"].startswith(sample.reference)
        assert sample.reference.startswith("<think>")
        assert re.search(r'(\\boxed\{\d+\}|\{"output": "\[.*\]"\})$', sample.reference)
    assert context.dropped["rows of another task type"] > 0


@pytest.mark.parametrize(
    ("reply", "task_type", "kept"),
    [
        (r"so \boxed{1}. No, \boxed{2}, surely.", "verifiable_math", r"so \boxed{1}. No, \boxed{2}"),
        (r"\boxed{\frac{1}{2}}!", "verifiable_math", r"\boxed{\frac{1}{2}}"),
        (r"\boxed{never closed", "verifiable_math", None),
        ("forty-two", "verifiable_math", None),
        ('{"output": "a"} or {"output": "b"}.', "code_output_prediction", '{"output": "a"} or {"output": "b"}'),
        (r'{ "output" : "a \"quoted\" }" } end', "code_output_prediction", r'{ "output" : "a \"quoted\" }" }'),
        (r"\boxed{1}", "code_output_prediction", None),
        ("", "verifiable_math", None),
    ],
)
def test_the_last_answer_ends_the_reference(reply: str, task_type: str, kept: str | None) -> None:
    end = answer_end(reply, task_type)
    assert (reply[:end] if end is not None else None) == kept


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hello",
        [{"role": "user", "content": "a"}],
        [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    ],
)
def test_anything_but_a_question_and_a_reply_is_no_exchange(messages: object) -> None:
    assert exchange(messages) == ("", "")


def test_codeforces_leaves_out_what_is_too_long_or_no_exchange(make_context: Make, datasets: Any) -> None:
    context = make_context(datasets=datasets.reader())
    samples = SOURCES["codeforces_cots"]()(context)
    allowed = {exchange(row["messages"]) for row in rows_of(codeforces_cots())}
    assert {(s.prompt, s.reference) for s in samples if isinstance(s, ReferenceSample)} <= allowed
    assert all(len(s.reference) < 4 * 16_384 for s in samples if isinstance(s, ReferenceSample))
    dropped = context.dropped
    assert set(dropped) == {"rows without exactly two messages", "rows that are too long"}
    assert len(samples) + sum(dropped.values()) == 120


def test_any_dataset_makes_samples_by_templates_and_filters(make_context: Make, datasets: Any) -> None:
    context = make_context(datasets=datasets.reader())
    samples = SOURCES["hub_dataset"](**QUESTIONS)(context)
    math = [row for row in rows_of(synthetic_1_sft()) if row["task_type"] == "verifiable_math"]
    made = {(row["messages"][0]["content"], row["messages"][1]["content"]) for row in math}
    assert {(s.prompt, s.reference) for s in samples if isinstance(s, ReferenceSample)} <= made
    assert len(samples) + context.dropped["rows that the filters leave out"] == 200
    fewer = SOURCES["hub_dataset"](**{**QUESTIONS, "max_samples": 10})(make_context(datasets=datasets.reader()))
    assert fewer == samples[:10]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt": "{query}"}, "has no column 'query'; it has .*messages"),
        ({"filters": [{"column": "level", "op": "==", "value": 1}]}, "has no column 'level'"),
        ({"config": "other"}, "has no config 'other'; it has default"),
        ({"split": "test"}, r"\(config default\) has no split 'test'; it has train"),
        ({"rows": 601}, r"PrimeIntellect/SYNTHETIC-1-SFT-Data \(default, train\) has 600 rows; expected 601 or more"),
        (
            {"min_samples": 150},
            r"gave \d+ samples; expected 150 or more; left out: \d+ rows that the filters leave out",
        ),
        ({"repo": "nobody/nothing"}, "the dataset(?: repo)? nobody/nothing is not there, or not public"),
        ({"repo": "secret/secrets"}, "secret/secrets is not there, or not public"),
    ],
)
def test_a_dataset_that_cannot_serve_is_a_data_fault_with_the_place(
    changes: dict[str, Any], told: str, make_context: Make, datasets: Any
) -> None:
    if changes.get("repo") == "secret/secrets":
        datasets.upload(Dataset("secret/secrets", {("default", "train"): [{"text": "a"}]}), private=True)
    with pytest.raises(DataFault, match=told):
        SOURCES["hub_dataset"](**{**QUESTIONS, **changes})(make_context(datasets=datasets.reader()))


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("fineweb", {"pages": 1, "page_rows": 10}),
        ("synthetic_1_sft", {"rows": 20, "page_rows": 20, "min_samples": 1}),
        ("codeforces_cots", {"rows": 10, "page_rows": 10, "min_samples": 1}),
    ],
)
def test_the_real_datasets_still_have_their_schemas(
    name: str, args: dict[str, int], make_context: Make, tmp_path: Path
) -> None:
    from sn37.data import PinnedDatasets
    from sn37.hub import Hub

    now = datetime.now(UTC)
    hub = Hub("https://huggingface.co", cache=tmp_path / "models")
    reader = PinnedDatasets(hub, now, tmp_path / "pages")
    assert SOURCES[name](**args)(make_context(datasets=reader, as_of=now))
