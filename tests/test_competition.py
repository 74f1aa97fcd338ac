import hashlib
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn37.competition import (
    ARCHITECTURES,
    Competition,
    Constraints,
    EvalTask,
    Evaluation,
    Fixed,
    InverseExponential,
    LinearDecay,
    Unnormalized,
)
from sn37.errors import EvaluatorFault


def constraints(**changes):
    figures = {
        "architectures": ("LlamaForCausalLM",),
        "max_parameters": 10,
        "max_bytes": 20,
        "sequence_length": 30,
        "tokenizer": None,
        "delay_blocks": 40,
    }
    return Constraints(**{**figures, **changes})


def competition(**changes):
    tasks = (
        EvalTask("SORTING", "word_sorting", "reference_loss", 0.25, {"samples": 4}, {}, InverseExponential(40)),
        EvalTask("PROSE", "fineweb", "text_loss", 0.75),
    )
    parts = {
        "id": 7,
        "name": "PLAY",
        "constraints": constraints(),
        "epsilon": LinearDecay(0.05, 0.01, 100),
        "tasks": tasks,
    }
    return Competition(**{**parts, **changes})


@pytest.mark.parametrize(
    ("now", "epsilon"),
    [(0, 0.05), (1000, 0.05), (1025, 0.04), (1050, 0.03), (1099, 0.0104), (1100, 0.01), (1101, 0.01), (9999, 0.01)],
)
def test_epsilon_falls_linearly_from_the_commitment_on(now, epsilon):
    assert LinearDecay(0.05, 0.01, 100).at(now, committed=1000) == pytest.approx(epsilon, rel=1e-12)


@given(st.integers(-1000, 10**8), st.integers(0, 10**8))
def test_epsilon_stays_between_its_ends(now, committed):
    epsilon = LinearDecay(0.05, 0.01, 36_000)
    assert epsilon.final - 1e-15 <= epsilon.at(now, committed) <= 0.05
    assert epsilon.at(now + 1, committed) <= epsilon.at(now, committed)


def test_a_fixed_epsilon_never_changes():
    assert {Fixed(0.005).at(now, 5) for now in (0, 5, 10**9)} == {0.005} == {Fixed(0.005).final}


@pytest.mark.parametrize(
    ("score", "normalized"),
    [
        (0.0, 0.0),
        (10.0, (1 - 1 / math.exp(0.25)) / (1 - 1 / math.e)),
        (20.0, 0.6224593312018546),  # 1 / (1 + e^-0.5)
        (39.999999999, 1.0),
        (40.0, 1.0),
        (41.0, 1.0),
        (1e300, 1.0),
    ],
)
def test_inverse_exponential_by_hand(score, normalized):
    assert InverseExponential(40)(score) == pytest.approx(normalized, abs=1e-9)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_inverse_exponential_keeps_the_order_and_stays_within_zero_and_one(a, b, ceiling):
    low, high = sorted((a, b))
    norm = InverseExponential(ceiling)
    assert 0 <= norm(low) <= norm(high) <= 1


@given(st.floats(allow_nan=False))
def test_no_normalization_is_the_identity(score):
    assert Unnormalized()(score) == score


def test_a_score_is_the_weighted_sum_of_normalized_scores():
    # 0.25 * 1 / (1 + e^-0.5) + 0.75 * 2
    assert competition().score({"SORTING": 20.0, "PROSE": 2.0}) == pytest.approx(1.6556148328004637, rel=1e-12)


@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("task", ["SORTING", "PROSE"])
def test_a_raw_score_that_is_not_finite_is_never_hidden_by_normalization(task, broken):
    assert competition().score({"SORTING": 1.0, "PROSE": 1.0, task: broken}) == math.inf


@pytest.mark.parametrize("least", [0.0, 5e-324])
@pytest.mark.parametrize("most", [0.0, 3e38, 1.7e308])
def test_any_loss_from_nothing_to_the_highest_number_has_a_score(least, most):
    """A model certain of its tokens loses nothing, one certain of others as much as a float32 can say."""
    score = competition().score({"SORTING": most, "PROSE": least})
    assert 0 <= score <= 0.25 + least
    assert 0 <= competition().score({"SORTING": least, "PROSE": most}) <= 0.25 + most


