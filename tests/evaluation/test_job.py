"""One model's evaluation in its worker, and who is to blame when a worker dies."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from recorded import measurement, task_result

from sn37.checks.tokenizer import byte_tokenizer
from sn37.competition import Competition, Constraints, EvalTask, Fixed
from sn37.errors import ChainFault, ConfigError, DataFault, EvaluatorFault, ModelFault, Sn37Error
from sn37.evaluation.control import control_model, fault_of, needs_control
from sn37.evaluation.job import Job, evaluate, measure, tokenize
from sn37.evaluation.run import evaluate_all, preloaded
from sn37.methods import MethodResult
from sn37.methods.text_loss import TextLoss
from sn37.records.codec import to_data, typed
from sn37.records.results import Measurement
from sn37.sample import ChoiceSample, ReferenceSample, Sample, TextSample, to_record
from sn37.workers.executors import Limits, LocalExecutor
from sn37.workers.isolation import WorkerDied

SAMPLES: Mapping[str, list[Sample]] = {
    "TEXTS": [TextSample(f"The river rose by {i} feet in the night, and nobody slept.") for i in range(4)],
    "REPLIES": [
        ReferenceSample("Where is the key?", "Under the mat."),
        ReferenceSample("And the lamp?", "On the sill."),
    ],
    "CHOICES": [ChoiceSample("Which letter comes first, A or B?", ("A", "B"), "A")],
}


def competition(**changes: Any) -> Competition:
    fields = {
        "architectures": ("LlamaForCausalLM",),
        "max_parameters": 1_000_000,
        "max_bytes": 1 << 30,
        "sequence_length": 128,
        "tokenizer": None,
        "delay_blocks": 0,
        "dtype": "float32",
    }
    tasks = (
        EvalTask("TEXTS", "any", "text_loss", 0.5, method_args={"sanity_check": False}),
        EvalTask("REPLIES", "any", "reference_loss", 0.25),
        EvalTask("CHOICES", "any", "multiple_choice", 0.25),
    )
    return Competition(1, "TINY", Constraints(**{**fields, **changes}), Fixed(0.01), tasks)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A tiny Llama of a seed, in a folder of its own; `change` may spoil it before it is saved."""

    def model(seed: int = 0, change: Callable[[Any], Any] = lambda model: None, **fields: Any) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shape = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
            made = LlamaForCausalLM(LlamaConfig(**{**shape, "num_attention_heads": 2, **fields}))
        change(made)
        folder = tmp_path_factory.mktemp("model")
        made.save_pretrained(folder)
        return folder

    return model


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(("cpu",), preloaded(("LlamaForCausalLM",))) as executor:
        yield executor


def run(
    executor: LocalExecutor, jobs: Mapping[str, Job], control: Path, **limits: Any
) -> dict[str, Measurement | Sn37Error]:
    given = Limits(**{"time_limit_s": 300.0, **limits})
    return dict(evaluate_all(executor, jobs.items(), given, control=control))


def test_every_task_is_scored_and_told(make: Callable[..., Path], tokenizer: Path) -> None:
    messages: list[dict[str, Any]] = []
    job = Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer)
    result = measure(job, messages.append)
    assert list(result.tasks) == ["TEXTS", "REPLIES", "CHOICES"]
    for name, task in result.tasks.items():
        assert len(task.values) == len(SAMPLES[name]) and task.tokens > 0 and task.seconds > 0
        assert task.score == pytest.approx(math.fsum(task.values) / len(task.values))
    # nothing but chance: about the logarithm of the vocabulary
    assert result.tasks["TEXTS"].score == pytest.approx(math.log(257), rel=0.1)
    assert result.dtype == "float32" and result.device == "cpu" and result.parameters > 0
    assert [m["task"] for m in messages if m.get("done")] == ["TEXTS", "REPLIES", "CHOICES"]
    data = json.loads(json.dumps(evaluate(job.payload()), allow_nan=False))
    assert typed(Measurement, data, "a measurement").sketch == result.sketch is not None


def test_the_fast_engine_scores_as_the_reference(make: Callable[..., Path], tokenizer: Path) -> None:
    model = make(initializer_range=0.3)
    fast, slow = (
        measure(Job.of(competition(), model, SAMPLES, tokenizer=tokenizer, engine=name)).tasks
        for name in ("fast", "reference")
    )
    for name in SAMPLES:
        assert fast[name].values == pytest.approx(slow[name].values, rel=1e-5)
        assert [d.get("reply") for d in fast[name].details] == [d.get("reply") for d in slow[name].details]


