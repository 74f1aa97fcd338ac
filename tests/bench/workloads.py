"""What is measured: samples of a kind and a length, the method that scores them, and the operations that needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bench import models
from bench.models import CHOICES, Size, word
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample

__all__ = ["WORKS", "Work", "needed_operations", "rows_of"]

_RULES = ({"rule": "no_commas"},)


@dataclass(frozen=True)
class Work:
    """One kind of work. samples: made from a vocabulary and their number; most_tokens: of a row, its reply included.

    new_tokens: the most a reply may have, 0 where losses are asked for; repetition_penalty: the method's;
    trained: whether the model must know the answers.
    """

    title: str
    method: str
    samples: Callable[[int, int], list[Sample]]
    count: int
    quick_count: int
    most_tokens: int
    new_tokens: int = 0
    repetition_penalty: float = 1.0
    trained: bool = False

    @property
    def generates(self) -> bool:
        """Whether replies are asked for, not losses."""
        return self.new_tokens > 0


def _text(random: Random, words: Sequence[int], count: int) -> str:
    return " ".join(map(word, random.choices(words, k=count)))


def _references(name: str, shortest: int, longest: int) -> Callable[[int, int], list[Sample]]:
    """Of all lengths from `shortest` to `longest`, a quarter of it the prompt."""

    def make(vocabulary: int, count: int) -> list[Sample]:
        random, words = Random(name), range(len(CHOICES) + 1, vocabulary)
        found: list[Sample] = []
        for _ in range(count):
            length = random.randint(shortest, longest)
            prompt = max(1, length // 4)
            found.append(ReferenceSample(_text(random, words, prompt), _text(random, words, length - prompt)))
        return found

    return make


def _questions(vocabulary: int, count: int) -> list[Sample]:
    """Questions of 60 to 220 words, as those of a knowledge test with four choices are."""
    random, words, cues = Random("questions"), models.fillers(vocabulary), models.cues()
    found: list[Sample] = []
    for _ in range(count):
        answer = random.choice(CHOICES)
        cue = word(random.choice(cues[answer]))
        found.append(ChoiceSample(f"{_text(random, words, random.randint(60, 220))} {cue}", CHOICES, answer))
    return found


def _instructions(vocabulary: int, count: int) -> list[Sample]:
    random, words = Random("instructions"), range(len(CHOICES) + 1, vocabulary)

    def prompt() -> str:
        return _text(random, words, random.randint(40, 120))

    return [InstructionSample((prompt(), prompt()), (_RULES, _RULES)) for _ in range(count)]


WORKS: Mapping[str, Work] = {
    "short": Work(
        "reference_loss, 25 to 150 tokens", "reference_loss", _references("short", 25, 150), 400, 48, most_tokens=150
    ),
    "long": Work(
        "reference_loss, 700 to 3000 tokens", "reference_loss", _references("long", 700, 3000), 24, 4, most_tokens=3000
    ),
    "choices": Work(
        "multiple_choice",
        "multiple_choice",
        _questions,
        200,
        32,
        most_tokens=256,
        new_tokens=20,
        repetition_penalty=1.1,
        trained=True,
    ),
    "instructions": Work(
        "if_eval, pairs of prompts",
        "if_eval",
        _instructions,
        40,
        4,
        most_tokens=320,
        new_tokens=200,
        repetition_penalty=1.2,
    ),
}


def needed_operations(size: Size, vocabulary: int, rows: Sequence[tuple[int, int]]) -> float:
    """Floating-point operations nobody can do without: a multiplication and an addition count as two.

    rows: (tokens that go through the body, positions whose logits are needed) of each. Two for each weight of the body
    and token; causal attention over half the square of the row; the head only where it is asked.
    """
    head_width = size.hidden // size.heads
    attention_width = size.heads * head_width
    per_layer = (
        2 * size.hidden * attention_width
        + 2 * size.hidden * size.kv_heads * head_width
        + 3 * size.hidden * size.intermediate
    )
    total = 0.0
    for tokens, positions in rows:
        total += 2.0 * size.layers * per_layer * tokens
        total += 2.0 * size.layers * attention_width * tokens**2
        total += 2.0 * size.hidden * vocabulary * positions
    return total


def rows_of(work: Work, samples: Sequence[Sample], tokenizer: Any) -> tuple[Any, ...]:
    """The method's rows: the same tokens for every contestant."""
    from sn37 import methods

    method = methods.METHODS[work.method]()
    return methods.rows_of(method, samples, tokenizer, work.most_tokens, own_tokenizer=False)
