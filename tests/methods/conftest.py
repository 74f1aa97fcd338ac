"""Real tokenizers, and models small enough to compute by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from sn37.engine.interface import GenerateRow, LossRow, Progress

Logits = Callable[[tuple[int, ...]], Sequence[float]]

PROSE = (
    "The river rose in the night, and by the morning it stood in the gardens. Nobody had seen it so high.",
    "A lamp burned in the window of the mill; the miller counted his sacks and wrote the number in a book.",
    "Where two roads meet there is an inn, and at the inn they tell of a tailor who sewed a coat for the moon.",
    "Take one cup of flour, two eggs and a little milk. Stir until it is smooth, then wait for an hour.",
    "In Köln the café opens at eight. It costs 3,50 € to sit there — the naïve pay more.",
)

CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass
class TableEngine:
    """An engine over any function from the tokens so far to the logits of the next one."""

    logits: Logits
    sequence_length: int = 512
    asked: list[Any] | None = None
    heed_stop: bool = True

    def losses(self, rows: Sequence[LossRow], progress: Progress | None = None) -> list[float]:
        found = []
        for row in rows:
            self._take(row, len(row.tokens), progress)
            found.append(math.fsum(self._loss(row.tokens, i) for i in range(row.start, len(row.tokens))))
        return found

    def generate(self, rows: Sequence[GenerateRow], progress: Progress | None = None) -> list[list[int]]:
        found = []
        for row in rows:
            self._take(row, len(row.tokens) + row.max_new_tokens, progress)
            new: list[int] = []
            while len(new) < row.max_new_tokens:
                token = self._best((*row.tokens, *new), row.repetition_penalty)
                if token in row.eos:
                    break
                new.append(token)
                if self.heed_stop and row.stop is not None and row.stop(new):
                    break
            found.append(new)
        return found

    def _take(self, row: Any, length: int, progress: Progress | None) -> None:
        assert row.tokens and length <= self.sequence_length
        if self.asked is not None:
            self.asked.append(row)
        if progress is not None:
            progress(1, len(row.tokens))

    def _loss(self, tokens: tuple[int, ...], i: int) -> float:
        logits = self.logits(tokens[:i])
        return math.log(math.fsum(math.exp(x) for x in logits)) - logits[tokens[i]]

    def _best(self, seen: tuple[int, ...], penalty: float) -> int:
        logits = list(self.logits(seen))
        for token in set(seen):
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        return logits.index(max(logits))


def uniform(words: int) -> Logits:
    """Every token as likely as any other."""
    return lambda seen: [0.0] * words


def bigram(words: int) -> Logits:
    """A fixed, uneven table of which token follows which."""
    return lambda seen: [(seen[-1] * 31 + word * 17) % 23 / 5 for word in range(words)]


def scripted(replies: Mapping[tuple[int, ...], Sequence[int]], words: int, end: int) -> Logits:
    """After each known prompt its reply, then the token `end` for ever."""

    def logits(seen: tuple[int, ...]) -> list[float]:
        (prompt,) = [known for known in replies if seen[: len(known)] == known]
        place = len(seen) - len(prompt)
        reply = replies[prompt]
        likely = reply[place] if place < len(reply) else end
        return [50.0 if word == likely else 0.0 for word in range(words)]

    return logits


def build(
    *, merges: int = 400, normalizer: Any = None, template: str | None = CHAT, specials: Sequence[str] = ()
) -> Any:
    """A byte-level BPE tokenizer trained on the spot, as transformers wraps it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if normalizer is not None:
        core.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=merges,
        special_tokens=["<s>", "</s>", "<|user|>", "<|system|>", "<|assistant|>", *specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(PROSE, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = template
    return wrapped


def pieces() -> Any:
    """A tokenizer in the manner of SentencePiece: marked blanks, bytes for the unknown, composed letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)
    bytes_known = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "</s>", *bytes_known], show_progress=False, max_token_length=6
    )
    core.train_from_iterator(PROSE, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build()


@pytest.fixture(scope="session")
def tools() -> Any:
    """The builders above, for tests: conftest files cannot be imported by name."""

    class Tools:
        prose = PROSE
        chat = CHAT
        engine = TableEngine
        uniform = staticmethod(uniform)
        bigram = staticmethod(bigram)
        scripted = staticmethod(scripted)
        build = staticmethod(build)
        pieces = staticmethod(pieces)

    return Tools
