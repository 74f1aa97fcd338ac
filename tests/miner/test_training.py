"""A training: it ends with the best model, as it would be published, whatever happened in between."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from tiny_models import MODELS
from transformers import TrainerControl, TrainerState

import sn37
from sn37.checks.tokenizer import byte_tokenizer
from sn37.competition import ARCHITECTURES, Competition, Constraints, EvalTask, Fixed
from sn37.devnet.tiny_llama import save, small_llama
from sn37.engine.model import load
from sn37.errors import ConfigError, ModelFault
from sn37.miner import History, Hyperparameters, check, train
from sn37.miner.history import Point, Refusal
from sn37.miner.rows import draw_material
from sn37.miner.trainer import Watch
from sn37.records.codec import read, write

CONSTRAINTS = Constraints(
    architectures=("LlamaForCausalLM",),
    max_parameters=100_000,
    max_bytes=1_000_000,
    sequence_length=200,
    tokenizer=None,
    delay_blocks=0,
    dtype="float32",
)
COMPETITION = Competition(
    *(7, "TINY", CONSTRAINTS, Fixed(0.01)), (EvalTask("SORTING", "word_sorting", "reference_loss", 1.0, {"count": 8}),)
)
SHORT = Hyperparameters(
    steps=9, learning_rate=3e-3, warmup_steps=1, batch_tokens=512, accumulation=2, draws=3, evaluate_every=4, seed=5
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of random weights that brings its own tokenizer."""
    tokenizer = byte_tokenizer()
    return save(small_llama(tokenizer, hidden=16, layers=1), tokenizer, tmp_path_factory.mktemp("base"))


def run(base, out, hyperparameters=SHORT, competition=COMPETITION, **options):
    return train(base, competition, out, hyperparameters=hyperparameters, device="cpu", **options)


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    return run(base, tmp_path_factory.mktemp("undisturbed"))


def weights(trained):
    return (trained.folder / "model.safetensors").read_bytes()


def test_a_model_learns_and_may_take_part(undisturbed):
    history = undisturbed.history
    assert [point.step for point in history.losses] == list(range(1, 10))
    assert [point.step for point in history.scores] == [0, 4, 8, 9]
    assert history.best.value < history.scores[0].value - 0.1
    assert check(undisturbed.folder, COMPETITION).unexpected == ()
    assert f"score {history.best.value:.4f} in TINY after step {history.best.step}" in str(undisturbed)


def test_the_score_is_the_validators_of_the_very_files_that_are_kept(undisturbed):
    held_out = draw_material(COMPETITION, 1, SHORT.seed, sn37.Data()).held_out
    result = sn37.evaluate([undisturbed.folder], COMPETITION, seed=0, samples=held_out, device="cpu")
    assert result.measured["model"].tasks["SORTING"].score == undisturbed.history.best.value


