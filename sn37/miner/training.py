"""A baseline that finetunes a model for a competition: on its own sources, towards its own score.

Everything lies in one folder, so that a training cut off goes on where it was, to the same end:

    training.json   what is trained, from what, how
    checkpoints/    transformers' own, the newest two
    model/          the best so far by the held-out score, as it would be published
    history.json    how it went, once it has ended

The same training gives the same model on the same machine; on a GPU but for the order of sums. Loads the model it
starts from in this process, as `sn37.engine` loads a stranger's. Knows nothing of chains.
"""

from __future__ import annotations

import contextlib
import copy
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sn37.competition import Competition
from sn37.errors import ConfigError, ModelFault
from sn37.evaluation.progress import bar
from sn37.miner.folder import Plan, agreed, newest_checkpoint, owned
from sn37.miner.history import History
from sn37.miner.hyperparameters import Hyperparameters
from sn37.miner.live import live
from sn37.miner.rows import Material, draw_material, weighted_rows
from sn37.records.codec import read, write
from sn37.submission import content_hash

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

    from sn37.evaluation.local import Data
    from sn37.methods import Tokenizer
    from sn37.miner.batches import Batches

__all__ = ["Trained", "quiet", "train"]


@dataclass(frozen=True)
class Trained:
    """A training that has ended."""

    folder: Path
    """The best model, as it would be published."""
    competition: str
    """The competition's name."""
    history: History
    """How it went."""

    def __repr__(self) -> str:
        best, first = self.history.best, self.history.scores[0]
        if best is None or best.step == 0:
            return (
                f"{self.folder} is the model that it began with: none of {len(self.history.losses)} steps improved it"
            )
        before = f"{first.value:.4f} before" if first.step == 0 else "none before"
        return (
            f"{self.folder}: score {best.value:.4f} in {self.competition} after step {best.step}, {before} (on samples "
            "held out; lower is better)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def train(
    base: str | Path,
    competition: Competition,
    out: Path,
    *,
    hyperparameters: Hyperparameters | None = None,
    data: Data | None = None,
    device: str = "auto",
    show: Callable[[History], None] | None = None,
) -> Trained:
    """Finetune the model `base` for a competition; called again after any stop, it goes on where it was.

    base: a folder, or `user/repo@commit` on the hub (`sn37.miner.starts` finds one); out: a folder of its own; device:
    `auto`, `cpu` or `cuda`; show: called with the history after every step, a live figure or bar for None. The best
    model of all that were scored lies in `out/model`.

    Raises ConfigError, ModelFault where the model cannot take part, DataFault and HubFault.

    >>> train("my-model", public("DISTILLED_REASONING_3B"), Path("runs/first"))  # doctest: +SKIP
    """
    from sn37.evaluation.local import Data, chosen_device, model_folder

    if missing := [name for name in ("accelerate", "peft") if find_spec(name) is None]:
        raise ConfigError(f"training needs {' and '.join(missing)}: pip install 'sn37[train]'")
    out, data, hyperparameters = Path(out).absolute(), data or Data(), hyperparameters or Hyperparameters()
    chosen = chosen_device(device)
    if chosen == "cuda" and (count := _cuda_devices()) > 1:
        raise ConfigError(f"training takes one GPU of {count}: choose it with CUDA_VISIBLE_DEVICES=0")
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(model_folder(base, data))
        opened.enter_context(owned(out))
        plan = agreed(out, Plan(str(base), content_hash(folder), competition.digest, hyperparameters, data.as_of))
        if (history := read(History, out / "history.json")) is not None:
            return Trained(out / "model", competition.name, history)
        data = replace(data, as_of=plan.as_of)
        opened.enter_context(_random_state_kept())
        opened.enter_context(quiet())
        watch = show or opened.enter_context(live(hyperparameters.steps))
        with _memory_faults():
            history = _Run(folder, competition, out, hyperparameters, data, chosen).run(watch)
    if history.best is None:
        raise ModelFault(f"no model of this training may take part: {history.refusals[-1].reason}")
    write(out / "history.json", history)
    return Trained(out / "model", competition.name, history)


