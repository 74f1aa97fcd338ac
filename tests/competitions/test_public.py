"""The public competitions: every figure of the protocol, and what runs when."""

from __future__ import annotations

import pytest

from sn37.competition import Fixed, InverseExponential, LinearDecay, Unnormalized
from sn37.competitions import public, public_competitions, public_schedule
from sn37.errors import ConfigError

SECOND = {"Mistral", "Llama", "Bart", "Falcon", "GPTNeoX", "Phi", "Gemma"}
THIRD = SECOND | {"Gemma2", "Phi3"}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (0, [("B7_MULTI_CHOICE", 0.75), ("INSTRUCT_8B", 0.25)]),
        (4_675_162, [("B7_MULTI_CHOICE", 0.75), ("INSTRUCT_8B", 0.25)]),
        (4_675_163, [("INSTRUCT_8B", 1.0)]),
        (5_158_631, [("INSTRUCT_8B", 1.0)]),
        (5_158_632, [("DISTILLED_REASONING_3B", 1.0)]),
        (9_000_000, [("DISTILLED_REASONING_3B", 1.0)]),
    ],
)
def test_the_schedule_is_the_protocols(block: int, expected: list[tuple[str, float]]) -> None:
    assert [(share.competition.name, share.share) for share in public_schedule().at(block)] == expected


@pytest.mark.parametrize(
    ("name", "id", "least", "most", "gib", "length", "tokenizer", "delay", "epsilon", "architectures"),
    [
        ("SN9_MODEL", 1, 0, 6.9e9, 15, 4096, "Xenova/gpt-4", 460, Fixed(0.005), {"Llama"}),
        ("B7_MULTI_CHOICE", 2, 0, 6.9e9, 15, 4096, "Xenova/gpt-4", 460, LinearDecay(0.05, 0.01, 36_000), SECOND),
        ("INSTRUCT_8B", 3, 0, 8.1e9, 20, 4096, None, 1600, LinearDecay(0.05, 0.01, 7_200), THIRD),
        (
            *("DISTILLED_REASONING_3B", 4, 3.2e9, 3.4e9, 15, 16_384, "Xenova/gpt-4", 460),
            *(LinearDecay(0.05, 0.01, 21_600), THIRD),
        ),
    ],
)
def test_the_constraints_are_the_protocols(
    name: str,
    id: int,
    least: float,
    most: float,
    gib: int,
    length: int,
    tokenizer: str | None,
    delay: int,
    epsilon: object,
    architectures: set[str],
) -> None:
    competition = public(name)
    c = competition.constraints
    assert (competition.id, competition.epsilon) == (id, epsilon)
    assert (c.min_parameters, c.max_parameters, c.max_bytes) == (least, most, gib * 2**30)
    assert (c.sequence_length, c.tokenizer, c.delay_blocks) == (length, tokenizer, delay)
    assert set(c.architectures) == {f"{architecture}ForCausalLM" for architecture in architectures}
    assert (c.norm_soft, c.norm_soft_share, c.norm_hard, c.dtype) == (200, 0.15, 1000, "bfloat16")


FOUR = [
    ("SYNTHETIC_MMLU", "macrobench", "multiple_choice", Unnormalized()),
    ("WORD_SORTING", "word_sorting", "reference_loss", InverseExponential(40)),
    ("FINEWEB", "fineweb", "text_loss", InverseExponential(20)),
    ("IF_EVAL_V2", "if_eval", "if_eval", Unnormalized()),
]


