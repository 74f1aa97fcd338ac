"""text_loss, reference_loss and choice_likelihood against losses computed by hand."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from sn37.errors import ConfigError, DataFault, ModelFault
from sn37.methods import METHODS, TokenizerFault, apply, rows_of
from sn37.methods.tokens import chat_prompt
from sn37.sample import ChoiceSample, ReferenceSample, TextSample

LOSS_METHODS = ("text_loss", "reference_loss")


def by_hand(engine: Any, tokens: list[int], start: int) -> float:
    total = 0.0
    for i in range(start, len(tokens)):
        logits = engine.logits(tuple(tokens[:i]))
        total -= logits[tokens[i]] - math.log(sum(math.exp(x) for x in logits))
    return total


@pytest.fixture
def engine(tokenizer: Any, tools: Any) -> Any:
    return tools.engine(tools.bigram(len(tokenizer)))


def samples_of(method: str, texts: tuple[str, ...]) -> list[Any]:
    if method == "text_loss":
        return [TextSample(text) for text in texts]
    return [ReferenceSample("Go on.", text) for text in texts]


def test_reference_loss_is_the_mean_of_the_mean_losses_of_the_references(
    tokenizer: Any, engine: Any, tools: Any
) -> None:
    samples = [
        ReferenceSample("What rose?", tools.prose[0]),
        ReferenceSample("Who burns?", "A lamp.", system="Be brief."),
    ]
    expected = []
    for sample in samples:
        head = [{"role": "system", "content": sample.system}] if sample.system else []
        prompt = tokenizer.apply_chat_template(
            [*head, {"role": "user", "content": sample.prompt}], add_generation_prompt=True, return_dict=False
        )
        reference = tokenizer.encode(sample.reference, add_special_tokens=False)
        expected.append(by_hand(engine, prompt + reference, len(prompt)) / len(reference))
    result = apply(METHODS["reference_loss"](), samples, tokenizer, engine)
    assert result.values == pytest.approx(expected, rel=1e-12)
    assert result.score == pytest.approx(sum(expected) / 2, rel=1e-12)
    assert result.samples == ()


def test_text_loss_counts_every_token_but_the_first(tokenizer: Any, engine: Any, tools: Any) -> None:
    expected = []
    for text in tools.prose:
        tokens = tokenizer.encode(text, add_special_tokens=False)
        expected.append(by_hand(engine, tokens, 1) / (len(tokens) - 1))
    result = apply(METHODS["text_loss"](sanity_check=False), samples_of("text_loss", tools.prose), tokenizer, engine)
    assert result.values == pytest.approx(expected, rel=1e-12)
    assert result.score == pytest.approx(sum(expected) / len(expected), rel=1e-12)


@pytest.mark.parametrize("method", LOSS_METHODS)
@pytest.mark.parametrize("unit", ["nats_per_token", "bits_per_byte"])
def test_a_sample_s_value_does_not_depend_on_the_others(
    method: str, unit: str, tokenizer: Any, engine: Any, tools: Any
) -> None:
    args = {"unit": unit} | ({"sanity_check": False} if method == "text_loss" else {})
    together = apply(METHODS[method](**args), samples_of(method, tools.prose), tokenizer, engine)
    for i, text in enumerate(tools.prose):
        alone = apply(METHODS[method](**args), samples_of(method, (text,)), tokenizer, engine)
        assert alone.values == (together.values[i],)


@pytest.mark.parametrize("method", LOSS_METHODS)
@pytest.mark.parametrize("merges", [0, 300, 400])
def test_bits_per_byte_is_the_code_length_over_the_bytes_of_the_text(method: str, merges: int, tools: Any) -> None:
    tokenizer = tools.build(merges=merges)
    texts = (*tools.prose, "é€\U0001f600")
    args = {"sanity_check": False} if method == "text_loss" else {}
    engine = tools.engine(tools.uniform(len(tokenizer)))
    result = apply(METHODS[method](unit="bits_per_byte", **args), samples_of(method, texts), tokenizer, engine)
    tokens = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    sizes = [len(text.encode()) for text in texts]
    expected = [n * math.log2(len(tokenizer)) / size for n, size in zip(tokens, sizes, strict=True)]
    assert result.values == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_bits_per_byte_of_a_text_cut_short_counts_the_bytes_that_are_left(method: str, tools: Any) -> None:
    tokenizer = tools.build(merges=0)  # one token a byte
    args = {"sanity_check": False} if method == "text_loss" else {}
    text = "a" * 20 + "é" * 20  # 60 bytes; 49 fit, of which the last is half a letter
    engine = tools.engine(tools.uniform(len(tokenizer)), sequence_length=50)
    result = apply(METHODS[method](unit="bits_per_byte", **args), samples_of(method, (text,)), tokenizer, engine)
    assert result.details[0]["tokens"] == 49
    assert result.values == pytest.approx([49 * math.log2(len(tokenizer)) / 48], rel=1e-12)


def test_bits_per_byte_of_a_text_needs_a_token_before_the_first(tools: Any) -> None:
    tokenizer = tools.build()
    tokenizer.bos_token = tokenizer.eos_token = None
    engine = tools.engine(tools.uniform(len(tokenizer)))
    with pytest.raises(TokenizerFault, match="neither opening nor end-of-text"):
        apply(METHODS["text_loss"](unit="bits_per_byte"), samples_of("text_loss", tools.prose), tokenizer, engine)


def test_a_prompt_too_long_loses_its_beginning_never_the_reference(tokenizer: Any) -> None:
    sample = ReferenceSample("word " * 100 + "end", "the reference")
    whole = chat_prompt(tokenizer, sample.prompt)
    reference = tuple(tokenizer.encode(sample.reference, add_special_tokens=False))
    (row,) = METHODS["reference_loss"]().rows([sample], tokenizer, 40)
    assert len(row.tokens) == 40
    assert row.tokens[row.start :] == reference
    assert row.tokens[: row.start] == whole[-row.start :]


def test_a_reference_that_fills_the_sequence_keeps_its_beginning_after_the_prompt_s_last_token(tokenizer: Any) -> None:
    sample = ReferenceSample("Say it.", "word " * 100)
    reference = tuple(tokenizer.encode(sample.reference, add_special_tokens=False))
    (row,) = METHODS["reference_loss"]().rows([sample], tokenizer, 40)
    assert row.tokens == (chat_prompt(tokenizer, sample.prompt)[-1], *reference[:39])
    assert row.start == 1


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_rows_fit_at_every_sequence_length(method: str, tokenizer: Any, tools: Any) -> None:
    for sequence_length in range(2, 60):
        for row in METHODS[method]().rows(samples_of(method, tools.prose), tokenizer, sequence_length):
            assert 1 <= row.start < len(row.tokens) <= sequence_length


def test_samples_over_max_tokens_are_left_out_and_the_others_named(tokenizer: Any, engine: Any, tools: Any) -> None:
    samples = samples_of("reference_loss", ("short", tools.prose[0], "brief"))
    lengths = [len(row.tokens) for row in METHODS["reference_loss"]().rows(samples, tokenizer, 512)]
    result = apply(METHODS["reference_loss"](max_tokens=lengths[1] - 1), samples, tokenizer, engine)
    assert result.samples == (0, 2)
    assert len(result.values) == len(result.details) == 2
    assert apply(METHODS["reference_loss"](max_tokens=lengths[1]), samples, tokenizer, engine).samples == ()
    with pytest.raises(DataFault, match="all 3 samples are longer than max_tokens"):
        apply(METHODS["reference_loss"](max_tokens=2), samples, tokenizer, engine)


def test_tokens_that_a_tokenizer_adds_at_the_ends_are_no_targets(tools: Any) -> None:
    from tokenizers import processors

    plain, padded = tools.build(), tools.build()
    padded.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A" + " </s>" * 50, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    sample = [TextSample(tools.prose[0])]
    (row,) = METHODS["text_loss"]().rows(sample, padded, 512)
    assert row.tokens == (0, *plain.encode(tools.prose[0], add_special_tokens=False))
    reference = samples_of("reference_loss", tools.prose[:1])
    assert METHODS["reference_loss"]().rows(reference, padded, 512) == METHODS["reference_loss"]().rows(
        reference, plain, 512
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", ["text_loss", "reference_loss", "choice_likelihood"])
def test_a_loss_that_is_not_finite_is_the_model_s_fault(method: str, bad: float, tokenizer: Any, tools: Any) -> None:
    class Broken(tools.engine):  # type: ignore[misc, name-defined]
        def losses(self, rows: Any, progress: Any = None) -> list[float]:
            return [1.0] * (len(rows) - 1) + [bad]

    samples: Any = (
        [ChoiceSample("Which?", ("A", "B"), "A")] if method == "choice_likelihood" else samples_of(method, tools.prose)
    )
    args = {"sanity_check": False} if method == "text_loss" else {}
    with pytest.raises(ModelFault, match="expected a finite number"):
        apply(METHODS[method](**args), samples, tokenizer, Broken(tools.uniform(len(tokenizer))))


@pytest.mark.parametrize(
    ("method", "samples", "args", "error", "text"),
    [
        ("reference_loss", [TextSample("x")], {}, ConfigError, "got a TextSample; expected only ReferenceSample"),
        ("text_loss", [ReferenceSample("x", "y")], {}, ConfigError, "expected only TextSample"),
        ("choice_likelihood", [TextSample("x")], {}, ConfigError, "expected only ChoiceSample"),
        ("text_loss", [], {}, DataFault, "got no sample"),
        ("text_loss", [TextSample("a lot")], {"unit": "nats"}, ConfigError, "nats_per_token, bits_per_byte"),
        ("choice_likelihood", [ChoiceSample("q", ("A",), "A")], {"unit": "nats_per_token"}, ConfigError, "nats, bits"),
        ("text_loss", [TextSample("")], {}, DataFault, "no text left of 1"),
        ("text_loss", [TextSample("a lot"), TextSample("half \ud83d")], {}, DataFault, "sample 1 has half a character"),
        ("choice_likelihood", [ChoiceSample("q", ("A", "\ud83d"), "A")], {}, DataFault, "sample 0 has half a"),
        ("reference_loss", [ReferenceSample("x", "")], {}, DataFault, "not empty"),
        ("choice_likelihood", [ChoiceSample("q", ("A", " "), "A")], {}, DataFault, "none of them empty"),
    ],
)
def test_what_does_not_fit_a_method_is_named(
    method: str, samples: Any, args: Any, error: type[Exception], text: str, tokenizer: Any, engine: Any
) -> None:
    with pytest.raises(error, match=text):
        apply(METHODS[method](**args), samples, tokenizer, engine)


def test_the_likeliest_choice_is_the_answer(tokenizer: Any, tools: Any) -> None:
    (likely,) = tokenizer.encode("B", add_special_tokens=False)
    engine = tools.engine(lambda seen: [1.0 if word == likely else 0.0 for word in range(len(tokenizer))])
    samples = [ChoiceSample("Which?", ("A", "B", "C"), answer) for answer in "ABC"]
    result = apply(METHODS["choice_likelihood"](), samples, tokenizer, engine)
    assert result.values == (1.0, 0.0, 1.0)
    assert result.score == pytest.approx(2 / 3)
    assert [detail["answer"] for detail in result.details] == ["B", "B", "B"]


def test_a_tie_between_choices_is_no_answer(tokenizer: Any, tools: Any) -> None:
    engine = tools.engine(tools.uniform(len(tokenizer)))
    samples = [ChoiceSample("Which?", ("A", "B"), answer) for answer in "AB"]
    result = apply(METHODS["choice_likelihood"](), samples, tokenizer, engine)
    assert result.values == (1.0, 1.0)
    assert result.details[0]["answer"] is None


def test_choices_compete_by_their_whole_loss_or_by_their_bytes(tools: Any) -> None:
    tokenizer = tools.build(merges=0)
    likely = tokenizer.encode("yes", add_special_tokens=False)
    logits = [2.0 if word in likely else 0.0 for word in range(len(tokenizer))]
    samples = [ChoiceSample("Well?", ("no", "yes yes"), "no")]
    assert apply(METHODS["choice_likelihood"](), samples, tokenizer, tools.engine(lambda seen: logits)).score == 0
    by_bytes = apply(
        METHODS["choice_likelihood"](unit="bits_per_byte"), samples, tokenizer, tools.engine(lambda seen: logits)
    )
    assert by_bytes.score == 1


def test_choices_of_a_sample_stand_after_the_same_tokens(tokenizer: Any) -> None:
    sample = ChoiceSample("word " * 100, ("a", "a much longer choice than that"), "a")
    first, second = METHODS["choice_likelihood"]().rows([sample], tokenizer, 40)
    assert first.tokens[: first.start] == second.tokens[: second.start]
    assert len(second.tokens) == 40


def forgetful(tools: Any, kind: str) -> Any:
    """A tokenizer that makes its own life easy."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if kind == "all one":
        core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")
    lossy = {
        "lower case": normalizers.Lowercase(),
        "no spaces": normalizers.Replace(" ", ""),
        "no rare words": normalizers.Replace(Regex(RARE), "thing"),
        "nothing": normalizers.Replace(Regex(r"[\s\S]+"), ""),
    }
    return tools.build(normalizer=lossy[kind])


