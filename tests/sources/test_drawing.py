"""Which samples count is decided from texts alone, for every source and every model alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from sn37.errors import DataFault
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, Sample, TextSample
from sn37.sources import Context, draw_samples

LONG = "x" * 400_001
SOUND: list[Sample] = [
    TextSample("x" * 400_000),
    ReferenceSample("", "a reply to nothing"),
    ChoiceSample("which?", ("A", "B"), "A"),
    InstructionSample(("one", "two"), ((), ())),
]
TOO_LONG: list[Sample] = [
    TextSample(LONG),
    ReferenceSample(LONG, "a"),
    ReferenceSample("a", LONG),
    ReferenceSample("a", "b", LONG),
    ChoiceSample("a", ("A", LONG), "A"),
    InstructionSample(("a", LONG), ((), ())),
]
EMPTY: list[Sample] = [TextSample(""), TextSample(" \n"), ReferenceSample("a", ""), ChoiceSample("a", ("", "B"), "")]


def given(samples: Sequence[Sample]) -> Callable[[Context], list[Sample]]:
    return lambda context: list(samples)


def test_long_and_empty_texts_are_left_out_for_all_and_counted(make_context: Callable[..., Context]) -> None:
    context = make_context()
    mixed = [*TOO_LONG, *SOUND[:2], *EMPTY, *SOUND[2:]]
    assert draw_samples(given(mixed), context, "TASK") == tuple(SOUND)
    assert context.dropped == {
        "samples with a text of over 400000 characters": len(TOO_LONG),
        "samples with an empty text or reference": len(EMPTY),
    }


@pytest.mark.parametrize("samples", [[], EMPTY, [*TOO_LONG, *EMPTY]])
def test_no_sample_at_all_is_a_data_fault_with_the_reasons(
    samples: list[Sample], make_context: Callable[..., Context]
) -> None:
    with pytest.raises(DataFault, match="the task TASK gave 0 samples; expected 1 or more") as told:
        draw_samples(given(samples), make_context(), "TASK")
    assert ("4 samples with an empty text or reference" in str(told.value)) == bool(samples)