def test_killed_at_any_moment_it_comes_to_the_same_end(base, undisturbed, tmp_path):
    """Once between two checkpoints, and then with the newest one cut off in the middle."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_training import SHORT, run
def show(history):
    if history.losses and history.losses[-1].step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
run(Path({str(base)!r}), Path({str(tmp_path / "out")!r}), show=show)
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "out" / "history.json").exists()
    again = run(base, tmp_path / "out")
    assert again.history == undisturbed.history
    assert weights(again) == weights(undisturbed)


def test_killed_at_its_very_end_nothing_is_trained_again(undisturbed, base, tmp_path):
    out = shutil.copytree(undisturbed.folder.parent, tmp_path / "out")
    (out / "history.json").unlink()
    (out / ".training.json.4711.0").touch()  # what a file written aside leaves
    (out / "model").rename(out / ".model")  # as a better one was about to take its place

    def show(history):
        raise AssertionError

    again = run(base, out, show=show)
    assert (again.history, weights(again)) == (undisturbed.history, weights(undisturbed))


def stopped_at(step):
    def show(history):
        if history.losses and history.losses[-1].step == step:
            raise KeyboardInterrupt

    return show


def test_a_checkpoint_cut_off_is_passed_over(base, undisturbed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path, show=stopped_at(9))
    (state,) = tmp_path.glob("checkpoints/checkpoint-8/trainer_state.json")
    state.write_bytes(state.read_bytes()[:100])
    again = run(base, tmp_path)
    assert again.history == undisturbed.history
    assert weights(again) == weights(undisturbed)


def test_a_training_that_has_ended_is_not_begun_again(base, undisturbed):
    def show(history):
        raise AssertionError

    assert run(base, undisturbed.folder.parent, show=show) == undisturbed


@pytest.mark.parametrize(
    ("changes", "named"), [({"hyperparameters": replace(SHORT, seed=6)}, "hyperparameters"), ({"base": None}, "base")]
)
def test_a_folder_keeps_to_one_training(base, undisturbed, model, changes, named):
    given = {"base": base, **changes}
    given["base"] = given["base"] or model
    with pytest.raises(ConfigError, match=f"holds a training of another {named}; choose another folder"):
        run(out=undisturbed.folder.parent, **given)


def test_a_folder_of_something_else_is_left_alone(base, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no training"):
        run(base, tmp_path)


def test_two_processes_do_not_train_in_one_folder(base, tmp_path):
    def show(history):
        with pytest.raises(ConfigError, match="another process trains in"):
            run(base, tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path, show=show)


def test_adapters_are_merged_and_come_to_the_same_end_after_a_stop(base, tmp_path):
    adapted = replace(SHORT, lora_rank=4, learning_rate=0.02)
    whole = run(base, tmp_path / "whole", adapted)
    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "parts", adapted, show=stopped_at(6))
    parts = run(base, tmp_path / "parts", adapted)
    assert (parts.history, weights(parts)) == (whole.history, weights(whole))
    assert whole.history.best.value < whole.history.scores[0].value - 0.05
    assert check(whole.folder, COMPETITION).unexpected == ()
    before, after = (load(folder, "float32", "cpu", CONSTRAINTS.architectures) for folder in (base, whole.folder))
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if (old != new).any()
    }
    assert changed == {name for name, _ in before.named_parameters() if name.endswith("_proj.weight")}


@sn37.source("letters_abc")
def letters_abc(rng, count: int = 6):
    for _ in range(count):
        yield sn37.ChoiceSample(f"Which comes after {rng.randrange(10**6)}?", ("A", "B", "C"), rng.choice("ABC"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rank", [0, 2])
def test_every_architecture_is_trained_and_saved_as_it_may_be_published(build_model, tmp_path, name, rank):
    tokenizer = byte_tokenizer()
    base = save(build_model(name, vocab_size=260, max_position_embeddings=200), tokenizer, tmp_path / "base")
    allowed = replace(CONSTRAINTS, architectures=ARCHITECTURES, dtype="bfloat16")
    thrifty = replace(SHORT, steps=2, evaluate_every=2, draws=1, lora_rank=rank, activation_checkpointing=True)
    competition = replace(COMPETITION, constraints=allowed)
    trained = run(base, tmp_path / "out", thrifty, competition)
    assert trained.history.refusals == ()
    assert len(trained.history.scores) == 2
    assert check(trained.folder, competition).unexpected == ()
    assert json.loads((trained.folder / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.gpu
@pytest.mark.parametrize("rank", [0, 4])
def test_a_gpu_trains_in_bfloat16_as_a_cpu_does_but_for_rounding(base, tmp_path, rank):
    chosen = replace(SHORT, lora_rank=rank, activation_checkpointing=True)
    there = train(base, COMPETITION, tmp_path / "gpu", hyperparameters=chosen, device="cuda")
    here = run(base, tmp_path / "cpu", chosen)
    assert [point.value for point in there.history.losses] == pytest.approx(
        [point.value for point in here.history.losses], rel=0.02
    )
    assert check(there.folder, COMPETITION).unexpected == ()


def test_activations_computed_again_change_nothing(base, undisturbed, tmp_path):
    again = run(base, tmp_path, replace(SHORT, activation_checkpointing=True))
    assert [point.value for point in again.history.scores] == pytest.approx(
        [point.value for point in undisturbed.history.scores], rel=1e-4
    )


def test_memory_that_runs_out_is_told_with_what_takes_less(base, tmp_path):
    def show(history):
        raise MemoryError

    with pytest.raises(ConfigError, match=r"memory ran out; what takes less.*activation_checkpointing"):
        run(base, tmp_path, show=show)


def test_a_training_that_gets_no_better_stops_and_keeps_what_it_began_with(base, tmp_path):
    """So few steps make no model of noise say a right letter."""
    letters = sn37.task("LETTERS", source="letters_abc", method="multiple_choice")
    competition = replace(COMPETITION, tasks=(letters,))
    trained = run(base, tmp_path, replace(SHORT, evaluate_every=1, patience=2), competition)
    assert [point.step for point in trained.history.scores] == [0, 1, 2]
    assert trained.history.best.step == 0
    assert "the model that it began with: none of 2 steps improved it" in str(trained)
    (tmp_path / "history.json").unlink()
    assert run(base, tmp_path, replace(SHORT, evaluate_every=1, patience=2), competition) == trained


def test_a_model_that_no_training_can_make_fit_is_refused_at_once(base, tmp_path):
    large = replace(COMPETITION, constraints=replace(CONSTRAINTS, min_parameters=50_000))
    with pytest.raises(ModelFault, match=r"parameters; the competition allows 50000 to 100000"):
        run(base, tmp_path, competition=large, show=stopped_at(1))


def test_the_process_is_left_as_it_was(base, tmp_path):
    def state():
        drawn = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        return drawn, dict(os.environ), torch.are_deterministic_algorithms_enabled()

    before = state()
    run(base, tmp_path, replace(SHORT, steps=1, draws=1, accumulation=1))
    assert state() == before


def state_with(*entries):
    return TrainerState(log_history=list(entries), max_steps=9, global_step=entries[-1]["step"])


def test_a_loss_that_is_not_finite_ends_the_training():
    watch = Watch(3, lambda history: None)
    watch.on_log(None, state_with({"loss": 2.0, "step": 1}), TrainerControl())
    with pytest.raises(ConfigError, match="the loss is not finite at step 2; choose a lower learning rate"):
        watch.on_log(None, state_with({"loss": math.nan, "step": 2}), TrainerControl())


def test_a_history_is_what_was_logged_and_survives_a_file(tmp_path):
    entries = [
        {"eval_refusal": "sanity check", "step": 0},
        {"loss": 2.0, "learning_rate": 0.1, "step": 1},
        {"eval_score": 0.5, "step": 1},
        {"eval_score": 0.5, "step": 2},
        {"eval_refusal": "norms", "step": 3},
    ]
    history = History.of(state_with(*entries))
    assert history == History(
        9,
        (Point(1, 2.0),),
        (Point(1, 0.5), Point(2, 0.5)),
        (Refusal(0, "sanity check"), Refusal(3, "norms")),
    )
    assert history.best == Point(1, 0.5)
    assert history.fruitless == 2
    write(tmp_path / "history.json", history)
    assert read(History, tmp_path / "history.json") == history


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"learning_rate": 1.0}, r"learning_rate is 1\.0; expected a number in \(0, 1\)"),
        ({"lora_rank": -1}, "expected 0 or more"),
        ({"weights": "int8"}, "weights is 'int8'; expected auto, bfloat16 or float32"),
    ],
)
def test_impossible_hyperparameters_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Hyperparameters(**changes)


def test_hyperparameters_that_a_person_wrote_are_checked_by_name_and_kind():
    assert Hyperparameters.of(steps=7, learning_rate=0.1) == Hyperparameters(steps=7, learning_rate=0.1)
    with pytest.raises(ConfigError) as told:
        Hyperparameters.of(stps=7, draws="many", lora_rank=-1)
    assert "stps" in str(told.value) and "steps" in str(told.value)
    assert "draws is 'many'" in str(told.value)