RARE = r"tailor|lamp|inn|Köln|flour"
GUESSED = {"bits_per_byte": 8.0, "nats_per_token": 8 * math.log(2)}


@pytest.mark.parametrize("unit", ["nats_per_token", "bits_per_byte"])
@pytest.mark.parametrize("kind", ["all one", "lower case", "no spaces", "no rare words", "nothing"])
@pytest.mark.parametrize("method", LOSS_METHODS)
def test_texts_that_do_not_come_back_cost_what_guessing_their_bytes_costs(
    method: str, kind: str, unit: str, tools: Any
) -> None:
    tokenizer = forgetful(tools, kind)
    args = {"unit": unit} | ({"sanity_check": False} if method == "text_loss" else {})
    engine = tools.engine(tools.uniform(len(tokenizer)))
    found = apply(METHODS[method](**args), samples_of(method, tools.prose), tokenizer, engine, own_tokenizer=True)
    lost = [kind != "no rare words" or bool(re.search(RARE, text)) for text in tools.prose]
    assert [detail.get("flaw") == "does not decode" for detail in found.details] == lost
    assert {value for value, is_lost in zip(found.values, lost, strict=True) if is_lost} == {GUESSED[unit]}
    assert found.samples == ()


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_a_tokenizer_of_the_competition_that_loses_every_text_is_at_fault(method: str, tools: Any) -> None:
    tokenizer = forgetful(tools, "lower case")
    with pytest.raises(TokenizerFault, match="loses text of every sample"):
        rows_of(METHODS[method](), samples_of(method, tools.prose), tokenizer, 512, own_tokenizer=False)


