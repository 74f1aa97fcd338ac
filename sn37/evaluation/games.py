"""What a task gives to players that have not solved it, and to its own gold answers.

A player is an engine without a model: it replies, or is certain of a choice, or predicts tokens by counting. The task's
own method scores it, as it would a model. It knows nothing of models, nor of how the scores are judged.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sn37.analysis.task_evidence import Game
from sn37.competition import EvalTask
from sn37.engine.interface import GenerateRow, LossRow, Progress
from sn37.errors import ModelFault
from sn37.methods import METHODS, Method, Row, rows_of
from sn37.methods.tokens import encode
from sn37.records.results import TaskResult
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample

__all__ = ["Counts", "Player", "Table", "play", "play_gold"]

_CERTAIN_NATS = 1_000.0
"""What a choice costs that a player does not take, a token."""


@dataclass(frozen=True)
class Player:
    """Someone who plays a task without a model."""

    name: str
    """What it is called."""
    what: str
    """What it does, as the rest of a sentence about it."""
    reply: Callable[[Sample], str]
    """What it says to a sample's prompt: of a sample with choices, the choice it is certain of."""
    says: Callable[[Sample], str] | None = None
    """What it says where a reply is generated; None for `reply`."""
    nats: Callable[[LossRow], float] | None = None
    """How it predicts a reference's tokens, in nats; None where it is certain of them."""


@dataclass(frozen=True)
class Table:
    """What is played on."""

    method: Method
    """The task's."""
    samples: Sequence[Sample]
    """Its samples."""
    rows: Sequence[Row]
    """What the method makes of them."""
    tokenizer: Any
    """Of the rows, and of replies."""
    sequence_length: int
    """The most tokens of a row."""

    @classmethod
    def of(
        cls, task: EvalTask, samples: Sequence[Sample], tokenizer: Any, sequence_length: int, *, own_tokenizer: bool
    ) -> Table:
        """own_tokenizer: as `rows_of` has it."""
        method = METHODS[task.method](**task.method_args)
        rows = rows_of(method, samples, tokenizer, sequence_length, own_tokenizer=own_tokenizer)
        return cls(method, samples, rows, tokenizer, sequence_length)


def play(table: Table, practice: Sequence[Sample]) -> tuple[Game, ...]:
    """Every game that suits the samples. practice: samples of another draw, which anybody may have seen."""
    known = table.method.rows(practice, table.tokenizer, table.sequence_length)
    return tuple(_played(table, player) for player in _players(practice, known, table.samples, table.tokenizer))


def play_gold(table: Table) -> Game:
    """The references themselves, scored by the task's method: 0 where nothing is wrong with them."""
    player = Player("gold", "gives the reference", _gold)
    if isinstance(table.samples[0], InstructionSample):
        return Game(player.name, player.what, None, "its samples have rules and no reference")
    return _played(table, player)


def _gold(sample: Sample) -> str:
    if isinstance(sample, ChoiceSample):
        return sample.answer
    return sample.reference if isinstance(sample, ReferenceSample) else ""


def _played(table: Table, player: Player) -> Game:
    try:
        found = table.method.score(table.rows, table.samples, table.tokenizer, _Engine(player, table))
    except ModelFault as fault:
        return Game(player.name, player.what, None, f"the method refuses it: {fault}")
    outcome = TaskResult(**vars(found), seconds=0.0, tokens=0)
    return Game(player.name, player.what, outcome)


class _Engine:
    """A player as an engine: knows by a row's tokens which sample it is asked about."""

    def __init__(self, player: Player, table: Table) -> None:
        self.sequence_length = table.sequence_length
        self._player, self._table = player, table
        self._asked: dict[tuple[int, ...], deque[tuple[Sample, int]]] = defaultdict(deque)
        seen: Counter[int] = Counter()
        for row in table.rows:
            self._asked[row.tokens].append((table.samples[row.sample], seen[row.sample]))
            seen[row.sample] += 1

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        return [self._loss(row, *at) for row, at in zip(rows, self._places([row.tokens for row in rows]), strict=True)]

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        return [
            list(self._reply(row, sample))[: row.max_new_tokens]
            for row, (sample, _) in zip(rows, self._places([row.tokens for row in rows]), strict=True)
        ]

    def _places(self, asked: Sequence[tuple[int, ...]]) -> list[tuple[Sample, int]]:
        """The sample, and which of its rows, that each row is of: by its tokens, or else by its place."""
        found: list[tuple[Sample, int]] = []
        for place, tokens in enumerate(asked):
            if waiting := self._asked.get(tokens):
                waiting.rotate(-1)  # rows of equal tokens are asked for in their order
                found.append(waiting[-1])
            elif begun := next((row for row in self._table.rows if row.tokens[: len(tokens)] == tokens), None):
                found.append((self._table.samples[begun.sample], 0))
            elif len(asked) == len(self._table.samples):
                found.append((self._table.samples[place], 0))
            else:
                raise ModelFault("it asks for rows that no sample is known by")
        return found

    def _loss(self, row: LossRow, sample: Sample, number: int) -> float:
        if isinstance(sample, ChoiceSample):
            taken = sample.choices[number] == self._player.reply(sample)
            return 0.0 if taken else _CERTAIN_NATS * len(row.targets)
        return 0.0 if self._player.nats is None else self._player.nats(row)

    def _reply(self, row: GenerateRow, sample: Sample) -> Sequence[int]:
        if isinstance(sample, TextSample):  # the sanity check: a text's own continuation, whoever plays
            text = next((each.tokens for each in self._table.rows if each.tokens[: len(row.tokens)] == row.tokens), ())
            return (
                text[len(row.tokens) :] + text if self._player.nats is None else (row.tokens[-1],) * row.max_new_tokens
            )
        return encode(self._table.tokenizer, (self._player.says or self._player.reply)(sample))


