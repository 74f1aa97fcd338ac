"""A small competition file to change one thing in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sn37.methods import METHODS
from sn37.sources import SOURCES

TEXT = """
id = 42
name = "OWN"
title = "A competition of one's own"

[constraints]
architectures = ["LlamaForCausalLM"]
max_parameters = 1_000_000
max_bytes = 10_000_000
sequence_length = 512
tokenizer = "any"
delay_blocks = 10

[epsilon]
kind = "linear_decay"
start = 0.05
end = 0.01
decay_blocks = 100

[[tasks]]
name = "QUESTIONS"
weight = 0.75
method = { name = "reference_loss" }

[tasks.source]
name = "hub_dataset"
repo = "someone/questions"
prompt = "{question}"
reference = "{answers[0]}"
filters = [{ column = "score", op = ">=", value = 0.5 }]

[[tasks]]
name = "WORDS"
weight = 0.25
source = { name = "word_sorting" }
method = { name = "reference_loss" }
normalization = { kind = "inverse_exponential", ceiling = 40.0 }
"""


@pytest.fixture(autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    """What a test registers is gone after it."""
    known = [(registry, dict(registry._factories)) for registry in (SOURCES, METHODS)]
    yield
    for registry, entries in known:
        registry._factories.clear()
        registry._factories.update(entries)


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small competition, with replacements, into the test's folder."""

    def write(*replacements: tuple[str, str], name: str = "own.toml") -> Path:
        changed = TEXT
        for old, new in replacements:
            assert old in changed
            changed = changed.replace(old, new)
        path = tmp_path / name
        path.write_text(changed)
        return path

    return write