def test_a_negative_raw_score_is_the_methods_fault_and_no_miners():
    with pytest.raises(EvaluatorFault, match=r"raw score of PROSE is -0\.5; .* correct the method text_loss"):
        competition().score({"SORTING": 1.0, "PROSE": -0.5})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Fixed(1.0), r"epsilon is 1\.0; expected a number in \[0, 1\)"),
        (lambda: Fixed(-0.1), "epsilon is -0.1"),
        (lambda: Fixed(math.nan), "epsilon is nan"),
        (lambda: LinearDecay(0.01, 0.05, 100), "expected 0 <= end <= start < 1"),
        (lambda: LinearDecay(0.05, 0.01, 0), "decay_blocks is 0; expected 1 block or more"),
        (lambda: InverseExponential(0), "ceiling is 0; expected a number above 0"),
        (lambda: InverseExponential(math.inf), "ceiling is inf"),
        (lambda: constraints(architectures=()), "architectures is .*; expected at least one"),
        (
            lambda: constraints(architectures=("GPT2LMHeadModel",)),
            "'GPT2LMHeadModel'; expected one of BartForCausalLM, ",
        ),
        (lambda: constraints(min_parameters=11), "expected 0 <= least <= most"),
        (lambda: constraints(max_parameters=0), "max_parameters is 0; expected 1 or more"),
        (lambda: constraints(max_bytes=0), "max_bytes is 0"),
        (lambda: constraints(sequence_length=0), "sequence_length is 0"),
        (lambda: constraints(delay_blocks=-1), "delay_blocks is -1"),
        (lambda: constraints(dtype="int8"), "dtype is 'int8'; expected bfloat16, float16 or float32"),
        (lambda: constraints(norm_soft=2000.0), "norm_soft is 2000"),
        (lambda: constraints(norm_soft_share=1.5), r"expected a share in \[0, 1\]"),
        (lambda: Evaluation(batch_tokens=0), "batch_tokens is 0"),
        (lambda: Evaluation(time_limit_s=0), "time_limit_s is 0"),
        (lambda: EvalTask("prose", "fineweb", "text_loss", 1.0), "task name is 'prose'; expected upper-case letters"),
        (lambda: EvalTask("PROSE", "fineweb", "text_loss", 0.0), "weight of PROSE is 0.0"),
        (lambda: EvalTask("PROSE", "fineweb", "text_loss", math.nan), "weight of PROSE is nan"),
        (
            lambda: EvalTask("PROSE", "a", "b", 1.0, {"words": {"set"}}),
            "source_args of PROSE is .*; expected plain JSON data",
        ),
        (lambda: EvalTask("PROSE", "a", "b", 1.0, {}, {"limit": math.nan}), "method_args of PROSE is"),
        (lambda: EvalTask("PROSE", "a", "b", 1.0, {3: "key"}), "source_args of PROSE is"),
        (lambda: competition(id=100), "competition id is 100; expected 0 to 99"),
        (lambda: competition(name="a b"), "competition name is 'a b'"),
        (lambda: competition(tasks=()), "tasks is .*; expected at least one"),
        (lambda: competition(tasks=competition().tasks * 2), "expected each used once"),
        (lambda: competition(tasks=competition().tasks[:1]), r"sum of the task weights of PLAY is 0\.25; expected 1"),
    ],
)
def test_an_impossible_figure_is_refused_and_named(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_norm_limits_are_the_protocols():
    assert (constraints().norm_soft, constraints().norm_soft_share, constraints().norm_hard) == (200, 0.15, 1000)
    assert constraints().dtype == "bfloat16"


def test_every_allowed_architecture_is_one_of_transformers():
    import transformers

    assert tuple(sorted(ARCHITECTURES, key=str.lower)) == ARCHITECTURES
    assert set(ARCHITECTURES) <= set(dir(transformers))


def test_the_digest_is_the_sha256_of_the_canonical_json(fresh):
    plain = {
        "id": 7,
        "name": "PLAY",
        "constraints": {
            "architectures": ["LlamaForCausalLM"],
            "max_parameters": 10,
            "max_bytes": 20,
            "sequence_length": 30,
            "tokenizer": None,
            "delay_blocks": 40,
            "min_parameters": 0,
            "dtype": "bfloat16",
            "norm_soft": 200.0,
            "norm_soft_share": 0.15,
            "norm_hard": 1000.0,
        },
        "epsilon": {"kind": "linear_decay", "start": 0.05, "end": 0.01, "decay_blocks": 100},
        "evaluation": {"batch_tokens": 32768, "time_limit_s": 3600},
        "tasks": [
            {
                "name": "SORTING",
                "source": "word_sorting",
                "method": "reference_loss",
                "weight": 0.25,
                "source_args": {"samples": 4},
                "method_args": {},
                "normalization": {"kind": "inverse_exponential", "ceiling": 40},
            },
            {
                "name": "PROSE",
                "source": "fineweb",
                "method": "text_loss",
                "weight": 0.75,
                "source_args": {},
                "method_args": {},
                "normalization": {"kind": "none"},
            },
        ],
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert competition(title="any", description="any").digest == digest
    code = f"import runpy; print(runpy.run_path({__file__!r})['competition']().digest)"
    assert fresh(code) == digest


@pytest.mark.parametrize(
    "changed",
    [
        competition(id=8),
        competition(name="OTHER"),
        competition(epsilon=Fixed(0.05)),
        competition(epsilon=LinearDecay(0.05, 0.01, 101)),
        competition(constraints=constraints(delay_blocks=41)),
        competition(evaluation=Evaluation(batch_tokens=1)),
        competition(tasks=tuple(reversed(competition().tasks))),
        competition(tasks=(replace(competition().tasks[0], source_args={"samples": 5}), competition().tasks[1])),
        competition(tasks=(replace(competition().tasks[0], normalization=Unnormalized()), competition().tasks[1])),
    ],
)
def test_whatever_could_change_a_score_changes_the_digest(changed):
    assert changed.digest != competition().digest


def test_title_and_description_do_not_change_the_digest():
    assert competition(title="a", description="b").digest == competition().digest


def test_a_competition_shows_itself_without_letting_markup_in():
    shown = competition(title="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "SORTING" in shown
    assert str(competition()) == "competition 7 PLAY: SORTING 0.25, PROSE 0.75"


def test_equal_competitions_are_equal_keys():
    assert {competition(): 1}[competition()] == 1