def _players(
    practice: Sequence[Sample], known: Sequence[Row], samples: Sequence[Sample], tokenizer: Any
) -> Iterator[Player]:
    match samples[0]:
        case ChoiceSample():
            yield from _choosers([sample for sample in practice if isinstance(sample, ChoiceSample)])
        case InstructionSample():
            yield Player("constant reply", "always says the same", lambda sample: "I do not know.")
            yield Player("copied prompt", "repeats the prompt", _prompt)
        case _:
            references = Counter(map(_gold, practice))
            common = min(references, key=lambda text: (-references[text], text)) if references else ""
            counts = Counts.of(known, len(tokenizer))
            unigram = "knows how often each token comes in references, and nothing else"
            yield Player("unigram model", unigram, lambda sample: "", nats=counts.unigram)
            if isinstance(samples[0], ReferenceSample):
                says = "says what references commonly say, whatever the prompt"
                yield Player("common reply", says, lambda sample: common, nats=counts.prefix)
            yield Player("copied prompt", "repeats what has stood before", _prompt, nats=counts.copy)


def _prompt(sample: Sample) -> str:
    match sample:
        case InstructionSample(prompts=prompts):
            return prompts[0]
        case TextSample():
            return ""
    return sample.prompt


def _choosers(practice: Sequence[ChoiceSample]) -> Iterator[Player]:
    """Players of samples with choices."""

    def of(choose: Callable[[ChoiceSample], str]) -> Callable[[Sample], str]:
        return lambda sample: choose(sample) if isinstance(sample, ChoiceSample) else ""

    answers = Counter(sample.answer for sample in practice)
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for sample in practice:
        for choice in sample.choices:
            (right if choice == sample.answer else wrong).update(choice.lower().split())

    def odds(choice: str) -> float:
        words = choice.lower().split() or [""]
        return math.fsum(math.log((right[word] + 0.5) / (wrong[word] + 0.5)) for word in words) / len(words)

    def named(sample: ChoiceSample) -> str:
        found = [(at, choice) for choice in sample.choices if (at := sample.prompt.find(choice)) >= 0]
        return min(found)[1] if found else sample.choices[0]

    yield Player("first choice", "always takes the first choice (A)", of(lambda s: s.choices[0]))
    yield Player("last choice", "always takes the last choice", of(lambda s: s.choices[-1]))
    yield Player("longest choice", "takes the longest choice", of(lambda s: max(s.choices, key=len)))
    yield Player("shortest choice", "takes the shortest choice", of(lambda s: min(s.choices, key=len)))
    common = of(lambda s: max(s.choices, key=lambda choice: answers[choice]))
    yield Player("constant reply", "takes the choice that is right most often, whatever is asked", common)
    likely = of(lambda s: max(s.choices, key=odds))
    yield Player("unigram model", "takes the choice whose words are most often right, whatever is asked", likely)
    yield Player("copied prompt", "repeats the prompt", of(named), says=_prompt)


@dataclass(frozen=True)
class Counts:
    """What there is to know of references by counting: language models of three kinds, each sums to 1 over tokens."""

    tokens: Mapping[int, int]
    """How often each token comes."""
    after: Mapping[tuple[int, ...], Counter[int]]
    """Beginning of a reference -> the tokens that follow it."""
    vocabulary: int
    """How many tokens there are."""

    @classmethod
    def of(cls, rows: Sequence[Row], vocabulary: int) -> Counts:
        tokens: Counter[int] = Counter()
        after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for row in rows:
            targets = row.tokens[row.start :]
            tokens.update(targets)
            for place, token in enumerate(targets[:_LONGEST_BEGINNING]):
                after[targets[:place]][token] += 1
        return cls(tokens, after, vocabulary)

    def _token(self, token: int) -> float:
        """A token's probability by itself: nineteen parts of what was counted and one of all tokens alike."""
        total = sum(self.tokens.values())
        counted = self.tokens.get(token, 0) / total if total else 1 / self.vocabulary
        return 0.95 * counted + 0.05 / self.vocabulary

    def unigram(self, row: LossRow) -> float:
        return -math.fsum(math.log(self._token(token)) for token in row.targets)

    def prefix(self, row: LossRow) -> float:
        """Nine parts of what followed the same beginning, one of the unigram; the unigram alone after a new one."""
        total = 0.0
        for place, token in enumerate(row.targets):
            seen = self.after.get(row.targets[:place]) if place < _LONGEST_BEGINNING else None
            share = seen[token] / seen.total() if seen else None
            total -= math.log(self._token(token) if share is None else 0.9 * share + 0.1 * self._token(token))
        return total

    def copy(self, row: LossRow) -> float:
        """Nine parts of what followed this token the last time, one of the unigram."""
        followed: dict[int, int] = dict(zip(row.tokens[: row.start], row.tokens[1 : row.start], strict=False))
        total, before = 0.0, row.tokens[row.start - 1]
        for token in row.targets:
            guess = followed.get(before)
            chance = self._token(token)
            total -= math.log(chance if guess is None else 0.9 * (guess == token) + 0.1 * chance)
            followed[before], before = token, token
        return total


_LONGEST_BEGINNING = 64
