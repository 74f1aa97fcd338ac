"""The devnet's tokenizer, data and models, all made on the spot from texts and facts at hand.

One training run, looked at after different numbers of steps, gives models of different quality. It draws its
samples with the competition's own sources, from the data's `train` split; nothing in it saw a `test` row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from sn37.competition import Competition, EvalTask
from sn37.devnet.datasets import Dataset, InMemory, Rows
from sn37.devnet.questions import facts, questions
from sn37.devnet.texts import standard_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sn37.methods import Tokenizer
    from sn37.sample import Sample

__all__ = ["VOCABULARY", "data", "one_thread", "tokenizer", "train_models"]

VOCABULARY = 1024
_SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_TEXT_CHARACTERS = 250
_TRAIN_QUESTIONS, _TEST_QUESTIONS = 1200, 400
_PER_STEP = {"DOCUMENTATION": 4, "WORD_SORTING": 6, "QUESTIONS": 32}
_TRAIN_ROWS = 400


def data() -> dict[str, Dataset]:
    """The devnet's datasets by repo, the same in any process of the same Python."""
    texts = standard_texts(_TEXT_CHARACTERS)
    train = questions(Random("train"), _TRAIN_QUESTIONS)
    known = set(train)
    test = [question for question in questions(Random("test"), _TEST_QUESTIONS) if question not in known]
    rows: dict[str, dict[str, Rows]] = {
        "devnet/texts": {
            "train": [{"text": text} for text in texts.train],
            "test": [{"text": text} for text in texts.eval],
        },
        "devnet/questions": {
            "train": [asdict(question) for question in train],
            "test": [asdict(question) for question in test],
        },
    }
    return {
        repo: Dataset(repo, {("default", split): found for split, found in splits.items()}, file_rows=10_000)
        for repo, splits in rows.items()
    }


def tokenizer(datasets: Mapping[str, Dataset], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template, trained on the training texts and facts. vocabulary: its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The facts often, so that their words become single tokens.
    often = [f"{question} {answer}" for question, answer in facts()] * 20
    texts = [str(row["text"]) for row in datasets["devnet/texts"].parts["default", "train"]]
    backend.train_from_iterator([*texts, *often], trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=_SPECIAL[0],
        eos_token=_SPECIAL[1],
        extra_special_tokens=list(_SPECIAL[2:]),
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def train_models(
    competition: Competition,
    datasets: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerFast,
    folders: Mapping[int, Path],
) -> Iterator[Path]:
    """Train one model and save it into `folders[n]` after n steps, for every n; yields each folder.

    Deterministic: one thread, fixed seeds.
    """
    from sn37.devnet import bigrams, tiny_llama
    from sn37.miner.rows import loss_rows

    length = competition.constraints.sequence_length
    reading = cast("Tokenizer", tokenizer)
    rows = {task.name: loss_rows(_samples(task, datasets), reading, length) for task in competition.tasks}
    model = tiny_llama.small_llama(tokenizer, positions=length)
    parts = [tiny_llama.Part(rows[name], per_step) for name, per_step in _PER_STEP.items()]
    with one_thread():
        bigrams.start_from_bigrams(model, (row.tokens for part in parts for row in part.rows))
        for step, _ in zip(range(1, max(folders) + 1), tiny_llama.train(model, parts), strict=False):
            if step in folders:
                yield tiny_llama.save(model, tokenizer, folders[step])


def _samples(task: EvalTask, datasets: Mapping[str, Dataset]) -> list[Sample]:
    """The task's samples as its own source draws them, from all of the training rows."""
    from sn37.sources import SOURCES, Context

    nothing = cast(Any, None)  # these sources ask for nothing else
    context = Context(Random(task.name), datetime.now(UTC), InMemory(datasets), nothing, nothing, nothing)
    arguments = dict(task.source_args)
    if task.source == "hub_dataset":
        count = len(datasets[str(arguments["repo"])].parts["default", "train"])
        arguments |= {"split": "train", "rows": count, "max_samples": count}
    else:
        arguments |= {"count": _TRAIN_ROWS}
    return SOURCES[task.source](**arguments)(context)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums over several threads may differ in their last digits from run to run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
