"""Small datasets in the schemas of the public ones, for the embedded hub: made anew, the same every time.

Texts are the standard library's own documentation; questions, problems and programs are generated
from them. Each dataset also holds rows that its source must leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from sn37.devnet.datasets import Dataset, Rows
from sn37.devnet.texts import standard_texts

EXAMPLE = """[Example 1]
Which of these is a season?
A. Monday
B. winter
C. north
D. seven
Answer: B

[Input Question]
"""
"""The worked example that a challenge may open with."""


def all_datasets(validators: Sequence[str], as_of: datetime, outsiders: Sequence[str] = ()) -> tuple[Dataset, ...]:
    """Every dataset that a public competition reads. validators: hotkeys trusted on subnet 1."""
    return (macrobench(validators, as_of, outsiders), fineweb(), synthetic_1_sft(), codeforces_cots())


@cache
def prose() -> tuple[str, ...]:
    """Texts of some 250 characters."""
    return standard_texts(250).train


def macrobench(
    validators: Sequence[str], as_of: datetime, outsiders: Sequence[str] = (), periods: int = 12, rows: int = 100
) -> Dataset:
    """Subnet 1's questions: one config a period, its split named like it; every ninth row is by one of
    `outsiders`, where there are any, every eleventh has no letter for an answer."""
    draw = Random("macrobench")
    texts = prose()
    parts = {}
    for period in range(periods):
        day = as_of.astimezone(UTC) - timedelta(days=periods - period)
        found = []
        for number in range(rows):
            asked, letter = question(draw, texts)
            found.append(
                {
                    "id": f"{period:03d}-{number:05d}",
                    "hotkey": draw.choice(outsiders if outsiders and number % 9 == 8 else validators),
                    "timestamp": day + timedelta(minutes=number),
                    "challenge": (EXAMPLE if number % 2 else "") + asked,
                    "reference": "E" if number % 11 == 10 else letter,
                }
            )
        name = f"{day:%Y%m%d}"
        parts[name, name] = found
    return Dataset("macrocosm-os/macrobench-bittensor-01", parts)


def question(draw: Random, texts: Sequence[str]) -> tuple[str, str]:
    """A challenge: which of four phrases continues a sentence; and the letter of the right one."""
    sentences = [draw.choice(texts).split() for _ in range(4)]
    begin = draw.randrange(3, 9)
    stem, right = sentences[0][:begin], " ".join(sentences[0][begin : begin + 4])
    phrases = [right] + [" ".join(words[begin + 2 : begin + 6]) for words in sentences[1:]]
    order = draw.sample(range(4), 4)
    lines = [f"{letter}. {phrases[i]}" for letter, i in zip("ABCD", order, strict=True)]
    asked = f"Which words continue this sentence: {' '.join(stem)}"
    return "\n".join([asked, *lines, "Answer: "]), "ABCD"[order.index(0)]


def fineweb(dumps: int = 2, rows: int = 500) -> Dataset:
    """Web text: one config a dump, and `default` with the rows of all."""
    texts = prose()
    parts: dict[tuple[str, str], Rows] = {}
    for dump in range(dumps):
        name = f"CC-MAIN-20{13 + dump}-20"
        parts[name, "train"] = [
            {
                "text": texts[(dump * rows + number) % len(texts)],
                "id": f"<urn:{name}:{number}>",
                "dump": name,
                "url": f"https://example.org/{dump}/{number}",
                "score": 2.0 + number % 30 / 10,
            }
            for number in range(rows)
        ]
    views = {("default", "train"): "CC-MAIN-*/train-*.parquet"}
    return Dataset("HuggingFaceFW/fineweb-edu-score-2", parts, views=views)


def synthetic_1_sft(rows: int = 600) -> Dataset:
    """Reasoning over sums and small programs; every seventh row is of a task type that is not used."""
    draw = Random("synthetic-1")
    found = []
    for number in range(rows):
        kind = ("verifiable_math", "code_output_prediction")[number % 2] if number % 7 else "llm_judgeable"
        asked, reply = _program(draw) if kind == "code_output_prediction" else _sum(draw)
        found.append(
            {
                "response_id": f"r_{number:06d}",
                "problem_id": f"{kind}_{number:06d}",
                "task_type": kind,
                "score": 1.0,
                "messages": _exchange(asked, reply),
            }
        )
    return Dataset("PrimeIntellect/SYNTHETIC-1-SFT-Data", {("default", "train"): found}, 250, 25)


def codeforces_cots(rows: int = 400) -> Dataset:
    """Contest problems and replies; every eighth row has three messages, every ninth is far too long."""
    draw = Random("codeforces")
    found = []
    for number in range(rows):
        asked, reply = _contest(draw)
        messages = _exchange(asked, reply * (2_000 if number % 9 == 8 else 1))
        if number % 8 == 7:
            messages.append({"content": "Thank you.", "role": "user"})
        found.append({"id": f"{1000 + number}/A", "prompt": asked, "generation": reply, "messages": messages})
    return Dataset("open-r1/codeforces-cots", {("solutions", "train"): found}, 200, 20)


def _sum(draw: Random) -> tuple[str, str]:
    numbers = [draw.randrange(2, 60) for _ in range(draw.randrange(2, 5))]
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total} + {number} = {total + number}.")
        total += number
    asked = f"Find {' + '.join(map(str, numbers))}. Give the final answer in \\boxed{{}}."
    return asked, f"<think>\nAdd from the left. {' '.join(steps)}\n</think>\n\nThe sum is \\boxed{{{total}}}."


def _program(draw: Random) -> tuple[str, str]:
    count, step = draw.randrange(2, 7), draw.randrange(1, 9)
    values = [i * step for i in range(count)]
    code = f"print([i * {step} for i in range({count})])"
    asked = f'What does this program print? Answer as {{"output": "..."}}.\n\n{code}'
    trace = " ".join(f"For i = {i} the value is {value}." for i, value in enumerate(values))
    return asked, f'<think>\n{trace}\n</think>\n\n{{"output": "{values}"}}'


def _contest(draw: Random) -> tuple[str, str]:
    values = [draw.randrange(1, 100) for _ in range(draw.randrange(3, 7))]
    asked = f"You are given the list {values}. Write a program that prints its largest element."
    trace = " ".join(f"{value} is at most {max(values)}." for value in values)
    program = f"```python\nprint(max({values}))\n```"
    return asked, f"<think>\nThe answer is the maximum. {trace}\n</think>\n\n{program}\n"


def _exchange(asked: str, reply: str) -> list[dict[str, str]]:
    return [{"content": asked, "role": "user"}, {"content": reply, "role": "assistant"}]
