"""What a miner learns from: samples as a competition's own sources draw them, as rows of tokens.

They are drawn with seeds that no validator has (`sn37.clock.training_seed`). The data may still be what a validator
draws from: whether that is fair to a test is the competition's affair. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sn37.clock import training_seed
from sn37.engine.interface import LossRow
from sn37.errors import ConfigError
from sn37.methods import Tokenizer
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample, digest

if TYPE_CHECKING:
    from sn37.competition import Competition
    from sn37.evaluation.local import Data, Samples

__all__ = ["Material", "WeightedRow", "draw_material", "loss_rows", "weighted_rows"]


@dataclass(frozen=True)
class Material:
    """Samples by task, none of them in both parts."""

    learnt: Mapping[str, Sequence[Sample]]
    """What is learnt from; nothing for a task whose samples hold no reply."""
    held_out: Mapping[str, Samples]
    """What the score is taken on: as many as a validator draws."""


@dataclass(frozen=True)
class WeightedRow:
    """A row to learn, and what it counts."""

    row: LossRow
    """Its tokens, and where its targets begin."""
    weight: float
    """Of the mean over its targets: its task's weight, shared among the task's rows."""


def draw_material(
    competition: Competition, draws: int, seed: int, data: Data, on_draw: Callable[[], object] = lambda: None
) -> Material:
    """The samples of one held-out epoch and of `draws` others. Raises DataFault, ConfigError, HubFault.

    on_draw: called after each of them.
    """
    from sn37.evaluation.local import draw

    held_out = {task.name: draw(task, training_seed(f"{seed}: held out"), data) for task in competition.tasks}
    known = {digest((sample,)) for samples in held_out.values() for sample in samples}
    learnt: dict[str, list[Sample]] = {task.name: [] for task in competition.tasks}
    for number in range(draws):
        for task in competition.tasks:
            for sample in draw(task, training_seed(f"{seed}: {number}"), data):
                if (one := digest((sample,))) not in known and not isinstance(sample, InstructionSample):
                    known.add(one)
                    learnt[task.name].append(sample)
        on_draw()
    if not any(learnt.values()):
        raise ConfigError(
            f"{competition.name}: {draws} draws gave no sample to learn from that is not held out as well; expected "
            "texts, references or choices: draw more often, or from data with more rows"
        )
    return Material(learnt, held_out)


def weighted_rows(
    competition: Competition, learnt: Mapping[str, Sequence[Sample]], tokenizer: Tokenizer
) -> tuple[WeightedRow, ...]:
    """The rows of all tasks. Each task counts as in the score, and each of its samples alike, however long it is."""
    found = []
    for task in competition.tasks:
        rows = loss_rows(learnt[task.name], tokenizer, competition.constraints.sequence_length)
        found += [WeightedRow(row, task.weight / len(rows)) for row in rows]
    return tuple(found)


def loss_rows(samples: Sequence[Sample], tokenizer: Tokenizer, sequence_length: int) -> tuple[LossRow, ...]:
    """The samples as rows to learn: texts whole, references and right answers given their prompt.

    As for a validator, a prompt too long loses its beginning, a target too long its end. Raises ConfigError for a
    sample there is nothing to learn from.
    """
    rows = []
    for sample in samples:
        prompt, target = _parts(sample, tokenizer)
        target = target[: sequence_length - 1]
        prompt = prompt[-(sequence_length - len(target)) :]
        if target:
            rows.append(LossRow(prompt + target, len(prompt)))
    return tuple(rows)


def _parts(sample: Sample, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that are given, one or more, and those to be learnt, the end of the text among them."""
    from sn37.methods.tokens import chat_prompt, encode, opening

    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    match sample:
        case TextSample():
            tokens = opening(tokenizer) + encode(tokenizer, sample.text) + end
            return tokens[:1], tokens[1:]
        case ReferenceSample():
            prompt, reply = chat_prompt(tokenizer, sample.prompt, sample.system), sample.reference
        case ChoiceSample():
            prompt, reply = chat_prompt(tokenizer, sample.prompt), sample.answer
        case _:
            raise ConfigError(f"{type(sample).__name__} holds no reply to learn; expected texts, references or choices")
    return prompt, encode(tokenizer, reply) + end