def inflating(tools: Any, pattern: str, fillers: int) -> Any:
    """A tokenizer that opens texts of a pattern with tokens that decode to nothing."""
    from tokenizers import Regex, decoders, normalizers

    tokenizer = tools.build(merges=0, normalizer=normalizers.Replace(Regex(pattern), "\u0001" * fillers))
    forget = decoders.Replace("\u0001", "")
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), forget])
    return tokenizer


@pytest.mark.parametrize("unit", ["nats_per_token", "bits_per_byte"])
@pytest.mark.parametrize("method", LOSS_METHODS)
def test_a_tokenizer_has_no_say_in_which_samples_count(method: str, unit: str, tools: Any) -> None:
    """Texts that it inflates beyond the sequence cost 8 bits a byte; the others cost what they cost."""
    tokenizer = inflating(tools, "^(?=[AW])", 40)
    args = {"unit": unit} | ({"sanity_check": False} if method == "text_loss" else {})
    engine = tools.engine(tools.uniform(len(tokenizer)), sequence_length=125)
    samples = samples_of(method, tools.prose)
    evil = apply(METHODS[method](**args), samples, tokenizer, engine, own_tokenizer=True)
    honest = apply(METHODS[method](**args), samples, tools.build(merges=0), engine, own_tokenizer=True)
    assert [text[0] in "AW" for text in tools.prose] == [False, True, True, False, False]
    assert evil.samples == honest.samples == ()
    assert [detail.get("flaw") for detail in evil.details] == [None, "too long", "too long", None, None]
    for i in range(len(samples)):
        assert evil.values[i] == (GUESSED[unit] if i in (1, 2) else pytest.approx(honest.values[i]))


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_a_tokenizer_that_blows_up_a_text_is_at_fault(method: str, tools: Any) -> None:
    tokenizer = inflating(tools, "^(?=[AW])", 200)
    with pytest.raises(TokenizerFault, match=r"makes 50\d tokens of 101 bytes of text; expected at most one a byte"):
        METHODS[method]().rows(samples_of(method, tools.prose), tokenizer, 125)