@dataclass(frozen=True)
class _Run:
    """A training under way."""

    base: Path
    competition: Competition
    out: Path
    hyperparameters: Hyperparameters
    data: Data
    device: str

    def run(self, show: Callable[[History], None]) -> History:
        """Train to the end, from the newest whole checkpoint on where there is one."""
        from transformers import TrainerState

        from sn37.miner.trainer import CompetitionTrainer, Watch

        if self.former.exists() and not self.best.exists():
            self.former.rename(self.best)
        chosen = self.hyperparameters
        checkpoint = newest_checkpoint(self.out / "checkpoints")
        if checkpoint is not None:
            reached = History.of(TrainerState.load_from_json(str(checkpoint / "trainer_state.json")))
            if reached.losses[-1].step == chosen.steps or reached.fruitless >= chosen.patience:
                return reached
        tokenizer = self._tokenizer()
        model = self._model(tokenizer)
        with bar(chosen.draws, "draw") as drawn:
            material = draw_material(self.competition, chosen.draws, chosen.seed, self.data, drawn.update)
        batches = self._batches(model, material, tokenizer)
        trainer = CompetitionTrainer(
            model,
            self._arguments(resumed=checkpoint is not None),
            batches,
            Watch(chosen.patience, show),
            partial(self._score, material, tokenizer),
        )
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return History.of(trainer.state)

    @property
    def best(self) -> Path:
        """The best model so far."""
        return self.out / "model"

    @property
    def former(self) -> Path:
        """The one before it, while a better one takes its place."""
        return self.out / ".model"

    def _keep(self, candidate: Path) -> None:
        """Make it the best model. A kill leaves that one, or the former one aside."""
        shutil.rmtree(self.former, ignore_errors=True)
        if self.best.exists():
            self.best.rename(self.former)
        candidate.rename(self.best)
        shutil.rmtree(self.former, ignore_errors=True)

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        """The competition's, or else the model's own."""
        from sn37.checks.tokenizer import load_tokenizer
        from sn37.evaluation.local import tokenizer_folder

        return load_tokenizer(tokenizer_folder(self.competition.constraints.tokenizer, self.data) or self.base)

    def _model(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The model to begin with, with adapters where some are asked for."""
        import torch

        from sn37.checks.weights import check_vocabulary
        from sn37.engine.model import load

        constraints, chosen = self.competition.constraints, self.hyperparameters
        plain = constraints.dtype if chosen.lora_rank else "float32"
        dtype = plain if chosen.weights == "auto" else chosen.weights
        model = load(self.base, dtype, self.device, constraints.architectures)
        check_vocabulary(model, tokenizer)
        if not chosen.lora_rank:
            return model.requires_grad_(True)
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(chosen.seed)
        model.name_or_path = ""  # or peft asks the hub for it whenever it saves
        config = LoraConfig(
            r=chosen.lora_rank, lora_alpha=2 * chosen.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 calls transformers by names of older versions
            return cast("PreTrainedModel", get_peft_model(model, config))

    def _batches(self, model: PreTrainedModel, material: Material, tokenizer: PreTrainedTokenizerBase) -> Batches:
        from sn37.miner.batches import Batches, keeps_packed_rows_apart

        chosen = self.hyperparameters
        return Batches(
            weighted_rows(self.competition, material.learnt, cast("Tokenizer", tokenizer)),
            chosen.batch_tokens,
            chosen.steps * chosen.accumulation,
            seed=chosen.seed,
            packed=keeps_packed_rows_apart(model),
        )

    def _arguments(self, *, resumed: bool) -> TrainingArguments:
        from transformers import TrainingArguments

        chosen, gpu = self.hyperparameters, self.device == "cuda"
        return TrainingArguments(
            output_dir=str(self.out / "checkpoints"),
            max_steps=chosen.steps,
            learning_rate=chosen.learning_rate or (2e-4 if chosen.lora_rank else 1e-5),
            lr_scheduler_type="cosine",
            warmup_steps=chosen.warmup_steps,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=chosen.accumulation,
            activation_checkpointing=chosen.activation_checkpointing,
            bf16=gpu,
            use_cpu=not gpu,
            use_cache=True,  # what the saved config says; no step uses one
            dataloader_pin_memory=gpu,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            eval_strategy="steps",
            eval_steps=chosen.evaluate_every,
            eval_on_start=not resumed,
            save_strategy="steps",
            save_steps=chosen.evaluate_every,
            save_total_limit=2,
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            seed=chosen.seed,
        )

    def _score(
        self, material: Material, tokenizer: PreTrainedTokenizerBase, model: torch.nn.Module, history: History
    ) -> dict[str, Any]:
        """The score of the model as it would be published, with the validator's engine; the best one is kept."""
        from sn37.checks.files import check_static
        from sn37.evaluation.local import evaluate

        candidate = self.out / "candidate"
        _save(model, tokenizer, candidate, self.competition.constraints.dtype)
        check_static(candidate, self.competition.constraints)  # what no training mends
        result = evaluate(
            {"candidate": candidate},
            self.competition,
            self.hyperparameters.seed,
            samples=material.held_out,
            data=self.data,
            device=self.device,
        )
        found = result.measured["candidate"]
        if isinstance(found, ModelFault):
            return {"refusal": str(found)}
        raw = {name: task.score for name, task in found.tasks.items()}
        score = self.competition.score(raw)
        if history.best is None or score < history.best.value:
            self._keep(candidate)
        return {"score": score, **raw}


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()


def _save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str) -> None:
    """Write the model in the files of a submission, its adapters merged; the model itself stays as it is."""
    from sn37.engine.model import torch_dtype

    whole: Any = copy.deepcopy(model)
    if hasattr(whole, "merge_and_unload"):
        whole = whole.merge_and_unload(safe_merge=True)
    shutil.rmtree(folder, ignore_errors=True)
    whole.to(torch_dtype(dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _memory_faults() -> Iterator[None]:
    """Memory that runs out, as a ConfigError that says what takes less."""
    from sn37.engine.memory import is_out_of_memory

    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            "memory ran out; what takes less, in another folder: fewer batch_tokens, activation_checkpointing, "
            "adapters (lora_rank), weights in bfloat16"
        ) from error


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """The process's random states are afterwards as they were: transformers seeds them all."""
    import numpy
    import torch

    python, numbers = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(numbers)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and advice."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