def test_samples_tokenized_beforehand_score_the_same(
    make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    job = Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer)
    rows = tokenize(job.payload())
    assert list(rows) == list(SAMPLES) and len(rows["TEXTS"]) == 4
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    first, second = (measure(each).tasks for each in (job, replace(job, rows=tmp_path / "rows.json")))
    for name in SAMPLES:
        assert (first[name].values, first[name].details) == (second[name].values, second[name].details)


def test_the_plan_is_told_and_so_is_what_leaving_it_may_change(
    make: Callable[..., Path], tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sn37.engine import losses

    job = Job.of(competition(dtype="bfloat16"), make(), SAMPLES, tokenizer=tokenizer)
    assert measure(job).plan == {"batch_tokens": 32_768, "halvings": 0}
    whole = losses._batch_losses

    def small(model: Any, head: Any, batch: Any) -> list[float]:
        if len(batch) > 2:
            raise MemoryError
        return whole(model, head, batch)

    monkeypatch.setattr(losses, "_batch_losses", small)
    plan = measure(job).plan
    assert plan["halvings"] > 0 and 0 <= plan["noise"] < 0.1


def test_samples_from_a_file_score_the_same(make: Callable[..., Path], tokenizer: Path, tmp_path: Path) -> None:
    model = make()
    files = {}
    for name, samples in SAMPLES.items():
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(to_record(sample)) + "\n" for sample in samples))
    direct, read = (
        measure(Job.of(competition(), model, given, tokenizer=tokenizer)).tasks for given in (SAMPLES, files)
    )
    assert [direct[name].values for name in SAMPLES] == [read[name].values for name in SAMPLES]


def test_a_worker_and_this_process_score_the_same(
    executor: LocalExecutor, make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    job = Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer)
    outcome = run(executor, {"a": job}, tmp_path / "control")["a"]
    assert isinstance(outcome, Measurement)
    here = measure(replace(job, threads=executor.threads))
    assert [outcome.tasks[n].values for n in SAMPLES] == [here.tasks[n].values for n in SAMPLES]
    assert not (tmp_path / "control").exists(), "the control model is made only when it is needed"


