"""What is taken from a chat template, kind and hostile, without the processes that it runs in."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from sn37.methods.chat_template import PLAIN, STRUCTURES, Frame, _rendered
from sn37.sources import SOURCES, Context

LAST = "{{ messages[-1].content }}"
ALL = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def user_frame(template: str, **special_tokens: str) -> list[str] | str:
    return _rendered(template, special_tokens)[0]


def test_a_frame_is_the_text_around_the_messages() -> None:
    with_system = _rendered(
        "{{ bos_token }}" + ALL + "{% if add_generation_prompt %}[me]{% endif %}", {"bos_token": "<s>"}
    )
    assert with_system == [["<s>[user]", "[me]"], ["<s>[system]", "[user]", "[me]"]]
    assert Frame(("<s>[system]", "[user]", "[me]")).prompt("S", "U") == "<s>[system]S[user]U[me]"


def test_without_a_template_messages_stand_alone() -> None:
    assert [PLAIN[roles].prompt(*"SU"[-len(roles) :]) for roles in STRUCTURES] == ["U\n\n", "S\n\nU\n\n"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ raise_exception('I refuse') }}", "fails: TemplateError: I refuse"),
        ("{% for %}", "fails: TemplateSyntaxError"),
        ("{{ messages[7].content }}", "fails: UndefinedError"),
        ("{{ 1 // 0 }}", "fails: ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "fails: SecurityError"),
        ("{% include '/etc/passwd' %}", "fails: TypeError: no loader"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: RecursionError"),
        ("{{ range(10**9) | list }}", "fails: OverflowError"),
        ("{{ 'x' * 100_000 }}" + LAST, "adds 100000 characters to its messages; expected at most 65536"),
        ("{{ range(10_000) | random }}" + LAST, "in two ways"),
        ("{{ lipsum() }}" + LAST, "in two ways"),
        ("{{ [range(10_000)] | map('random') | join }}" + LAST, "in two ways"),
        ("{% if messages[0].content | length > 60 %}long{% endif %}" + LAST, "in two ways"),
        ("{% if '?' in messages[0].content %}A{% endif %}" + LAST, "in two ways"),
        (LAST + "{{ messages[-1].content | length }}", "in two ways"),
        (LAST + "{{ messages[-1].content[0] }}", "in two ways"),
        ("{{ messages[-1].content.split() | sort | join(' ') }} " + LAST, "has the user message 2 times"),
        (LAST + LAST, "has the user message 2 times"),
        ("", "has the user message 0 times"),
        ("{{ messages[-1].content | upper }}", "has the user message 0 times"),
        ("{{ messages[-1].content.split() | join(' ') }}", "has the user message 0 times"),
    ],
)
def test_a_template_that_is_not_constant_around_its_messages_has_no_frame(template: str, text: str) -> None:
    found = user_frame(template)
    assert isinstance(found, str)
    assert text in found
    assert len(found) <= 200


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for m in messages|reverse %}{{ m.content }}{% endfor %}", "before others; expected the order"),
        (LAST, "has the system message 0 times"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + LAST, "no system"),
    ],
)
def test_a_template_may_have_a_frame_for_prompts_without_a_system_message_only(template: str, text: str) -> None:
    user, system = _rendered(template, {})
    assert user == ["", ""]
    assert isinstance(system, str)
    assert text in system


@pytest.mark.parametrize(
    ("template", "user", "system"),
    [
        ("a{{ messages[-1].content.strip() | trim }}b", ["a", "b"], "has the system message 0 times"),
        (  # as Llama 3 has it
            "{%- set loop_messages = messages %}{%- if messages[0]['role'] == 'system' %}"
            "{%- set system_message = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}"
            "{%- else %}{%- set system_message = '' %}{%- endif %}{{- bos_token + '<|sys|>\n' + system_message }}"
            "{%- for m in messages %}{{- '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|me|>' }}{%- endif %}",
            ["<s><|sys|>\n<|user|>", "<|end|><|me|>"],
            ["<s><|sys|>\n", "<|user|>", "<|end|><|me|>"],
        ),
        (  # as Mistral has it
            "{%- if messages[0].role == 'system' %}{%- set s = messages[0].content %}{%- endif %}"
            "{{- bos_token }}{%- for m in messages if m.role == 'user' %}"
            "{{- '[INST] ' + (s + '\n\n' if s is defined else '') + m.content + '[/INST]' }}{%- endfor %}",
            ["<s>[INST] ", "[/INST]"],
            ["<s>[INST] ", "\n\n", "[/INST]"],
        ),
    ],
)
def test_honest_templates_have_their_frames(template: str, user: Any, system: Any) -> None:
    found = _rendered(template, {"bos_token": "<s>"})
    assert found[0] == user
    assert found[1] == system or (isinstance(system, str) and system in found[1])


def nothing(*_: Any) -> Any:
    return None


def test_a_template_cannot_write_the_answer_of_a_prompt() -> None:
    context = Context(random.Random(0), datetime.now(UTC), nothing, nothing, lambda *a: frozenset(), lambda *a: False)
    samples = SOURCES["word_sorting"](count=50)(context)
    sorting = LAST + "={{ messages[0].content.split(': ')[%d].split() | sort | join(' ') }}="
    guarded = "{% if 'alphabetically' in messages[0].content %}" + sorting % 1 + "{% else %}" + LAST + "==={% endif %}"
    for template in (sorting % 1, sorting % -1, guarded):
        frame = user_frame(template)
        if not isinstance(frame, str):
            prompts = [Frame(tuple(frame)).prompt(sample.prompt) for sample in samples]
            assert not any(f"={sample.reference}=" in prompt for sample, prompt in zip(samples, prompts, strict=True))