@pytest.mark.parametrize(
    ("name", "block", "tasks", "weights"),
    [
        ("SN9_MODEL", 0, [("CHAT", "cortex", "reference_loss", Unnormalized())], [1.0]),
        ("B7_MULTI_CHOICE", 0, FOUR, [0.75, 0.05, 0.10, 0.10]),
        ("INSTRUCT_8B", 0, FOUR, [0.75, 0.05, 0.10, 0.10]),
        ("INSTRUCT_8B", 4_675_163, FOUR, [0.30, 0.05, 0.35, 0.30]),
        (
            *("DISTILLED_REASONING_3B", 5_158_632),
            [
                ("SYNTHETIC_1_SFT", "synthetic_1_sft", "reference_loss", Unnormalized()),
                ("CODEFORCES_COTS", "codeforces_cots", "reference_loss", Unnormalized()),
            ],
            [0.5, 0.5],
        ),
    ],
)
def test_the_tasks_are_the_protocols(name: str, block: int, tasks: list[object], weights: list[float]) -> None:
    found = public(name, block).tasks
    assert [(t.name, t.source, t.method, t.normalization) for t in found] == tasks
    assert [t.weight for t in found] == weights


@pytest.mark.parametrize(
    ("name", "task", "args"),
    [
        ("B7_MULTI_CHOICE", 0, {"configs": 10, "max_samples": 700, "min_samples": 50}),
        ("B7_MULTI_CHOICE", 2, {"pages": 4, "page_rows": 100}),
        ("B7_MULTI_CHOICE", 3, {"version": 2}),
        ("DISTILLED_REASONING_3B", 0, {"rows": 150, "max_samples": 120}),
        ("DISTILLED_REASONING_3B", 1, {"rows": 120}),
    ],
)
def test_the_sample_counts_are_the_protocols(name: str, task: int, args: dict[str, int]) -> None:
    assert public(name).tasks[task].source_args == args


def test_the_digests_stay_so_that_validators_and_old_records_agree() -> None:
    assert {(c.name, c.digest) for c in public_competitions()} == {
        ("SN9_MODEL", "aff894b669f98897770ec0267633d7af0b9f53ef58d9a006219903453a230321"),
        ("B7_MULTI_CHOICE", "1f2f745b9bbc789ed7bd9883c4a5ff52d77b045670fb75a97ba460fa4a6a4f7b"),
        ("INSTRUCT_8B", "35ad4bb5383f50ff25df272c6973b58385cd99139fe9e7567dce594cf4d47f2b"),
        ("INSTRUCT_8B", "a925403cba80f350e3988c89e0dc61112b5325de109a6951b48a3174f74d6f70"),
        ("DISTILLED_REASONING_3B", "db2b3933be63f29b0c1ffc0ce247a11fd24ca251fd0a9485e11d1a678c274ffc"),
    }


def test_a_competition_outside_its_time_is_the_one_that_ran_last_or_will_run_first() -> None:
    first, second = public("INSTRUCT_8B", 0), public("INSTRUCT_8B", 4_675_163)
    assert first.digest != second.digest
    assert public("INSTRUCT_8B", 5_158_632) == public("INSTRUCT_8B") == second
    assert public("DISTILLED_REASONING_3B", 0) == public("DISTILLED_REASONING_3B")
    assert public("SN9_MODEL", 0).name == "SN9_MODEL"


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(ConfigError, match="unknown public competition 'X'; expected one of SN9_MODEL, B7_MULTI_CHOICE"):
        public("X")


def test_legacy_submissions_belong_to_the_launch_competition() -> None:
    assert public_schedule().default_id == 1


def test_every_public_file_is_read_and_has_words_for_people() -> None:
    competitions = public_competitions()
    assert [competition.id for competition in competitions] == [1, 2, 3, 3, 4]
    assert all(competition.title and len(competition.description) > 60 for competition in competitions)


def test_tasks_are_had_by_name_and_by_place_and_are_the_tuple_they_were():
    tasks = public("INSTRUCT_8B").tasks
    assert tasks["IF_EVAL_V2"] is tasks[[task.name for task in tasks].index("IF_EVAL_V2")]
    assert tasks == tuple(tasks) and tasks[:2] == (tasks[0], tasks[1]) and isinstance(hash(tasks), int)
    assert "IF_EVAL_V2" in tasks._repr_html_()
    with pytest.raises(ConfigError, match=r"unknown task 'IF_EVAL'; expected one of SYNTHETIC_MMLU, .*did you mean"):
        tasks["IF_EVAL"]