def test_a_model_s_faults_are_its_own_and_its_neighbours_have_theirs(
    executor: LocalExecutor, make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    def spoil(model: Any) -> None:
        model.lm_head.weight.data.fill_(math.nan)

    models = {"good": make(), "large": make(hidden_size=512), "nan": make(change=spoil), "none": tmp_path}
    jobs = {name: Job.of(competition(), folder, SAMPLES, tokenizer=tokenizer) for name, folder in models.items()}
    outcomes = run(executor, jobs, tmp_path / "control")
    assert isinstance(outcomes["good"], Measurement)
    for name, reason in (("large", "parameters"), ("nan", "finite"), ("none", "config.json is missing")):
        assert type(outcomes[name]) is ModelFault and reason in str(outcomes[name])


def test_a_loss_that_is_not_finite_is_the_model_s_fault(make: Callable[..., Path], tokenizer: Path) -> None:
    def blow_up(model: Any) -> None:
        model.lm_head.weight.data.fill_(3e38)

    with pytest.raises(ModelFault, match="finite"):
        measure(Job.of(competition(), make(change=blow_up), SAMPLES, tokenizer=tokenizer))


def test_a_vocabulary_too_small_for_the_tokenizer_is_the_model_s_fault(
    make: Callable[..., Path], tokenizer: Path
) -> None:
    with pytest.raises(ModelFault, match="257 tokens; the model knows 200"):
        measure(Job.of(competition(), make(vocab_size=200), SAMPLES, tokenizer=tokenizer))


def test_without_a_fixed_tokenizer_the_model_brings_its_own(make: Callable[..., Path]) -> None:
    folder = make()
    job = Job.of(competition(), folder, SAMPLES, tokenizer=None)
    with pytest.raises(ModelFault, match=r"tokenizer\.json is missing"):
        measure(job)
    byte_tokenizer().save_pretrained(folder)
    assert measure(job).tasks["TEXTS"].score > 0


def test_what_does_not_fit_is_cut_alike_by_the_competition_s_tokenizer_and_guessed_of_a_model_s_own(
    make: Callable[..., Path], tokenizer: Path
) -> None:
    folder = make()
    byte_tokenizer().save_pretrained(folder)
    long = "The river rose. " * 9  # 144 bytes, a token each
    samples = {**SAMPLES, "TEXTS": [TextSample(long)], "REPLIES": [ReferenceSample("Say it.", long)]}
    fixed, own = (measure(Job.of(competition(), folder, samples, tokenizer=t)).tasks for t in (tokenizer, None))
    rows: Any = tokenize(Job.of(competition(), folder, samples, tokenizer=tokenizer).payload())
    assert (len(rows["TEXTS"][0]["tokens"]), len(rows["REPLIES"][0]["tokens"])) == (128, 128)
    for task in ("TEXTS", "REPLIES"):
        assert fixed[task].details[0]["tokens"] == 127
        assert fixed[task].score != own[task].score == 8 * math.log(2)
        assert own[task].details == ({"tokens": 0, "context": 0, "flaw": "too long"},)


def test_a_method_whose_score_is_below_0_stops_the_evaluation_and_never_the_decision(
    make: Callable[..., Path], tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reward(self: Any, rows: Any, *_: Any) -> MethodResult:
        return MethodResult(-1.0, (-1.0,) * len(rows))

    monkeypatch.setattr(TextLoss, "score", reward)
    with pytest.raises(EvaluatorFault, match="a loss is 0 or more: correct the method text_loss"):
        measure(Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer))


def test_a_broken_tokenizer_is_the_fault_of_whose_it_is(
    make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    folder = make()
    broken = tmp_path / "tokenizer"
    for place in (folder, broken):
        byte_tokenizer().save_pretrained(place)
        (place / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    with pytest.raises(ModelFault, match="chat template"):
        measure(Job.of(competition(), folder, SAMPLES, tokenizer=None))
    with pytest.raises(EvaluatorFault, match="chat template"):
        measure(Job.of(competition(), folder, SAMPLES, tokenizer=broken))
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(EvaluatorFault, match="cannot be loaded"):
        measure(Job.of(competition(), folder, SAMPLES, tokenizer=broken))


def test_unknown_methods_and_engines_are_named(make: Callable[..., Path], tokenizer: Path) -> None:
    job = Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="engine 'warp'"):
        measure(replace(job, engine="warp"))
    with pytest.raises(ConfigError, match="method 'guess'"):
        measure(replace(job, tasks=(replace(job.tasks[0], method="guess"),)))


@pytest.mark.parametrize("kind", ["signal", "time", "memory", "error", "garbage", "lost"])
def test_a_death_is_the_model_s_fault_only_if_a_control_run_lives(kind: Any) -> None:
    death = WorkerDied(kind, "killed by SIGSEGV")
    assert needs_control(death)
    assert isinstance(fault_of(death, measurement({})), ModelFault)
    blamed = fault_of(death, WorkerDied("signal", "the control died too"))
    assert type(blamed) is EvaluatorFault and "the control died too" in str(blamed)
    assert type(fault_of(death, ModelFault("even so"))) is EvaluatorFault


@pytest.mark.parametrize("trouble", [DataFault("no text"), ConfigError("no method"), ChainFault("gone")])
def test_what_a_worker_blames_on_others_is_the_model_s_fault_if_a_control_run_lives(trouble: Sn37Error) -> None:
    assert needs_control(trouble)
    assert isinstance(fault_of(trouble, measurement({})), ModelFault)
    assert fault_of(trouble, type(trouble)("the same")) is trouble


class Scripted:
    """An executor whose workers send what a hostile one would; the control model's is honest."""

    def __init__(self, sent: dict[str, Any]) -> None:
        self.sent = sent

    def run(self, function: str, payloads: Any, limits: Any, on_progress: Any = None) -> Iterator[tuple[str, Any]]:
        for key, _ in payloads:
            honest = function.endswith("evaluate_control")
            yield key, to_data(measurement({"TEXTS": task_result(1.0)})) if honest else self.sent

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sent: sent["tasks"]["TEXTS"].update(score=-1.0),
        lambda sent: sent["tasks"]["TEXTS"].update(score=math.nan),
        lambda sent: sent["tasks"]["TEXTS"].update(values=[math.inf]),
        lambda sent: sent["tasks"].clear(),
        lambda sent: sent["tasks"].update(MORE=sent["tasks"]["TEXTS"]),
        lambda sent: sent.update(tasks=None),
        lambda sent: sent.update(sketch={"digest": "0a" * 32, "tensors": {"a": [0.0] * 10_000}}),
        lambda sent: sent.update(sketch={"digest": "0a" * 32, "tensors": {"a": [math.nan]}}),
        lambda sent: sent.update(more=1),
        lambda sent: sent.clear(),
    ],
)
def test_what_a_worker_sends_is_believed_only_if_it_can_be_a_measurement(
    spoil: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    whole = competition(tokenizer=None)
    one = replace(whole, tasks=(replace(whole.tasks[0], weight=1.0),))
    job = Job.of(one, tmp_path, SAMPLES, tokenizer=None)
    sent: Any = to_data(measurement({"TEXTS": task_result(1.0)}))
    honest, limits = Scripted(json.loads(json.dumps(sent))), Limits(1.0)
    assert isinstance(dict(evaluate_all(honest, [("a", job)], limits, control=tmp_path))["a"], Measurement)
    spoil(sent)
    outcome = dict(evaluate_all(Scripted(sent), [("a", job)], limits, control=tmp_path))["a"]
    assert type(outcome) is ModelFault and "control model's went well" in str(outcome)


def test_a_model_that_takes_too_long_costs_its_miner(
    executor: LocalExecutor, make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    jobs = {"slow": Job.of(competition(), make(num_hidden_layers=1_500, hidden_size=4), SAMPLES, tokenizer=tokenizer)}
    given = Limits(time_limit_s=8.0)
    ((_, outcome),) = evaluate_all(executor, jobs.items(), given, control=tmp_path / "control")
    assert type(outcome) is ModelFault and "longer than 8 s" in str(outcome)


def test_a_worker_killed_in_the_middle_of_a_model_changes_nothing(
    executor: LocalExecutor, make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    jobs = {"a": Job.of(competition(), make(initializer_range=0.3), SAMPLES, tokenizer=tokenizer)}
    undisturbed = run(executor, jobs, tmp_path / "control")["a"]
    killed: list[int] = []

    def kill_once(key: str, message: dict[str, Any]) -> None:
        if message.get("task") == "REPLIES" and not killed:
            # Only the server at work has a worker; other tests in this process may keep idle servers of their own.
            servers = (p for p in psutil.Process().children() if "sn37.workers.forkserver" in p.cmdline())
            (worker,) = (workers[-1] for server in servers if (workers := server.children(recursive=True)))
            killed.append(worker.pid)
            worker.send_signal(signal.SIGKILL)

    given = Limits(300.0)
    disturbed = dict(evaluate_all(executor, jobs.items(), given, control=tmp_path, on_progress=kill_once))["a"]
    assert killed and isinstance(undisturbed, Measurement) and isinstance(disturbed, Measurement)
    for name in SAMPLES:
        assert disturbed.tasks[name].values == undisturbed.tasks[name].values


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "chat_template.jinja",
            "{% set x = namespace(a='x' * 99999) %}{% for i in range(99999) %}{% set x.a = x.a + x.a %}{% endfor %}",
        ),
        ("chat_template.jinja", "{{ '%999999999999d' % 1 }}"),
        ("chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        ("chat_template.jinja", "{% include '/etc/passwd' %}"),
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}'),
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["code.T", null]}, "chat_template": 7}'),
    ],
)
def test_a_hostile_tokenizer_costs_its_miner_and_nobody_else(
    executor: LocalExecutor, make: Callable[..., Path], tmp_path: Path, file: str, text: str
) -> None:
    good, bad = make(), make()
    for folder in (good, bad):
        byte_tokenizer().save_pretrained(folder)
    (bad / file).write_text(text)
    jobs = {
        name: Job.of(competition(), folder, SAMPLES, tokenizer=None) for name, folder in (("bad", bad), ("good", good))
    }
    given = Limits(60.0, memory_bytes=2 << 30)
    outcomes = dict(evaluate_all(executor, jobs.items(), given, control=tmp_path / "control"))
    assert type(outcomes["bad"]) is ModelFault and isinstance(outcomes["good"], Measurement)


def test_an_evaluator_that_cannot_run_anything_blames_nobody(
    executor: LocalExecutor, make: Callable[..., Path], tokenizer: Path, tmp_path: Path
) -> None:
    jobs = {"a": Job.of(competition(), make(), SAMPLES, tokenizer=tokenizer)}
    outcome = run(executor, jobs, tmp_path / "control", time_limit_s=0.01)["a"]
    assert type(outcome) is EvaluatorFault and "control" in str(outcome)


def test_a_control_model_is_made_once_and_alike(tokenizer: Path, tmp_path: Path) -> None:
    first, second = (control_model(tmp_path / name, tokenizer) for name in ("a", "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert control_model(tmp_path / "a", tokenizer) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [first.name]
    assert control_model(tmp_path / "a", None) != first
