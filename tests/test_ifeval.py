"""The rules of if_eval: each on both sides of its border, drawn without conflict, written and read back."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.ifeval import (
    CLOSING_PHRASES,
    RULES,
    VERSIONS,
    common_words,
    conflict,
    draw_rules,
    instruction,
    interesting_words,
    rule_of,
    sentences,
    words_of,
)

PHRASE = CLOSING_PHRASES[0]


def words(n: int) -> str:
    return " ".join(["word"] * n)


def holding(name: str, *replies: str, **fields: Any) -> list[Any]:
    return [pytest.param({"rule": name, **fields}, reply, True, id=f"{name} {reply[:20]!r}") for reply in replies]


def breaking(name: str, *replies: str, **fields: Any) -> list[Any]:
    return [pytest.param({"rule": name, **fields}, reply, False, id=f"not {name} {reply[:20]!r}") for reply in replies]


BORDERS = [
    *holding("at_most_words", "", words(24), words(25), "\n ".join(["a-b"] * 25), n=25),
    *breaking("at_most_words", words(26), " - ".join(["a"] * 14), n=25),
    *holding("at_least_words", words(25), words(26), n=25),
    *breaking("at_least_words", "", words(24), "-".join(["a"] * 30), n=25),
    *holding("at_most_sentences", "", "One", "One.", "One. Two.", "Is it 3.14 or 2.71? Both.", "One...Two", n=2),
    *holding("at_most_sentences", "One! Two? three", "A. B. C. Dee.", "See Mr. Ray. Ask Dr. Lee.", n=2),
    *breaking("at_most_sentences", "One. Two. Three.", "One! Two? Three", "Ah.\nBe.\nSea", "One… Two… 3 boats.", n=2),
    *holding("at_least_sentences", "One. Two.", "One. Two", "Why? So! Well.", '"One." "Two."', "One… (Two)", n=2),
    *breaking("at_least_sentences", "", "One.", "It costs 3.50 in all.", "One... ", "1. One", "One. two.", n=2),
    *breaking("at_least_sentences", "J. K. Rowling wrote it.", "Wait... what?", "See e.g. Paris.", n=2),
    *holding("upper_case", "ALL OF IT.", "É 1", "A"),
    *breaking("upper_case", "", "123", "ALL Of IT", "all"),
    *holding("lower_case", "all of it.", "é 1", "a"),
    *breaking("lower_case", "", "123", "all oF it", "ALL"),
    *holding("no_commas", "", "one; two", "3.50 \u201a \u060c"),
    *breaking("no_commas", ",", "one, two", "3,50"),
    *holding(
        "includes_keyword", "The River rose.", "(river)", "*RIVER*", "ri-ver", "_river_", "ri\u2019ver", keyword="river"
    ),
    *breaking("includes_keyword", "", "rivers", "a driver", "riv er", "ríver", "one-river—two", keyword="river"),
    *breaking("includes_keyword", "river's", "by-the-river", "river/lake", keyword="river"),
    *holding("includes_keyword", "It's", "its", keyword="its"),
    *holding("includes_keyword", "a test-case.", "testcase", keyword="testcase"),
    *breaking("includes_keyword", "a test-case", keyword="test"),
    *holding("repeats_keyword", "river River", "A river; the (RIVER)!", "river, rivers, river", keyword="river", n=2),
    *breaking("repeats_keyword", "", "river", "river river river", "river rivers", "river-river", keyword="river", n=2),
    *holding("avoids_keyword", "", "rivers", "a driver", "by-the-river", keyword="river"),
    *breaking("avoids_keyword", "river", "The RIVER.", "ri-ver", keyword="river"),
    *holding("bullets", "* one\n* two", "So:\n* one\n*two\nend", "*one*\n* two\n - three", " * one\n\t* two", n=2),
    *breaking("bullets", "", "* one", "* one\n* two\n * three", "- one\n- two", "a * b * c", "1 * one\n2 * two", n=2),
    *holding("ending", PHRASE, f"Well. {PHRASE.upper()}", f"x\n{PHRASE}", phrase=PHRASE),
    *breaking("ending", "", f"{PHRASE} Bye.", PHRASE[:-1], PHRASE[1:], phrase=PHRASE),
    *holding("quotation", '"one"', '""', '"one" and "two"'),
    *breaking("quotation", "", '"', "one", '"one', 'one"', "“one”", "'one'"),
]


@pytest.mark.parametrize(("data", "reply", "holds"), BORDERS)
def test_a_rule_holds_on_one_side_of_its_border(data: dict[str, Any], reply: str, holds: bool) -> None:
    assert rule_of(data).holds(reply) is holds


def test_every_rule_has_a_border_in_the_tests() -> None:
    for side in (True, False):
        assert {case.values[0]["rule"] for case in BORDERS if case.values[2] is side} == set(RULES)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No end", 1),
        ("One. Two", 2),
        ("One.Two", 1),
        ("What?! No.", 2),
        ('He said "Go." Then he went.', 2),
        ("* one\n* two", 1),
        ("1. First point.\n2. Second point.", 2),
        ("Wait… what?", 1),
        ("Wait... What?", 2),
        ("At 3.30 p.m. sharp", 1),
        ("J. K. Rowling wrote it.", 1),
        ("It is Ann's. Ask her.", 2),
        ("Vitamin B2. Then C3.", 2),
        ("It is the most. So is this.", 2),
        ("Mr. Ray and Prof. Lee met Ms. May, Jr. Then they left.", 1),
        ("Pens, ink, etc. They cost approx. 5 each, i.e. No. 7.", 1),
        ("He said no. Then he left.", 2),
        ("He said no! Then he left.", 2),
        ("Plan B... Then plan C?! So.", 3),
        ("(One.) [Two.] «Three.» \u2018Four.\u2019 “Five.”", 5),
        ('"Go!". Then he went.', 2),
        ("It rose. 3 boats sank. they say. Éclat.", 3),
        ("One. * Two.", 1),
        ("One.\n\nTwo.  ", 2),
        ("One.Two. ", 1),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert sentences(text) == count


EXAMPLES = {case.values[0]["rule"]: rule_of(case.values[0]) for case in BORDERS}

COUNTS = {"at_most_words", "at_least_words", "at_most_sentences", "at_least_sentences"}
TABLE = {  # protocol 6, row by row
    "at_most_words": {"at_least_words", "at_most_sentences", "at_least_sentences", "bullets", "ending"},
    "at_least_words": {"at_most_words", "at_most_sentences"},
    "at_most_sentences": COUNTS - {"at_most_sentences"} | {"bullets", "ending"},
    "at_least_sentences": {"at_most_words", "at_most_sentences"},
    "upper_case": {"lower_case"},
    "lower_case": {"upper_case"},
    "no_commas": set(),
    "includes_keyword": set(),
    "repeats_keyword": set(),
    "avoids_keyword": set(),
    "bullets": {"at_most_words", "at_most_sentences"},
    "ending": {"at_most_words", "at_most_sentences", "quotation"},
    "quotation": {"ending"},
}


@pytest.mark.parametrize("one", RULES)
@pytest.mark.parametrize("other", RULES)
def test_conflicts_are_the_protocol_s(one: str, other: str) -> None:
    about = {"includes_keyword": "river", "repeats_keyword": "mill", "avoids_keyword": "lamp"}
    first, second = (
        rule_of({**EXAMPLES[name].data, **({"keyword": about[name]} if name in about else {})}) for name in (one, other)
    )
    assert conflict(first, second) is (one == other or other in TABLE[one])
    assert conflict(first, second) is conflict(second, first)


def test_two_rules_about_one_keyword_conflict() -> None:
    includes = rule_of({"rule": "includes_keyword", "keyword": "river"})
    assert conflict(includes, rule_of({"rule": "avoids_keyword", "keyword": "river"}))
    assert not conflict(includes, rule_of({"rule": "avoids_keyword", "keyword": "mill"}))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_survives_json(name: str) -> None:
    rule = EXAMPLES[name]
    assert rule_of(json.loads(json.dumps(rule.data))) == rule


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "unknown rule None; expected one of at_most_words"),
        ({"rule": "rhymes"}, "unknown rule 'rhymes'"),
        ({"rule": ["x"]}, "unknown rule"),
        ({"rule": "bullets"}, r"the rule bullets has \['rule'\]; expected \['n', 'rule'\]"),
        ({"rule": "no_commas", "n": 1}, "the rule no_commas has"),
        ({"rule": "bullets", "n": 0}, "n of the rule bullets is 0"),
        ({"rule": "bullets", "n": True}, "n of the rule bullets is True"),
        ({"rule": "bullets", "n": 2.0}, "n of the rule bullets is 2.0"),
        ({"rule": "repeats_keyword", "keyword": "river", "n": "2"}, "n of the rule repeats_keyword"),
        ({"rule": "includes_keyword", "keyword": "River"}, "one word in lower case"),
        ({"rule": "includes_keyword", "keyword": "two words"}, "one word in lower case"),
        ({"rule": "includes_keyword", "keyword": 3}, "one word in lower case"),
        ({"rule": "ending", "phrase": " "}, "phrase of the rule ending"),
    ],
)
def test_data_that_is_no_rule_is_named(data: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rule_of(data)


@pytest.mark.parametrize("name", RULES)
def test_a_prompt_says_everything_a_reply_is_judged_by(name: str) -> None:
    rule = EXAMPLES[name]
    for field, value in rule.data.items():
        if field != "rule":
            assert str(value) in rule.prompt


def test_an_instruction_lists_the_rules_after_the_question() -> None:
    rules = (EXAMPLES["no_commas"], rule_of({"rule": "bullets", "n": 1}))
    assert instruction("Why?", rules) == (
        "Why?\n\nYour answer must follow each of these rules:\n"
        "1. Use no commas.\n2. Write exactly 1 bullet point; a bullet point is a line that starts with *."
    )


ANSWERS = st.text(alphabet="abcdefghij ,.-'", max_size=60) | st.sampled_from(
    [
        "Mitochondria synthesize adenosine triphosphate through oxidative phosphorylation.",
        "It is the water in the river",
        "the of and",
        "",
        "Photosynthesis",
    ]
)


@given(st.integers(0, 2**32), st.tuples(ANSWERS, ANSWERS), st.sampled_from(sorted(VERSIONS)))
def test_drawn_rules_never_conflict(seed: int, answers: tuple[str, str], version: int) -> None:
    names, fewest, most = VERSIONS[version]
    both = draw_rules(random.Random(seed), answers, version)
    for rules, answer in zip(both, answers, strict=True):
        assert fewest <= len(rules) <= most
        assert not any(conflict(one, other) for i, one in enumerate(rules) for other in rules[:i])
        assert {rule.name for rule in rules} <= set(names)
        keywords = [rule.data["keyword"] for rule in rules if "keyword" in rule.data]
        assert len(set(keywords)) == len(keywords)
        assert set(keywords) <= set(interesting_words(answer))
    # one set of rules: only the keywords differ
    kept = [[{**rule.data, "keyword": None} for rule in rules] for rules in both]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_every_rule_and_every_count_of_a_version_is_drawn(version: int) -> None:
    answers = (
        "Mitochondria synthesize adenosine triphosphate.",
        "Chlorophyll absorbs photons within thylakoid membranes.",
    )
    drawn = [draw_rules(random.Random(seed), answers, version)[0] for seed in range(600)]
    names, fewest, most = VERSIONS[version]
    assert {rule.name for rules in drawn for rule in rules} == set(names)
    assert {len(rules) for rules in drawn} == set(range(fewest, most + 1))
    seen = {name: {rule.data["n"] for rules in drawn for rule in rules if rule.name == name} for name in COUNTS}
    assert seen == {
        "at_most_words": {25, 30, 35, 40, 45},
        "at_least_words": {25, 30, 35, 40, 45},
        "at_most_sentences": {1, 2, 3},
        "at_least_sentences": {2, 3},
    }


def test_version_1_is_the_first_seven_rules() -> None:
    assert VERSIONS[1] == (tuple(RULES)[:7], 1, 4)
    assert tuple(RULES)[6] == "no_commas"
    assert VERSIONS[2] == (tuple(RULES), 2, 5)
    with pytest.raises(ValueError, match="version is 3; expected one of 1, 2"):
        draw_rules(random.Random(0), ("", ""), 3)


def test_the_same_generator_draws_the_same_rules() -> None:
    answers = ("Mitochondria synthesize triphosphate.", "Chlorophyll absorbs photons.")
    assert draw_rules(random.Random(7), answers) == draw_rules(random.Random(7), answers)


@pytest.mark.parametrize("phrase", CLOSING_PHRASES)
def test_a_closing_phrase_stands_against_no_other_rule(phrase: str) -> None:
    assert "," not in phrase
    assert '"' not in phrase
    assert not interesting_words(phrase)


def test_interesting_words_are_those_that_english_uses_rarely() -> None:
    text = "The mitochondria's membranes are, in studies, used by cells: Mitochondria! 42 ATP"
    assert interesting_words(text) == ["membranes"]
    assert interesting_words("It happened because people walked and were running smoothly") == []
    assert interesting_words("") == []


def test_keywords_are_words_as_they_stand_and_never_fragments() -> None:
    text = "Photosynthesis doesn't need chlorophyll-free stroma, (osmosis) thylakoids. co2 Ångström Grana"
    assert interesting_words(text) == ["photosynthesis", "grana"]


def test_words_are_compared_in_lower_case_without_punctuation() -> None:
    assert words_of("It's a well-known Fact—said _he_, (twice)! … 3.5€ +1") == [
        "its", "a", "wellknown", "factsaid", "he", "twice", "35€", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("piece", ["." * 200_000 + "x", '."' * 100_000, ". " * 100_000, "a." * 100_000, '"' * 200_000])
def test_a_long_reply_is_judged_in_time_linear_in_its_length(piece: str) -> None:
    began = time.process_time()
    sentences(piece)
    words_of(piece)
    assert time.process_time() - began < 2


def test_common_words_are_distinct_sorted_and_of_three_letters_or_more() -> None:
    found = common_words()
    assert list(found) == sorted(set(found))
    assert len(found) > 1_000
    assert all(len(word) >= 3 and word.isascii() and word.isalpha() and word.islower() for word in found)
