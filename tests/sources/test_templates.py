"""Templates over columns: what they may reach, and that nothing else is reached by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.errors import ConfigError
from sn37.sample import ChoiceSample, ReferenceSample, TextSample
from sn37.sources.filters import Filter
from sn37.sources.recipes import Recipe
from sn37.sources.templates import MAX_CHARACTERS, MAX_VALUES, Absent, Path, Template

ROW = {
    "question": "What is {this}?",
    "score": 0.5,
    "count": 3,
    "good": True,
    "choices": ["yes", "no"],
    "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}],
    "meta": {"by": {"name": "Ann"}},
    "a column": "spaces",
    "nothing": None,
    "empty": " ",
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{question}", "What is {this}?"),
        ("Q: {question}\nA:", "Q: What is {this}?\nA:"),
        ("{choices[0]} or {choices[1]}", "yes or no"),
        ("{messages[1][content]}", "there"),
        ("{meta[by][name]}", "Ann"),
        ("{a column}", "spaces"),
        ("{ count }", "3"),
        ("{score}{good}", "0.5True"),
        ('{{"output": {count}}}', '{"output": 3}'),
        ("{{question}}", "{question}"),
        ("", ""),
    ],
)
def test_a_template_is_filled_from_the_row(template: str, filled: str) -> None:
    assert Template.parse(template).fill(ROW) == filled


@pytest.mark.parametrize(
    "template",
    ["{question", "question}", "{}", "{ }", "{choices[]}", "{choices[0}", "{choices]0[}", "{[0]}", "{a[b]c}", "{a{b}}"],
)
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"lone|names no column"):
        Template.parse(template)


@pytest.mark.parametrize(
    "template",
    ["{gone}", "{nothing}", "{choices[2]}", "{choices[-1]}", "{choices[one]}", "{choices}", "{meta}", "{question[0]}"],
)
def test_what_a_row_lacks_is_named(template: str) -> None:
    place = str(Path.parse(template[1:-1]))
    with pytest.raises(Absent) as caught:
        Template.parse(template).fill(ROW)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "template",
    ["{question.__class__}", "{question!r}", "{count:>99999999}", "{choices.append}", "{0}", "{messages[0].items}"],
)
def test_python_is_never_reached(template: str) -> None:
    """Attributes, conversions and format specs are names of columns that no dataset has."""
    with pytest.raises((ValueError, Absent)):
        Template.parse(template).fill(ROW)


@given(st.text())
def test_any_text_is_filled_or_refused_and_never_evaluated(text: str) -> None:
    try:
        template = Template.parse(text)
    except ValueError:
        return
    if not template.columns:
        assert template.fill({}) == text.replace("{{", "{").replace("}}", "}")
    else:
        with pytest.raises(Absent):
            template.fill({})


@given(st.text().map(lambda text: text.replace("{", "{{").replace("}", "}}")), st.text())
def test_values_are_put_in_as_they_are(around: str, value: str) -> None:
    plain = around.replace("{{", "{").replace("}}", "}")
    assert Template.parse(f"{around}{{column}}{around}").fill({"column": value}) == plain + value + plain


@pytest.mark.parametrize(
    ("recipe", "sample"),
    [
        ({"text": "{question}"}, TextSample("What is {this}?")),
        ({"prompt": "{question}", "reference": "{choices[0]}"}, ReferenceSample("What is {this}?", "yes")),
        (
            {"prompt": "{question}", "reference": "{count}", "system": "Be {choices[1]}."},
            ReferenceSample("What is {this}?", "3", "Be no."),
        ),
        (
            {"prompt": "{count}?", "choices": "{choices}", "answer": "{choices[1]}"},
            ChoiceSample("3?", ("yes", "no"), "no"),
        ),
        (
            {"prompt": "{count}?", "choices": ["A", "B", "C", "D"], "answer_index": "{count}"},
            ChoiceSample("3?", ("A", "B", "C", "D"), "D"),
        ),
    ],
)
def test_the_templates_given_decide_the_sample(recipe: dict[str, str | list[str]], sample: object) -> None:
    assert Recipe.parse(recipe).sample(ROW) == sample


@pytest.mark.parametrize(
    ("recipe", "lack"),
    [
        ({"text": "{empty}"}, "an empty text"),
        ({"prompt": "{count}", "reference": "{nothing}"}, "no nothing"),
        ({"prompt": "{count}", "choices": "{choices}", "answer": "maybe"}, "no answer among two or more choices"),
        ({"prompt": "{count}", "choices": ["A", "B"], "answer_index": "{count}"}, "no answer among"),
        ({"prompt": "{count}", "choices": ["{good}", "{good}"], "answer": "{good}"}, "no answer among"),
        ({"prompt": "{count}", "choices": "{question}", "answer": "yes"}, "no list at question"),
        ({"text": "{long}"}, f"a text of over {MAX_CHARACTERS} characters"),
        ({"text": "{question}" * 60_000}, f"a text of over {MAX_CHARACTERS} characters"),
        ({"prompt": "{count}", "choices": "{many}", "answer": "1"}, f"a list of over {MAX_VALUES} values"),
        ({"prompt": "{count}", "choices": "{longs}", "answer": "1"}, f"a text of over {MAX_CHARACTERS} characters"),
    ],
)
def test_a_row_that_makes_no_sample_says_what_it_lacks(recipe: dict[str, str | list[str]], lack: str) -> None:
    with pytest.raises(Absent, match=lack):
        long = "x" * (MAX_CHARACTERS + 1)
        Recipe.parse(recipe).sample({**ROW, "long": long, "longs": ["1", long], "many": list(range(MAX_VALUES + 1))})


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"prompt": "{a}"},
        {"text": "{a}", "prompt": "{a}"},
        {"reference": "{a}"},
        {"prompt": "{a}", "choices": "{b}"},
    ],
)
def test_templates_that_make_no_sample_are_refused_with_the_choices(recipe: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected one of these sets: text; prompt, reference; "):
        Recipe.parse(recipe)


def test_a_recipe_without_a_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="no template names a column"):
        Recipe.parse({"text": "always the same"})


@pytest.mark.parametrize(
    ("column", "op", "value", "holds"),
    [
        ("score", "==", 0.5, True),
        ("score", "!=", 0.5, False),
        ("score", "<", 0.5, False),
        ("score", "<=", 0.5, True),
        ("score", ">", 0.4, True),
        ("score", ">=", 0.6, False),
        ("question", "contains", "What", True),
        ("choices", "contains", "maybe", False),
        ("choices[0]", "in", ["yes", "maybe"], True),
        ("choices[1]", "in", ["yes", "maybe"], False),
        ("choices", "min_length", 2, True),
        ("choices", "max_length", 1, False),
        ("messages[0][role]", "==", "user", True),
        ("gone", "!=", "x", False),
        ("nothing", "==", "x", False),
        ("score", "<", "x", False),
        ("count", "min_length", 1, False),
    ],
)
def test_a_filter_holds_for_a_row_that_meets_it(column: str, op: str, value: object, holds: bool) -> None:
    assert Filter.parse({"column": column, "op": op, "value": value}).holds(ROW) is holds


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"column": "a", "op": "=~", "value": "x"}, "has the op '=~'; expected one of"),
        ({"column": "a", "op": "=="}, "has other fields; expected"),
        ({"column": "a", "op": "==", "value": 1, "more": 2}, "has other fields"),
        ({"column": "a", "op": "in", "value": "x"}, "in takes a list"),
        ({"column": "a", "op": "==", "value": ["x"]}, "== takes one plain value"),
        ({"column": "a", "op": "min_length", "value": "x"}, "min_length takes one plain value"),
        ({"column": "[0]", "op": "==", "value": 1}, "names no column"),
    ],
)
def test_a_filter_that_cannot_be_read_is_told(condition: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Filter.parse(condition)