def test_what_does_not_fit_costs_8_bits_a_byte_unless_the_competition_s_own_tokenizer_cuts_it(tools: Any) -> None:
    tokenizer = tools.build(merges=0)
    engine = tools.engine(tools.uniform(len(tokenizer)), sequence_length=50)
    for target, flaw in (("a" * 49, None), ("a" * 50, "too long")):
        loss = METHODS["reference_loss"](unit="bits_per_byte")
        own = apply(loss, [ReferenceSample("Say it.", target)], tokenizer, engine, own_tokenizer=True)
        assert own.details[0].get("flaw") == flaw
        assert own.score == (8.0 if flaw else pytest.approx(math.log2(len(tokenizer))))
        cut = apply(loss, [ReferenceSample("Say it.", target)], tokenizer, engine)
        assert (cut.details[0]["tokens"], cut.score) == (49, pytest.approx(math.log2(len(tokenizer))))


def test_a_text_of_one_token_has_no_target_and_costs_8_bits_a_byte(tools: Any) -> None:
    tokenizer = tools.build()
    engine = tools.engine(tools.uniform(len(tokenizer)))
    loss = METHODS["text_loss"](sanity_check=False)
    found = apply(loss, [TextSample("a"), TextSample("two words")], tokenizer, engine, own_tokenizer=True)
    assert (found.values[0], found.details[0]["flaw"]) == (GUESSED["nats_per_token"], "no target")
    assert found.values[1] == pytest.approx(math.log(len(tokenizer)))


