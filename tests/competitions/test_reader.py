"""Reading competition files: every mistake is told with its place and the choices."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sn37.competition import Competition, Fixed, InverseExponential, LinearDecay
from sn37.competitions import competition_from, document_of, public_competitions, read_competition
from sn37.competitions.reader import MAX_FILE_BYTES
from sn37.errors import ConfigError
from sn37.sources import source


def test_every_field_of_a_file_reaches_the_competition(text: str) -> None:
    competition = read_competition(text, "own.toml")
    assert (competition.id, competition.name) == (42, "OWN")
    assert competition.constraints.tokenizer is None
    assert competition.constraints.max_bytes == 10_000_000
    assert competition.epsilon == LinearDecay(0.05, 0.01, 100)
    questions, words = competition.tasks
    assert questions.source_args["repo"] == "someone/questions"
    assert questions.source_args["filters"] == [{"column": "score", "op": ">=", "value": 0.5}]
    assert (words.source, words.method, words.source_args) == ("word_sorting", "reference_loss", {})
    assert words.normalization == InverseExponential(40.0)


def test_a_fixed_epsilon_and_a_pinned_tokenizer_can_be_named(text: str) -> None:
    text = text.replace('"any"', f'"Xenova/gpt-4@{"a" * 40}"')
    text = re.sub(r'kind = "linear_decay"(\n.*){3}', 'kind = "fixed"\nvalue = 0.005', text)
    competition = read_competition(text)
    assert competition.epsilon == Fixed(0.005)
    assert competition.constraints.tokenizer == f"Xenova/gpt-4@{'a' * 40}"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("id = 42", 'id = "42"', "id is '42'; expected a valid integer"),
        ("id = 42", "id = 100", "competition id is 100; expected 0 to 99"),
        ("id = 42", "id = true", "id is True; expected a valid integer"),
        ("id = 42\n", "", "id is missing"),
        ('name = "OWN"', 'name = "own"', "competition name is 'own'; expected upper-case letters"),
        ("delay_blocks = 10\n", "", r"[constraints]: delay_blocks is missing"),
        ("delay_blocks = 10", "delay = 10", "unknown field delay; the known fields are architectures, "),
        (
            "max_bytes = 10_000_000",
            "max_bytes = 1e7",
            "[constraints]: max_bytes is 10000000.0; expected a valid integer",
        ),
        ('"LlamaForCausalLM"', '"GPT2LMHeadModel"', "is 'GPT2LMHeadModel'; expected one of BartForCausalLM, "),
        ('"LlamaForCausalLM"', "1", "architectures[0] is 1; expected a valid string"),
        ('tokenizer = "any"\n', "", "tokenizer is missing; expected a hub repo (namespace/name"),
        ('"any"', '"../etc/passwd"', "tokenizer is '../etc/passwd'; expected a hub repo"),
        ('kind = "linear_decay"', 'kind = "step"', "[epsilon]: kind is 'step'; expected one of fixed, linear_decay"),
        ('kind = "linear_decay"\n', "", "[epsilon]: kind is missing"),
        ("start = 0.05", "start = 0.001", "[epsilon]: epsilon is (0.001, 0.01); expected 0 <= end <= start < 1"),
        ("start = 0.05", "start = nan", "[epsilon]: start is nan; expected"),
        ("weight = 0.25", "weight = 0.3", "sum of the task weights of OWN is 1.05; expected 1"),
        ("weight = 0.25", "weight = 0", "weight of WORDS is 0.0; expected a number in (0, 1]"),
        ('name = "WORDS"', 'name = "QUESTIONS"', "task names is ['QUESTIONS', 'QUESTIONS']; expected each used once"),
        (
            '"word_sorting"',
            '"words"',
            "tasks[1] WORDS: source: unknown source 'words'; expected one of codeforces_cots,",
        ),
        ('name = "word_sorting"', "samples = 3", "tasks[1] WORDS: source: name is missing; expected one of"),
        ('name = "word_sorting"', "name = 3", "unknown source 3"),
        (
            '"reference_loss" }\n\n',
            '"loss" }\n\n',
            "tasks[0] QUESTIONS: method: unknown method 'loss'; expected one of",
        ),
        (
            '"word_sorting" }',
            '"word_sorting", page = 1 }',
            "source word_sorting: unknown field page; the known fields are",
        ),
        ('"reference_loss" }\n\n', '"reference_loss", samples = 1 }\n\n', "reference_loss: unknown field samples"),
        ('repo = "someone/questions"\n', "", "tasks[0] QUESTIONS: source hub_dataset: repo is missing"),
        ('repo = "someone/questions"', "repo = 1", "source hub_dataset: repo is 1; expected a valid string"),
        (
            'prompt = "{question}"',
            'prompt = "{question"',
            "hub_dataset: prompt: the template '{question' has a lone '{'",
        ),
        ('prompt = "{question}"', 'prompt = "{}"', "hub_dataset: prompt: '' names no column"),
        (
            'prompt = "{question}"',
            'prompt = "{a.b()}"\ntext = "{a}"',
            "the templates given are prompt, reference, text",
        ),
        ('prompt = "{question}"', "rows = 10_001", "rows is 10001; expected less than or equal to 10000"),
        ('prompt = "{question}"', "rows = 0", "rows is 0; expected greater than or equal to 1"),
        ('op = ">="', 'op = "~"', "has the op '~'; expected one of ==, !=, <"),
        ("ceiling = 40.0", "ceiling = -1.0", "normalization: ceiling is -1.0; expected a number above 0"),
        ('"inverse_exponential"', '"log"', "normalization: kind is 'log'; expected one of none, inverse_exponential"),
        ("[epsilon]", "[epsilon", "not valid TOML"),
        (
            "[epsilon]",
            "[evaluation]\nbatch_tokens = 0\n[epsilon]",
            "[evaluation]: batch_tokens is 0; expected 1 or more",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_choices(text: str, old: str, new: str, told: str) -> None:
    assert old in text
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        read_competition(text.replace(old, new, 1), "own.toml")
    assert str(caught.value).startswith("own.toml: ")


def test_all_mistakes_of_one_table_are_told_at_once(text: str) -> None:
    broken = text.replace("delay_blocks = 10", "delay = 10").replace("sequence_length = 512", 'sequence_length = "512"')
    with pytest.raises(ConfigError) as caught:
        read_competition(broken, "own.toml")
    told = str(caught.value).splitlines()
    assert len(told) == 3
    assert all(line.startswith("own.toml: [constraints]: ") for line in told)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read \(No such file"):
        read_competition(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than 65536 bytes"),
        (b"a = " + b"[" * 20_000, "not valid TOML"),
        (b"a = 1" + b"0" * 5_000, "not valid TOML"),
    ],
)
def test_what_is_no_small_text_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=told):
        read_competition(path)


def test_a_source_of_ones_own_is_known_to_own_files_only(own: Callable[..., Path]) -> None:
    @source("own_words")
    def own_words(context: object, *, most: int = 3) -> list[object]:
        return []

    path = own(("word_sorting", "own_words"))
    assert read_competition(path).tasks[1].source == "own_words"
    with pytest.raises(ConfigError, match="code outside the package is never used here"):
        read_competition(path, builtin_only=True)


def test_what_could_change_a_score_changes_the_digest_and_words_about_it_do_not(text: str) -> None:
    digest = read_competition(text).digest
    assert read_competition(text.replace("one's own", "mine")).digest == digest
    assert read_competition(text.replace("value = 0.5", "value = 0.6")).digest != digest
    assert read_competition(text.replace("{question}", "{query}")).digest != digest


def test_every_mistake_of_a_file_is_told_in_one_go(text: str) -> None:
    broken = text
    for old, new in (
        ("delay_blocks = 10", "delay = 10"),
        ('kind = "linear_decay"', 'kind = "lineardecay"'),
        ("weight = 0.25", 'weight = "a quarter"'),
        ('"word_sorting"', '"word_sortign"'),
        ('repo = "someone/questions"\n', ""),
        ("ceiling = 40.0", "ceiling = -40.0"),
        ('name = "OWN"\n', 'name = "OWN"\ncolour = "red"\n'),
    ):
        assert old in broken
        broken = broken.replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        read_competition(broken, "own.toml")
    lines = str(caught.value).splitlines()
    for part in (
        "own.toml: [constraints]: delay_blocks is missing",
        "own.toml: [constraints]: unknown field delay; the known fields are architectures",
        "own.toml: [epsilon]: kind is 'lineardecay'; expected one of fixed, linear_decay",
        "own.toml: tasks[1] WORDS: weight is 'a quarter'; expected a valid number",
        "own.toml: tasks[1] WORDS: source: unknown source 'word_sortign'; expected one of",
        "own.toml: tasks[0] QUESTIONS: source hub_dataset: repo is missing",
        "own.toml: tasks[1] WORDS: normalization: ceiling is -40.0; expected a number above 0",
        "own.toml: unknown field colour; the known fields are id, name",
    ):
        assert any(line.startswith(part) for line in lines), part
    assert any(line.endswith("; did you mean 'word_sorting'?") for line in lines)
    assert len(lines) == 8


EVERYTHING_WRONG = """
id = 142
name = "own"

