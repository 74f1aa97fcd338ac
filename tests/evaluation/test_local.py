"""Tasks in a cell: the numbers are a validator's, mistakes are one sentence, nothing is left behind."""

import doctest
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small import save_model

import sn37
from sn37.checks.tokenizer import byte_tokenizer
from sn37.clock import generator
from sn37.competition import EvalTask
from sn37.competitions import public, public_competitions
from sn37.errors import ConfigError, DataFault
from sn37.evaluation import local
from sn37.methods import METHODS
from sn37.sample import ChoiceSample, ReferenceSample
from sn37.sources import SOURCES

CITIES = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo", "Japan": "Tokyo", "Peru": "Lima"}


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    known = [(registry, dict(registry._factories)) for registry in (SOURCES, METHODS)]
    yield
    for registry, factories in known:
        registry._factories.clear()
        registry._factories.update(factories)


@pytest.fixture
def capitals():
    @sn37.source("capitals")
    def capitals(rng, count: int = 6):
        """Which city is a country's capital."""
        for country in rng.sample(sorted(CITIES), count):
            others = rng.sample(sorted({*CITIES.values()} - {CITIES[country]}), 2)
            yield ChoiceSample(
                f"The capital of {country} is", (CITIES[country], *others), CITIES[country], group=country
            )

    return sn37.task("CAPITALS", source="capitals", method="choice_likelihood", count=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, each with its own tokenizer."""
    root = tmp_path_factory.mktemp("models")
    for name, noise in (("even", 0.0), ("noisy", 1.0)):
        save_model(root / name, noise)
        byte_tokenizer().save_pretrained(root / name)
    return root


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(local, optionflags=doctest.ELLIPSIS).failed == 0


def test_a_task_takes_arguments_for_its_source_and_its_method(capitals):
    assert capitals == EvalTask("CAPITALS", "capitals", "choice_likelihood", 1.0, {"count": 5})
    both = sn37.task("WORDS", source="word_sorting", method="reference_loss", count=3, unit="bits_per_byte")
    assert (both.source_args, both.method_args) == ({"count": 3}, {"unit": "bits_per_byte"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "word_sortign"}, "unknown source 'word_sortign'; expected one of .*; did you mean 'word_sorting'"),
        ({"method": "blue"}, "unknown method 'blue'; expected one of choice_likelihood"),
        ({"cuont": 3}, "neither takes 'cuont'; the arguments are count, .*; did you mean 'count'"),
        ({"count": "many"}, "task WORDS: source word_sorting: count is 'many'; expected a valid integer"),
        ({"count": 0}, "count is 0; expected greater than or equal to 1"),
        ({"unit": "miles"}, "method reference_loss: unit is 'miles'; expected 'nats_per_token' or 'bits_per_byte'"),
        ({"weight": 2.0}, "weight of WORDS is 2.0; expected a number in"),
        ({"name": "words"}, "task name is 'words'; expected upper-case letters"),
    ],
)
def test_a_mistake_in_a_task_is_one_sentence(change, told):
    given = {"name": "WORDS", "source": "word_sorting", "method": "reference_loss", **change}
    with pytest.raises(ConfigError, match=told):
        sn37.task(given.pop("name"), **given)


def test_samples_are_those_of_a_validator_for_the_same_seed(capitals):
    task = next(task for task in public("INSTRUCT_8B").tasks if task.name == "WORD_SORTING")
    drawn = sn37.draw(task, seed=11)
    words = SOURCES["word_sorting"](**task.source_args)(local._context(task, 11, local.Data()))
    assert list(drawn) == words
    assert local._context(task, 11, local.Data()).generator.random() == generator(11, "WORD_SORTING").random()
    assert sn37.draw(capitals, 1) == sn37.draw(capitals, 1) != sn37.draw(capitals, 2)


def test_a_source_of_this_package_draws_for_people_what_it_draws_for_validators():
    """Short brackets come twice in one draw of six: no reason to refuse what every validator evaluates."""
    task = sn37.task("DYCK", source="dyck", method="reference_loss")
    drawn = [sn37.draw(task, seed) for seed in range(20)]
    assert all(len(samples) == 100 for samples in drawn)
    assert any(len(set(samples)) < 100 for samples in drawn)


def test_samples_show_themselves(capitals):
    drawn = sn37.draw(capitals, seed=7)
    assert repr(drawn).startswith("5 samples (ChoiceSample), digest ")
    assert "The capital of" in drawn._repr_html_()
    assert repr(drawn[:2]).startswith("2 samples")


def test_models_are_scored_and_shown(capitals, folder):
    words = sn37.task("WORDS", source="word_sorting", method="reference_loss", count=4, weight=0.5)
    result = sn37.evaluate([folder / "even", folder / "noisy"], [capitals, words], seed=7, dtype="float32")
    losses = result.scores.set_index(["model", "task"])["raw"]
    assert losses["even", "WORDS"] < losses["noisy", "WORDS"]
    row = result.scores.iloc[1]
    assert row["low"] <= row["raw"] <= row["high"] and row["samples"] == 4
    samples = result.samples
    assert set(samples["group"]) > set(sn37.draw(capitals, 7)[0].group.split(","))
    means = samples.groupby(["model", "task"])["value"].mean()
    assert (means - losses.reindex(means.index)).abs().max() < 1e-12
    compared = result.compare()
    assert list(compared["task"]) == ["CAPITALS", "WORDS", "all"]
    assert compared["difference"].iloc[1] < 0 and bool(compared["real"].iloc[1])
    page, text = result._repr_html_(), repr(result)
    assert page.count("<table") == 2 and "<svg" in page and "even" in text and "lower is better" in text


def test_the_numbers_are_the_same_in_a_worker_and_in_this_process(capitals, folder):
    words = sn37.task("WORDS", source="word_sorting", method="reference_loss", count=3)
    here, apart = (sn37.evaluate([folder / "noisy"], [words], seed=3, isolated=isolated) for isolated in (False, True))
    assert here.measured["noisy"].tasks["WORDS"].values == apart.measured["noisy"].tasks["WORDS"].values


def test_the_settings_of_torch_are_as_they_were(capitals, folder):
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.random.get_rng_state().sum()
    sn37.evaluate([folder / "even"], [capitals], seed=1)
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.random.get_rng_state().sum(),
    )


def test_a_model_that_breaks_a_rule_stops_nobody(capitals, folder, tmp_path):
    broken = tmp_path / "broken"
    save_model(broken, 0.5)
    byte_tokenizer().save_pretrained(broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.py"}}))
    result = sn37.evaluate({"good": folder / "even", "bad": broken}, [capitals], seed=1)
    assert list(result.faults) == ["bad"] and "good" in set(result.scores["model"])
    assert "why it has no score" in result._repr_html_()
    with pytest.raises(ConfigError, match="1 of 2 models have a score"):
        result.compare()


@pytest.mark.parametrize(
    ("models", "seed", "told"),
    [
        (["nowhere"], 1, "nowhere is no model; expected a folder with config.json, or user/repo@<full commit>"),
        ([], 1, "the models are .*; expected one or more"),
        (["even", "even"], 1, "each with a name of its own"),
        (["even"], "7", "seed is '7'; expected a whole number"),
        (["even"], True, "seed is True; expected a whole number"),
    ],
)
def test_bad_input_is_one_sentence(models, seed, told, capitals, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=told):
        sn37.evaluate(models, [capitals], seed=seed)


def test_a_source_that_gives_nothing_or_something_else_or_a_sample_twice_is_told(folder):
    bodies = {"nothing": [], "something": ["a text"], "twice": [ReferenceSample("a", "b")] * 2}
    for name, given in bodies.items():
        sn37.source(name)(lambda rng, given=given: given)
    told = {
        "nothing": (DataFault, "gave 0 samples"),
        "something": (ConfigError, "gave .a text.; expected samples"),
        "twice": (ConfigError, "sample 1 twice"),
    }
    for name, (kind, text) in told.items():
        with pytest.raises(kind, match=text):
            sn37.draw(sn37.task("T", source=name, method="reference_loss"), seed=1)


def test_what_needs_trusted_authors_or_runs_says_so():
    tasks = {task.source: task for competition in public_competitions() for task in competition.tasks}
    with pytest.raises(ConfigError, match=r"only what trusted validators of subnet 18 wrote; name their hotkeys"):
        sn37.draw(tasks["cortex"], seed=1)
    with pytest.raises(ConfigError, match="reads signed wandb runs"):
        sn37.draw(tasks["cortex"], seed=1, data=sn37.Data(trusted=["5Hot"]))


CELL = """
import sn37
from sn37.methods import MethodResult
from sn37.sample import TextSample

@sn37.source("letters")
def letters(rng, count: int = 3):
    for place in range(count):
        yield TextSample(rng.choice("abc") * (5 + place))

@sn37.method("wordy")
def wordy(samples, tokenizer, engine, *, progress=None):
    values = tuple(float(len(sample.text)) for sample in samples)
    return MethodResult(sum(values) / len(values), values)

task = sn37.task("LETTERS", source="letters", method="wordy")
for isolated in (False, True):
    print(sn37.evaluate(["{model}"], [task], seed=1, isolated=isolated).scores["raw"].tolist())
"""


def test_functions_of_a_cell_go_along_to_the_worker(folder):
    """As in a kernel: they live in __main__."""
    code = CELL.replace("{model}", str(folder / "even"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[6.0]", "[6.0]"]
    assert done.stderr == ""


def test_an_interrupt_leaves_nothing_behind(folder, tmp_path):
    code = f"""
import sn37, os, time
task = sn37.task("WORDS", source="word_sorting", method="reference_loss", count=10_000)
print("ready", flush=True)
models = {{f"model {{n}}": {str(folder / "noisy")!r} for n in range(50)}}
sn37.evaluate(models, [task], seed=1, isolated=True)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(6)  # long enough to be in the worker, and never long enough to be done
    process.send_signal(2)
    _, error = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in error
    time.sleep(1)
    assert [path for path in Path(tmp_path).rglob("*") if path.is_file()] == []


def test_a_model_on_the_hub_is_scored_like_its_folder(folder, tmp_path, capitals):
    from huggingface_hub import HfApi

    from sn37.devnet.hub import HubServer

    with HubServer(tmp_path / "hub") as server:
        api = HfApi(endpoint=server.endpoint, token=server.token_of("someone"))
        api.create_repo("someone/noisy")
        commit = api.upload_folder(repo_id="someone/noisy", folder_path=folder / "noisy").oid
        data = sn37.Data(endpoint=server.endpoint, cache=tmp_path / "cache")
        models = {"here": folder / "noisy", "there": f"someone/noisy@{commit}"}
        result = sn37.evaluate(models, [capitals], seed=5, data=data)
    here, there = (result.measured[name].tasks["CAPITALS"].values for name in models)
    assert here == there
    assert bool(result.compare()["difference"].eq(0).all())