def test_samples_over_max_tokens_are_not_left_out_by_a_model_s_own_tokenizer(tokenizer: Any, engine: Any) -> None:
    samples = samples_of("reference_loss", ("short", "a much longer one than that is"))
    found = apply(METHODS["reference_loss"](max_tokens=20), samples, tokenizer, engine, own_tokenizer=True)
    assert found.samples == ()
    assert found.details[1]["flaw"] == "over max_tokens"


def test_a_token_that_says_everything_says_nothing(tools: Any) -> None:
    """Pieces of ten characters, all of them one token that decodes to every character ten times."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"</s>": 0, "X": 1}, unk_token="X"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]{1,10}"), "isolated")
    core.decoder = decoders.Sequence([decoders.Replace("X", "".join(map(chr, range(32, 127))) * 10), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    engine = tools.engine(lambda seen: [0.0, 50.0])
    for method in LOSS_METHODS:
        args = {"sanity_check": False} if method == "text_loss" else {}
        loss = METHODS[method](unit="bits_per_byte", **args)
        found = apply(loss, samples_of(method, tools.prose), tokenizer, engine, own_tokenizer=True)
        assert found.score == 8.0


def test_a_question_with_a_choice_that_a_tokenizer_cannot_say_has_no_answer(tools: Any) -> None:
    tokenizer = forgetful(tools, "lower case")
    (likely,) = tokenizer.encode("b", add_special_tokens=False)
    engine = tools.engine(lambda seen: [1.0 if word == likely else 0.0 for word in range(len(tokenizer))])
    samples = [ChoiceSample("q", ("a", "b"), "b"), ChoiceSample("q", ("A", "b"), "b")]
    found = apply(METHODS["choice_likelihood"](), samples, tokenizer, engine)
    assert found.values == (0.0, 1.0)
    assert [detail["answer"] for detail in found.details] == ["b", None]


def test_a_model_certain_of_its_tokens_gets_0(tokenizer: Any, tools: Any) -> None:
    """Every method gives a score of 0 or more, which no later step stumbles over."""

    class Certain(tools.engine):  # type: ignore[misc, name-defined]
        def losses(self, rows: Any, progress: Any = None) -> list[float]:
            return [0.0] * len(rows)

    for method in LOSS_METHODS:
        args = {"sanity_check": False} if method == "text_loss" else {}
        for unit in GUESSED:
            loss = METHODS[method](unit=unit, **args)
            engine = Certain(tools.uniform(len(tokenizer)))
            assert apply(loss, samples_of(method, tools.prose), tokenizer, engine).score == 0.0


def test_a_tokenizer_may_open_with_a_blank_and_what_it_composes_costs_8_bits_a_byte(tools: Any) -> None:
    texts = (*tools.prose, "cafe\u0301 \u4eca\u65e5", "] ) >", " two\n\n  lines\t\u2014 ", "ends \n")
    for method in LOSS_METHODS:
        rows = METHODS[method]().rows(samples_of(method, texts), tools.pieces(), 512)  # type: ignore[attr-defined]
        assert [row.flaw for row in rows] == ["does not decode" if "\u0301" in text else "" for text in texts]
