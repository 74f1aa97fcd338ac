"""if_eval: neighbouring questions under one set of rules, out of macrobench or any hub dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from sn37.clock import generator
from sn37.errors import DataFault
from sn37.ifeval import conflict, instruction, interesting_words, rule_of
from sn37.sample import InstructionSample, digest, from_record, to_record
from sn37.sources import SOURCES, Context
from sn37.sources.questions import question_and_answer

TRUSTED = "5Trusted"


@dataclass
class Tables:
    """Datasets held in memory, keyed by (repo, config, split)."""

    tables: dict[tuple[str, str, str], list[dict[str, Any]]]
    asked: list[Sequence[int]] = field(default_factory=list)

    def configs(self, repo: str) -> list[str]:
        return sorted({config for name, config, _ in self.tables if name == repo})

    def num_rows(self, repo: str, config: str, split: str) -> int:
        return len(self.tables[repo, config, split])

    def rows(
        self, repo: str, config: str, split: str, indices: Sequence[int], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        self.asked.append(tuple(indices))
        table = self.tables[repo, config, split]
        return [{column: table[i][column] for column in columns} for i in indices]


def challenge(i: int, answer: str) -> str:
    return (
        "Here is an example.\nWhat is one? A. one B. two C. three D. four\nAnswer: A\n\n"
        f"[Input Question] Which is number {i}?\nA. wrong one\nB. {answer}\nC. wrong two\nD. wrong three\n"
    )


def macrobench(rows: int = 60, configs: int = 3) -> Tables:
    repo = "macrocosm-os/macrobench-bittensor-01"
    return Tables(
        {
            (repo, f"2025{c}", f"2025{c}"): [
                {
                    "challenge": challenge(100 * c + i, f"osmosis membrane {c}x{i}"),
                    "reference": "B",
                    "hotkey": TRUSTED,
                }
                for i in range(rows)
            ]
            for c in range(configs)
        }
    )


def context(tables: Tables, seed: int = 7) -> Context:
    nothing: Any = None
    return Context(
        generator(seed, "IF_EVAL_V2"),
        datetime(2025, 1, 1, tzinfo=UTC),
        tables,
        nothing,
        lambda netuid, stake: frozenset({TRUSTED}),
        nothing,
    )


def drawn(tables: Tables, seed: int = 7, **args: Any) -> list[Any]:
    return SOURCES["if_eval"](**args)(context(tables, seed))


def question_of(prompt: str) -> str:
    return prompt.partition("\n\nYour answer must")[0]


def test_each_sample_pairs_two_neighbouring_questions_with_one_set_of_rules() -> None:
    samples = drawn(macrobench())
    assert len(samples) == 40
    for sample, following in pairwise(samples):
        assert isinstance(sample, InstructionSample)
        assert question_of(sample.prompts[1]) == question_of(following.prompts[0])
    for sample in samples:
        for prompt, data in zip(sample.prompts, sample.rules, strict=True):
            rules = tuple(rule_of(rule) for rule in data)
            assert 2 <= len(rules) <= 5
            assert prompt == instruction(question_of(prompt), rules)
            assert not any(conflict(a, b) for i, a in enumerate(rules) for b in rules[:i])
            assert {rule["keyword"] for rule in data if "keyword" in rule} <= set(interesting_words("osmosis membrane"))
        assert [rule["rule"] for rule in sample.rules[0]] == [rule["rule"] for rule in sample.rules[1]]


def test_version_1_has_one_to_four_of_the_first_seven_rules() -> None:
    samples = drawn(macrobench(), version=1)
    assert {len(sample.rules[0]) for sample in samples} == {1, 2, 3, 4}
    assert not {rule["rule"] for sample in samples for rule in sample.rules[0]} & {"bullets", "ending", "quotation"}


def test_a_sample_survives_its_record() -> None:
    for sample in drawn(macrobench(), count=10):
        assert from_record(to_record(sample)) == sample


def test_the_seed_alone_decides() -> None:
    assert digest(drawn(macrobench())) == digest(drawn(macrobench()))
    assert digest(drawn(macrobench(), 7)) != digest(drawn(macrobench(), 8))


def test_answers_of_one_word_and_questions_seen_before_are_left_out() -> None:
    repo = ("org/qa", "default", "train")
    rows: list[dict[str, Any]] = [{"question": f"Why {i}?", "answer": f"because of osmosis {i}"} for i in range(20)]
    odd: list[dict[str, Any]] = [
        {"question": "One word?", "answer": "Paris"},
        {"question": "Why 3?", "answer": "because of osmosis again"},
        {"question": None, "answer": "no question at all"},
        {"question": "Number?", "answer": 4},
        {"question": "x" * 20_001, "answer": "far too long"},
    ]
    here = context(Tables({repo: rows + odd}))
    samples = SOURCES["if_eval"](repo="org/qa", count=30, page_rows=5)(here)
    questions = {question_of(prompt) for sample in samples for prompt in sample.prompts}  # type: ignore[union-attr]
    assert questions == {f"Why {i}?" for i in range(20)}
    assert len(samples) == 19
    assert here.dropped == {
        "answers of one word": 1,
        "questions seen before": 1,
        "rows without a question and an answer": 2,
        "questions of over 20000 characters": 1,
    }


def test_any_dataset_s_columns_serve() -> None:
    rows = [{"instruction": f"Explain {i}", "output": f"osmosis moves water {i}", "other": 1} for i in range(50)]
    tables = Tables({("org/alpaca", "main", "test"): rows})
    args = {"config": "main", "split": "test", "question": "instruction", "answer": "output"}
    samples = drawn(tables, repo="org/alpaca", count=12, **args)
    assert len(samples) == 12
    assert question_of(samples[0].prompts[0]).startswith("Explain ")


@pytest.mark.parametrize("rows", [0, 5])
def test_too_few_questions_are_a_data_fault(rows: int) -> None:
    tables = Tables({("org/qa", "default", "train"): [{"question": f"Q{i}?", "answer": "a b"} for i in range(rows)]})
    with pytest.raises(DataFault, match=f"org/qa gave {max(rows - 1, 0)} samples; expected 10 or more"):
        drawn(tables, repo="org/qa")


def test_strangers_questions_are_not_asked() -> None:
    tables = macrobench()
    for table in tables.tables.values():
        for row in table:
            row["hotkey"] = "5Stranger"
    with pytest.raises(DataFault, match="gave 0 samples"):
        drawn(tables)


@pytest.mark.parametrize(
    ("text", "letter", "expected"),
    [
        ("Why?\nA. one\nB. two words\nC. three\nD. four", "B", ("Why?", "two words")),
        ("Why? A. one B. two C. three D. four five\nanswer:", "D", ("Why?", "four five")),
        ("Why?\nA) one\nB) two\nC) three\nD) four\n", "A", ("Why?", "one")),
        ("What is vitamin A. Or B. say?\nA. x\nB. y\nC. z\nD. w", "C", ("What is vitamin A. Or B. say?", "z")),
        ("Old? A. 1 B. 2 C. 3 D. 4 [Input Question]: New? A. 5 B. 6 C. 7 D. 8", "A", ("New?", "5")),
        ("[Input Question]\n\nTwo\nlines?\n A. 5\n B. 6\n C. 7\n D. 8", "B", ("Two\nlines?", "6")),
        ("Why?\nA. one\nB. two\nC. three", "A", None),
        ("Why?\nB. one\nA. two\nC. three\nD. four", "A", None),
        ("\nA. one\nB. two\nC. three\nD. four", "A", None),
        ("Why?\nA. one\nB. \nC. three\nD. four", "A", None),
        ("Why?", "A", None),
        ("", "A", None),
    ],
)
def test_the_question_and_the_answer_of_a_challenge(text: str, letter: str, expected: Any) -> None:
    assert question_and_answer(text, letter) == expected


def test_a_challenge_made_of_choices_is_read_in_no_time() -> None:
    assert question_and_answer("A. B. C. D. " * 20_000, "A") is None
