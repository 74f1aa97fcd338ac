"""A written competition reads back as the same one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.competition import Competition, EvalTask, Fixed
from sn37.competitions import public_competitions, read_competition, write_competition
from sn37.errors import ConfigError


@pytest.mark.parametrize("competition", public_competitions(), ids=lambda c: f"{c.name}-{c.digest[:6]}")
def test_every_public_competition_is_written_as_it_is(competition: Competition) -> None:
    again = read_competition(write_competition(competition))
    assert again == competition
    assert again.digest == competition.digest


def test_significance_is_written_where_it_is_asked_for_and_changes_the_digest_only_then() -> None:
    plain = public_competitions()[0]
    strict = replace(plain, significance=0.95)
    assert read_competition(write_competition(strict)) == strict
    assert "significance" not in write_competition(plain)
    assert strict.digest != plain.digest
    with pytest.raises(ValueError, match="significance"):
        replace(plain, significance=1.0)


def test_filters_templates_and_lists_are_written_as_they_are(text: str) -> None:
    competition = read_competition(text)
    assert read_competition(write_competition(competition)) == competition


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.floats(0.0, 0.999),
    st.lists(st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_any_text_and_number_is_written_as_it_is(words: str, epsilon: float, numbers: list[float]) -> None:
    args = {
        "repo": "a/b",
        "prompt": "{a}" + words.replace("{", "{{").replace("}", "}}"),
        "reference": "{b}",
        "filters": [{"column": "c", "op": "in", "value": numbers}],
    }
    competition = replace(
        public_competitions()[0],
        title=words,
        epsilon=Fixed(epsilon),
        tasks=(EvalTask("OWN", "hub_dataset", "reference_loss", 1.0, args),),
    )
    again = read_competition(write_competition(competition))
    assert again == competition


def test_what_no_file_could_say_is_refused() -> None:
    competition = replace(public_competitions()[0], tasks=(EvalTask("OWN", "nowhere", "reference_loss", 1.0),))
    with pytest.raises(ConfigError, match="unknown source 'nowhere'"):
        write_competition(competition)
