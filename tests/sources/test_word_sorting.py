"""word_sorting: distinct common words, sorted."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from sn37.clock import generator
from sn37.ifeval import common_words
from sn37.sample import ReferenceSample, digest
from sn37.sources import SOURCES, Context

PROGRAM = """
from datetime import UTC, datetime
from sn37.clock import generator
from sn37.sample import digest
from sn37.sources import SOURCES, Context
for name in ("word_sorting", "dyck"):
    context = Context(generator(7, "TASK"), datetime(2025, 1, 1, tzinfo=UTC), None, None, None, None)
    print(digest(SOURCES[name]()(context)))
"""


def drawn(name: str, seed: int = 7, **args: Any) -> list[Any]:
    """Samples of a source that asks its context for nothing but chance."""
    nothing: Any = None
    as_of = datetime(2025, 1, 1, tzinfo=UTC)
    return SOURCES[name](**args)(Context(generator(seed, "TASK"), as_of, nothing, nothing, nothing, nothing))


def test_a_sample_is_two_to_twenty_distinct_common_words_and_the_same_sorted() -> None:
    samples = drawn("word_sorting")
    assert len(samples) == 400
    lengths = set()
    for sample in samples:
        assert isinstance(sample, ReferenceSample)
        asked = sample.prompt.partition(": ")[2].split(" ")
        assert sample.reference.split(" ") == sorted(asked)
        assert len(set(asked)) == len(asked)
        assert set(asked) <= set(common_words())
        lengths.add(len(asked))
    assert lengths == set(range(2, 21))


def test_the_count_is_a_choice_of_the_task() -> None:
    assert len(drawn("word_sorting", count=3)) == 3
    assert drawn("word_sorting", count=3) == drawn("word_sorting")[:3]


def test_another_seed_gives_other_words() -> None:
    assert digest(drawn("word_sorting", 7)) != digest(drawn("word_sorting", 8))


def test_fresh_processes_draw_the_same_samples() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    ]
    assert runs[0] == runs[1]
    assert runs[0].split() == [digest(drawn("word_sorting")), digest(drawn("dyck"))]
