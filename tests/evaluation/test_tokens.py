"""A sample as a model reads it, token by token: what is shown is what is measured."""

import doctest
import math
import re

import pytest
from small import save_model

import sn37
from sn37.checks.tokenizer import byte_tokenizer, load_tokenizer
from sn37.competition import EvalTask
from sn37.competitions import public
from sn37.errors import ConfigError
from sn37.evaluation import tokens
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SAMPLES = {
    "text_loss": [TextSample("The naïve river <b>rose</b> 🌊\nby night."), TextSample("Nobody slept, it is said.")],
    "reference_loss": [
        ReferenceSample("Where?", "Under the mat."),
        ReferenceSample("Who?", "Zoë.", system="Be brief."),
    ],
    "choice_likelihood": [ChoiceSample("Largest?", ("Paris", "Rome", "Oslo"), "Rome")],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with weights that show, and its own tokenizer with a chat template."""
    folder = save_model(tmp_path_factory.mktemp("models") / "model", 1.0)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(tokens, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("unit", ["nats_per_token", "bits_per_byte"])
@pytest.mark.parametrize("method", ["text_loss", "reference_loss"])
def test_the_losses_of_the_tokens_sum_to_the_loss_of_the_sample(folder, method, unit):
    more = {"sanity_check": False} if method == "text_loss" else {}
    task = EvalTask("TASK", "any", method, 1.0, method_args={"unit": unit, **more})
    result = sn37.evaluate([folder], [task], seed=1, samples={"TASK": SAMPLES[method]}, dtype="float32")
    for sample, value in zip(SAMPLES[method], result.measured["model"].tasks["TASK"].values, strict=True):
        (row,) = sn37.token_losses(folder, sample, task=task, dtype="float32").rows
        text = sample.text if method == "text_loss" else sample.reference
        counted = len(row.nats) if unit == "nats_per_token" else math.log(2) * len(text.encode())
        assert row.loss / counted == pytest.approx(value, rel=1e-6)
        assert text.endswith("".join(row.target)) and len(row.target) == len(row.nats) and min(row.nats) >= 0


def test_the_losses_of_choices_are_those_that_the_answer_is_taken_from(folder):
    (sample,) = SAMPLES["choice_likelihood"]
    task = EvalTask("TASK", "any", "choice_likelihood", 1.0)
    result = sn37.evaluate([folder], [task], seed=1, samples={"TASK": [sample]}, dtype="float32")
    (detail,) = result.measured["model"].tasks["TASK"].details
    rows = sn37.token_losses(folder, sample, dtype="float32").rows
    assert ["".join(row.target) for row in rows] == list(sample.choices)
    assert [row.loss for row in rows] == pytest.approx(detail["nats"], rel=1e-6)


def test_a_prompt_is_shown_as_the_model_sees_it(folder):
    (row,) = sn37.render(SAMPLES["reference_loss"][1], folder).rows
    assert "".join(row.context) == "<|system|>Be brief.<|end|>\n<|user|>Who?<|end|>\n<|assistant|>"
    assert "".join(row.target) == "Zoë." and row.target == ("Z", "o", "", "ë", ".")
    asked = sn37.render(InstructionSample(("One", "Two"), ((), ())), folder)
    assert ["".join(row.context) for row in asked.rows] == [
        f"<|user|>{word}<|end|>\n<|assistant|>" for word in ("One", "Two")
    ]
    choice = EvalTask("TASK", "any", "multiple_choice", 1.0)
    (row,) = sn37.render(SAMPLES["choice_likelihood"][0], folder, task=choice).rows
    assert row.target == () and "".join(row.context).endswith("<|assistant|>")


def test_pieces_join_to_what_all_tokens_decode_to_whatever_the_bytes(folder):
    tokenizer = load_tokenizer(folder)
    text = "naïve 🌊🌊 \N{COMBINING ACUTE ACCENT} e\u0301 漢字"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert "".join(tokens._texts(ids, tokenizer)) == text
    broken = ids[: len(ids) - 1] + [0xFF] * 40  # bytes that are no letter
    assert "".join(tokens._texts(broken, tokenizer)) == tokenizer.decode(broken)


def test_the_views_escape_what_they_show_and_say_how_to_read_it(folder):
    sample = SAMPLES["text_loss"][0]
    shown = sn37.token_losses(folder, sample, dtype="float32")
    page, text = shown._repr_html_(), repr(shown)
    assert "<b>" not in page and re.search(r"&lt;</span>", page) and "&#9166;" in page
    assert page.count(' nats"') == len(shown.rows[0].nats) + 5 and "nats, " in text and "[" in text
    assert re.findall(r"[A-Za-z]\[\d\.\d\d\]", text)
    hostile = sn37.render(TextSample("a\x1b[31mb\r"), folder)
    assert "\x1b" not in repr(hostile) and "\x1b" in "".join(hostile.rows[0].target)
    assert "white-space: pre-wrap" in hostile._repr_html_() and "<u>" in hostile._repr_html_()


def test_a_darker_background_is_a_higher_loss_and_there_is_an_end_to_it():
    shades = [float(re.search(r"2, ([\d.]+)\)", tokens._coloured("a", nats, ""))[1]) for nats in (0, 0.1, 1, 4, 8, 99)]
    assert shades == sorted(shades) and shades[0] == 0 and shades[-1] == shades[-2] == 0.8


def test_what_cannot_be_measured_or_shown_says_why(folder):
    with pytest.raises(ConfigError, match="if_eval reads replies and measures no loss of a text; expected a task of"):
        sn37.token_losses(folder, InstructionSample(("One", "Two"), ((), ())))
    with pytest.raises(ConfigError, match="lets each model bring its own tokenizer; name a model"):
        sn37.render(SAMPLES["text_loss"][0], public("INSTRUCT_8B"))
    sn37.method("by_hand")(lambda samples, tokenizer, engine, *, progress=None: None)
    with pytest.raises(ConfigError, match="by_hand is a function that asks the engine itself"):
        sn37.render(SAMPLES["text_loss"][0], folder, task=EvalTask("T", "any", "by_hand", 1.0))
    del tokens.METHODS._factories["by_hand"]


def test_a_flaw_is_told_in_place_of_losses(folder, monkeypatch):
    monkeypatch.setattr(
        "sn37.methods.text_loss.fitted", lambda tokenizer, text, kept, room: (kept, "does not decode", 9)
    )
    (row,) = sn37.token_losses(folder, SAMPLES["text_loss"][1]).rows
    assert row.nats == () and row.flaw == "not measured: does not decode"
    assert row.flaw in repr(row) and row.flaw in row._repr_html_()
