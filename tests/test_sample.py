import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.sample import (
    ChoiceSample,
    InstructionSample,
    ReferenceSample,
    TextSample,
    digest,
    from_record,
    to_record,
)

RULES = (({"rule": "no_commas"}, {"rule": "at_most_words", "count": 25}), ())

text = st.text(st.characters())
samples = st.one_of(
    st.builds(TextSample, text),
    st.builds(ReferenceSample, text, text, text),
    st.builds(ChoiceSample, text, st.lists(text, max_size=4).map(tuple), text),
    st.builds(InstructionSample, st.tuples(text, text), st.just(RULES)),
)


@given(samples)
def test_a_sample_survives_its_record(sample):
    assert from_record(json.loads(json.dumps(to_record(sample)))) == sample


def test_the_digest_is_the_sha256_of_the_canonical_lines(fresh):
    lines = (
        '{"kind":"text","text":"caf\\u00e9"}\n'
        '{"answer":"A","choices":["A","B"],"kind":"choice","prompt":"?"}\n'
        '{"kind":"reference","prompt":"p","reference":"r","system":""}\n'
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    drawn = [TextSample("caf\u00e9"), ChoiceSample("?", ("A", "B"), "A"), ReferenceSample("p", "r")]
    assert digest(drawn) == expected
    code = f"from sn37.sample import *; from sn37.sample import digest; print(digest({drawn!r}))"
    assert fresh(code) == expected


@given(st.lists(samples, min_size=2, max_size=5))
def test_the_digest_sees_every_sample_and_their_order(drawn):
    assert (digest(drawn) == digest(drawn[::-1])) is (drawn == drawn[::-1])
    assert digest(drawn) != digest(drawn[:-1])
    assert digest(drawn) == digest(from_record(to_record(sample)) for sample in drawn)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, "unknown kind of sample None; expected one of text, reference, choice, instruction"),
        ({"kind": "picture"}, "unknown kind of sample 'picture'"),
        ({"kind": ["text"]}, "unknown kind of sample"),
        ({"kind": "text", "text": "a", "pages": 3, "ink": 1}, "a text sample has no field ink, pages"),
        ({"kind": "choice", "prompt": "?"}, "a choice sample is incomplete: .*choices"),
    ],
)
def test_a_foreign_record_is_refused(record, told):
    with pytest.raises(ValueError, match=told):
        from_record(record)
