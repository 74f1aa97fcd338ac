"""The benchmark measures what it says: the same rows for everybody, the needed operations, the true errors."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bench import __main__ as command
from bench import models
from bench.contestants import CONTESTANTS, Bench
from bench.epochs import Epochs
from bench.measure import CONTESTANT_NAMES, Measurement, Plan
from bench.precision import largest_error
from bench.process import Contestant, ContestantFailed
from bench.report import cells, figure, speedup, write
from bench.workloads import WORKS, needed_operations, rows_of
from sn37.errors import ConfigError

VOCABULARY = 600
SIZE = models.Size(hidden=128, intermediate=48, layers=2, heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return models.word_tokenizer(VOCABULARY)


def bench(name: str, model: Any, tokenizer: Any, count: int = 3) -> Bench:
    work = WORKS[name]
    samples = work.samples(VOCABULARY, count)
    return Bench(work, samples, rows_of(work, samples, tokenizer), model, tokenizer)


@pytest.fixture(scope="module")
def model() -> Any:
    return models.random_model(SIZE, VOCABULARY, 3000).float().eval()


def test_any_tokens_are_a_text_that_comes_back(tokenizer: Any) -> None:
    tokens = [5, 1, 599, 4, 5]
    assert tokenizer.encode(tokenizer.decode(tokens), add_special_tokens=False) == tokens


@pytest.mark.parametrize(("name", "shortest", "longest"), [("short", 25, 150), ("long", 700, 3000)])
def test_samples_have_the_lengths_they_promise(name: str, shortest: int, longest: int, tokenizer: Any) -> None:
    work = WORKS[name]
    lengths = [len(row.tokens) for row in rows_of(work, work.samples(VOCABULARY, work.count), tokenizer)]
    assert len(lengths) == work.count
    assert (
        shortest <= min(lengths) and max(lengths) <= longest and max(lengths) - min(lengths) > (longest - shortest) / 2
    )
    assert work.samples(VOCABULARY, 5) == work.samples(VOCABULARY, 5)


def test_all_contestants_say_the_same_of_losses(model: Any, tokenizer: Any) -> None:
    asked = bench("short", model, tokenizer)
    found = {name: solve(asked) for name, solve in CONTESTANTS.items() if not name.startswith("lm-eval")}
    assert found["engine"].results == pytest.approx(found["plain loop"].results, rel=1e-5)
    assert all(answers.seconds > 0 for answers in found.values())


@pytest.mark.parametrize("name", ["lm-eval 16", "lm-eval auto"])
def test_lm_eval_says_the_same(name: str, model: Any, tokenizer: Any) -> None:
    pytest.importorskip("lm_eval", reason="needs the extra 'bench'")
    for work in ("short", "instructions"):
        asked = bench(work, model, tokenizer, 2)
        plain, peer = CONTESTANTS["plain loop"](asked), CONTESTANTS[name](asked)
        assert peer.results == (plain.results if asked.work.generates else pytest.approx(plain.results, rel=1e-5))


def test_the_trained_model_answers_and_the_engine_stops_there(tokenizer: Any) -> None:
    trained = models.trained_model(SIZE, VOCABULARY, 512, steps=2).float().eval()
    asked = bench("choices", trained, tokenizer, 12)
    found = {name: CONTESTANTS[name](asked) for name in ("engine", "plain loop")}
    answers = [sample.answer for sample in asked.samples]
    for answered in found.values():
        assert [reply.split()[0] for reply in answered.results] == answers
    assert found["plain loop"].new_tokens == [20] * 12
    assert max(found["engine"].new_tokens or [99]) <= 2


def test_replies_have_the_full_length(model: Any, tokenizer: Any) -> None:
    asked = bench("instructions", model, tokenizer, 1)
    found = {name: CONTESTANTS[name](asked) for name in ("engine", "plain loop")}
    assert found["engine"].results == found["plain loop"].results
    assert found["engine"].new_tokens == [200, 200]


def test_needed_operations_are_those_of_the_model_s_own_weights() -> None:
    model: Any = models.random_model(SIZE, VOCABULARY, 64)
    head = SIZE.hidden * VOCABULARY
    body = sum(p.numel() for p in model.parameters() if p.dim() == 2) - 2 * head
    one = needed_operations(SIZE, VOCABULARY, [(1, 0)])
    assert one == 2 * body + 2 * SIZE.layers * SIZE.hidden
    assert needed_operations(SIZE, VOCABULARY, [(1, 3)]) - one == 2 * 3 * head
    # causal attention: twice as long a row, four times the pairs
    pairs = [needed_operations(SIZE, VOCABULARY, [(n, 0)]) - 2 * body * n for n in (100, 200)]
    assert pairs[1] == 4 * pairs[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_error_against_float64_is_that_of_the_last_step(dtype: str, tokenizer: Any) -> None:
    import torch

    model = models.random_model(SIZE, VOCABULARY, 3000).to(getattr(torch, dtype)).eval()
    asked = bench("short", model, tokenizer)
    errors = {}
    for name in ("engine", "plain loop"):
        errors[name] = largest_error(model, asked.rows, lambda solve=CONTESTANTS[name]: solve(asked).results)
    assert errors["engine"] is not None and errors["engine"] < 1e-5
    assert errors["plain loop"] is not None and (errors["plain loop"] > 1e-4) == (dtype == "bfloat16")
    off = largest_error(model, asked.rows, lambda: [loss + 0.5 for loss in CONTESTANTS["engine"](asked).results])
    assert off == pytest.approx(0.5, abs=1e-4)


def test_a_contestant_that_fails_says_why(tmp_path: Path) -> None:
    task = {"contestant": "engine", "work": "short", "dtype": "float32", "device": "cpu", "threads": 1, "model": "none"}
    with Contestant(task) as contestant, pytest.raises(ContestantFailed, match="tokenizer"):
        contestant.ask("run")


def measured(contestant: str, seconds: list[float], **fields: Any) -> Measurement:
    return Measurement("short", contestant, "float32", 8, seconds, tokens=100, **fields)


FOUND = [
    measured("engine", [1.0, 3.0, 2.0], peak_bytes=5_000_000, operations=50.0, machine=100.0, error_nats=1e-7),
    measured("plain loop", [8.0], difference=0.0),
    measured("lm-eval 16", [], failed="no room"),
]


def test_the_median_counts_and_failures_are_shown() -> None:
    assert FOUND[0].median_s == 2.0 and FOUND[0].tokens_per_s == 50.0 and FOUND[0].share_of_machine == 0.25
    assert speedup(FOUND, FOUND[1]) == 4.0 and speedup(FOUND, FOUND[2]) is None
    assert "2.00 (1.00 to 3.00)" in cells(FOUND, FOUND[0]) and "5 MB" in cells(FOUND, FOUND[0])
    assert "4.0x" in cells(FOUND, FOUND[1]) and "failed: no room" in cells(FOUND, FOUND[2])


def test_eight_models_take_eight_times_one_and_a_constant() -> None:
    epochs = Epochs("float32", one_s=[5.0], eight_s=[26.0])
    assert epochs.ratio == 5.2 and epochs.constant_s == 2.0


def test_everything_is_written(tmp_path: Path) -> None:
    files = write(tmp_path / "out", Plan(), FOUND, [Epochs("float32", [5.0], [26.0])])
    assert {file.name for file in files} >= {"table.csv", "table.md", "environment.json", "figure.png"}
    with (tmp_path / "out" / "table.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert float(rows[0]["median_s"]) == 2.0 and rows[2]["failed"] == "no room"
    assert math.isnan(float(rows[2]["median_s"]))
    assert "5.2 times" in (tmp_path / "out" / "table.md").read_text()
    assert json.loads((tmp_path / "out" / "environment.json").read_text())["versions"]["torch"]


def test_the_figure_tells_contestants_apart_in_grey(tmp_path: Path) -> None:
    import matplotlib.image

    pixels = matplotlib.image.imread(figure(FOUND, tmp_path / "figure.png"))
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    assert len({round(float(value), 2) for value in pixels[..., 0].ravel()[::7]}) > 2


@pytest.mark.parametrize(
    ("field", "value", "choice"),
    [
        ("works", ("shorter",), "instructions"),
        ("dtypes", ("int8",), "bfloat16"),
        ("dtypes", (), "bfloat16"),
        ("size", "7b", "100m"),
        ("device", "tpu", "cuda"),
        ("contestants", ("vllm",), "lm-eval auto"),
        ("engine", "slow", "reference"),
        ("rounds", 0, "1"),
        ("vocabulary", 10, "128"),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_names_the_choices(field: str, value: Any, choice: str) -> None:
    with pytest.raises(ConfigError, match=choice):
        Plan(**{field: value})


def test_the_names_of_the_contestants_are_theirs() -> None:
    assert tuple(CONTESTANTS) == CONTESTANT_NAMES


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command.bench)
    asked = ["--quick", "--rounds", "1", "--dtype", "float32", "--vocabulary", "600", "--threads", "1"]
    chosen = ["--work", "choices", "--contestant", "engine", "--contestant", "plain loop", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*asked, *chosen])
    assert result.exit_code == 0, result.output
    with (tmp_path / "table.csv").open() as lines:
        engine, plain = csv.DictReader(lines)
    assert float(plain["times_of_engine"]) > 1
    assert float(engine["wrong_answers"]) == float(plain["wrong_answers"]) == 0
    assert int(engine["peak_bytes_above_model"]) > 0 and 0 < float(engine["share_of_machine"]) < 1
    assert engine["tokens"] == plain["tokens"] and float(engine["difference_from_plain_loop"]) == 0