[constraints]
architectures = ["GPT2LMHeadModel", "LlamaForCausalLM", 3]
max_parameters = 0
max_bytes = 0
sequence_length = "512"
tokenizer = "../etc"

[epsilon]
kind = "linear_decay"
start = 0.05
end = 0.1
decay_blocks = 0

[evaluation]
batch_tokens = 0
time_limit_s = 0

[[tasks]]
name = "WORDS"
weight = 0.5
source = { name = "word_sorting", count = 0, counts = 1 }
method = { name = "reference_los" }
normalization = { kind = "log" }

[[tasks]]
name = "WORDS"
weight = 0.7
method = { name = "text_loss" }

[tasks.source]
name = "hub_dataset"
rows = 0
prompt = "{a"
reference = "b}"
filters = [{ column = "a", op = "~", value = 1 }, { column = "", op = "==", value = 1 }]
"""


def test_no_mistake_hides_another() -> None:
    with pytest.raises(ConfigError) as caught:
        read_competition(EVERYTHING_WRONG, "own.toml")
    expected = [
        "competition id is 142; expected 0 to 99",
        "competition name is 'own'; expected upper-case",
        "[constraints]: delay_blocks is missing; expected 0 or more",
        "[constraints]: architectures[2] is 3; expected a valid string",
        "[constraints]: sequence_length is '512'; expected a valid integer",
        "[constraints]: max_parameters is 0; expected 1 or more",
        "[constraints]: max_bytes is 0; expected 1 or more",
        "[constraints]: tokenizer is '../etc'; expected a hub repo",
        "[epsilon]: epsilon is (0.05, 0.1); expected 0 <= end <= start < 1",
        "[epsilon]: decay_blocks is 0; expected 1 block or more",
        "[evaluation]: batch_tokens is 0; expected 1 or more",
        "[evaluation]: time_limit_s is 0; expected 1 second or more",
        "tasks[0] WORDS: normalization: kind is 'log'; expected one of none, inverse_exponential",
        "tasks[0] WORDS: source word_sorting: count is 0; expected greater than or equal to 1",
        "tasks[0] WORDS: source word_sorting: unknown field counts; the known fields are count; did you mean 'count'?",
        "tasks[0] WORDS: method: unknown method 'reference_los'; expected one of",
        "tasks[1] WORDS: source hub_dataset: repo is missing",
        "tasks[1] WORDS: source hub_dataset: rows is 0; expected greater than or equal to 1",
        "tasks[1] WORDS: source hub_dataset: the filter {'column': 'a', 'op': '~', 'value': 1} has the op '~'",
        "tasks[1] WORDS: source hub_dataset: the filter {'column': '', 'op': '==', 'value': 1}: '' names no column",
        "tasks[1] WORDS: source hub_dataset: prompt: the template '{a' has a lone '{'",
        "tasks[1] WORDS: source hub_dataset: reference: the template 'b}' has a lone '}'",
        "task names is ['WORDS', 'WORDS']; expected each used once",
        "sum of the task weights of own is 1.2; expected 1",
    ]
    told = str(caught.value).splitlines()
    assert sorted(line[: len("own.toml: ") + 30] for line in told) == sorted(
        f"own.toml: {line}"[: len("own.toml: ") + 30] for line in expected
    )
    for line in expected:
        assert any(each.startswith(f"own.toml: {line}") for each in told), line


@pytest.mark.parametrize("competition", public_competitions(), ids=lambda c: f"{c.name}-{c.digest[:6]}")
def test_a_manifest_is_read_by_the_code_that_reads_a_file(competition: Competition) -> None:
    document = json.loads(json.dumps(document_of(competition)))
    assert competition_from(document, "a manifest") == competition
    assert competition_from(document, "a manifest", registered=False).digest == competition.digest


def test_sources_that_are_not_known_here_do_not_keep_a_record_from_being_read(text: str) -> None:
    document = document_of(read_competition(text))
    document["tasks"][1]["source"] = {"name": "of_somebody_else", "size": 3}
    assert competition_from(document, "a manifest", registered=False).tasks[1].source_args == {"size": 3}
    with pytest.raises(ConfigError, match="unknown source 'of_somebody_else'"):
        competition_from(document, "a manifest")


def test_what_is_no_document_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"own\.toml: tasks is 3; expected a valid array"):
        read_competition(
            text[: text.index("[[tasks]]")].replace("[constraints]", "tasks = 3\n[constraints]"), "own.toml"
        )
    with pytest.raises(ConfigError, match=r"own\.toml: constraints is 3; expected a table of architectures"):
        read_competition("constraints = 3", "own.toml")
