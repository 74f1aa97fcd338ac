"""Prompts through chat templates, kind and hostile."""

from __future__ import annotations

from typing import Any

import pytest

from sn37.errors import ModelFault
from sn37.methods import TokenizerFault
from sn37.methods.tokens import chat_prompt, decode, encode, end_of_text, opening

ALLOWING_NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
)
DATED = "{{ strftime_now('%d %b %Y, %H:%M') }} {{ messages[0].content }}"


@pytest.fixture
def with_template(tools: Any) -> Any:
    return lambda template: tools.build(template=template)


def test_a_prompt_is_what_transformers_makes_of_the_conversation(tokenizer: Any) -> None:
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who? \n"}]
    expected = tokenizer.apply_chat_template(conversation, add_generation_prompt=True)["input_ids"]
    assert list(chat_prompt(tokenizer, "Who? \n", "Be brief.")) == expected
    assert decode(tokenizer, expected, special=True) == "<|system|>Be brief.</s><|user|>Who? \n</s><|assistant|>"


@pytest.mark.parametrize(
    "template", ["\n\n{{ messages[0].content }}", "  x{% if true %}\n {{ messages[0].content }}{% endif %}\n y{#-#} a "]
)
def test_templates_render_to_the_same_characters_as_by_transformers(template: str, with_template: Any) -> None:
    tokenizer = with_template(template)
    expected = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert decode(tokenizer, chat_prompt(tokenizer, "Who?"), special=True) == expected


def test_a_named_default_template_is_used(with_template: Any, tools: Any) -> None:
    tokenizer = with_template({"default": "one {{ messages[0].content }}", "tool_use": "two"})
    assert decode(tokenizer, chat_prompt(tokenizer, "Who?"), special=True) == "one Who?"


def test_without_a_template_messages_stand_alone(with_template: Any) -> None:
    tokenizer = with_template(None)
    assert decode(tokenizer, chat_prompt(tokenizer, "Who?", "Be brief."), special=True) == "Be brief.\n\nWho?\n\n"


def test_without_a_template_a_prompt_opens_as_the_tokenizer_opens_a_text(with_template: Any) -> None:
    from tokenizers import processors

    tokenizer = with_template(None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert opening(tokenizer) == (0,)
    assert chat_prompt(tokenizer, "Who?") == (0, *encode(tokenizer, "Who?\n\n"))


def test_a_system_message_that_is_refused_goes_before_the_prompt(with_template: Any) -> None:
    tokenizer = with_template(ALLOWING_NO_SYSTEM)
    prompt = chat_prompt(tokenizer, "Who?", "Be brief.")
    assert decode(tokenizer, prompt, special=True) == "<|user|>Be brief.\n\nWho?</s><|assistant|>"


def test_no_template_learns_the_date(with_template: Any) -> None:
    tokenizer = with_template(DATED)
    first = chat_prompt(tokenizer, "Who?")
    assert decode(tokenizer, first, special=True) == "26 Jul 2024, 00:00 Who?"
    defined = with_template(
        "{% if strftime_now is defined %}{{ strftime_now('%B %d, %Y') }}{% endif %} {{ messages[0].content }}"
    )
    assert decode(defined, chat_prompt(defined, "x"), special=True) == "July 26, 2024 x"


def test_a_template_that_no_process_agrees_on_or_that_refuses_is_the_tokenizer_s_fault(with_template: Any) -> None:
    for template, text in (
        ("{{ raise_exception('I refuse') }}", "the chat template fails: TemplateError: I refuse"),
        ("{{ ''.join }}{{ messages[0].content }}", "in two ways"),
        ("{{ '\\ud800' }}{{ messages[0].content }}", "the tokenizer failed at encoding"),
        ("{{ 'x' * 10**11 }}{{ messages[0].content }}", "fails: MemoryError"),
    ):
        with pytest.raises(TokenizerFault, match=text) as caught:
            chat_prompt(with_template(template), "Who?")
        assert len(str(caught.value)) < 400
        assert isinstance(caught.value, ModelFault)


def test_a_template_without_end_is_stopped(with_template: Any) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}"
    with pytest.raises(TokenizerFault, match="takes more than 5 s"):
        chat_prompt(with_template(loop), "Who?")


def test_contents_are_put_in_as_they_are(with_template: Any) -> None:
    """Nothing a template would do to a content is done to it; special characters of templates are none in it."""
    tokenizer = with_template("<|user|>{{ messages[-1].content | trim }}</s>")
    content = "  {{ 1 + 1 }} {% raw %} PLACEHOLDER-FOR-user-TEXT \n"
    assert decode(tokenizer, chat_prompt(tokenizer, content), special=True) == f"<|user|>{content}</s>"


def test_a_panic_of_the_tokenizers_core_is_the_tokenizer_s_fault() -> None:
    class Panic(BaseException):
        """As pyo3 raises it: no Exception."""

    class Panicking:
        chat_template = None
        bos_token_id = eos_token_id = None

        def encode(self, text: str, add_special_tokens: bool = True, **kwargs: Any) -> list[int]:
            raise Panic("index out of bounds")

    with pytest.raises(TokenizerFault, match="failed at encoding a text: Panic: index out of bounds"):
        encode(Panicking(), "text")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_or_a_lack_of_memory_is_not_blamed_on_the_tokenizer(error: type[BaseException]) -> None:
    class Stopped:
        def encode(self, text: str, add_special_tokens: bool = True, **kwargs: Any) -> list[int]:
            raise error

    with pytest.raises(error):
        encode(Stopped(), "text")  # type: ignore[arg-type]


def test_only_the_tokenizer_s_own_end_ends_a_reply(tools: Any) -> None:
    tokenizer = tools.build()
    assert end_of_text(tokenizer) == {tokenizer.eos_token_id}
    tokenizer.eos_token = None
    assert end_of_text(tokenizer) == frozenset()


def test_a_long_text_is_encoded_without_a_word(tools: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tools.build()
    tokenizer.model_max_length = 4
    assert len(encode(tokenizer, "word " * 10)) > 4
    assert not caplog.records
