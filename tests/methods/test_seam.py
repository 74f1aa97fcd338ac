"""Methods in two steps, methods of one's own, and methods over a real model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from sn37.engine.reference import ReferenceEngine
from sn37.errors import ConfigError
from sn37.ifeval import rule_of
from sn37.methods import METHODS, MethodResult, Row, apply
from sn37.methods import method as register
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample

NAMES = ("choice_likelihood", "if_eval", "multiple_choice", "reference_loss", "text_loss")


def samples_for(method: str) -> list[Any]:
    rule = rule_of({"rule": "at_most_words", "n": 25}).data
    return {
        "choice_likelihood": [ChoiceSample("Which?", ("A", "B"), "A"), ChoiceSample("And?", ("yes", "no"), "no")],
        "if_eval": [InstructionSample(("Who?", "Where?"), ((rule,), (rule,)))],
        "multiple_choice": [ChoiceSample("Which?", ("A", "B"), "A")],
        "reference_loss": [ReferenceSample("Who?", "The miller."), ReferenceSample("Where?", "At the inn.")],
        "text_loss": [TextSample("The river rose in the night."), TextSample("A lamp burned.")],
    }[method]


def args_for(method: str) -> dict[str, Any]:
    return {"sanity_check": False} if method == "text_loss" else {}


def test_every_method_of_the_protocol_is_registered() -> None:
    assert tuple(METHODS) == NAMES
    with pytest.raises(ConfigError, match="unknown method 'bleu'; expected one of choice_likelihood, if_eval"):
        METHODS["bleu"]


@pytest.mark.parametrize("method", NAMES)
def test_rows_made_once_give_the_same_result_for_every_model(method: str, tokenizer: Any, tools: Any) -> None:
    made, samples = METHODS[method](**args_for(method)), samples_for(method)
    rows = made.rows(samples, tokenizer, 512)
    travelled = tuple(
        Row(**{**data, "tokens": tuple(data["tokens"])}) for data in json.loads(json.dumps([*map(asdict, rows)]))
    )
    assert travelled == rows
    for logits in (tools.uniform(len(tokenizer)), tools.bigram(len(tokenizer))):
        engine = tools.engine(logits)
        apart = made.score(travelled, samples, tokenizer, engine)
        assert apart == apply(made, samples, tokenizer, engine)


@pytest.mark.parametrize("method", NAMES)
def test_a_method_tells_its_arguments_and_its_home(method: str) -> None:
    factory = METHODS[method]
    assert factory.module == f"sn37.methods.{method}"
    assert factory.summary
    assert all(parameter.default is not parameter.empty for parameter in factory.arguments.values())


@pytest.mark.parametrize("method", NAMES)
def test_results_are_json_data_and_every_row_is_told_as_progress(method: str, tokenizer: Any, tools: Any) -> None:
    told: list[tuple[int, int]] = []
    engine = tools.engine(tools.bigram(len(tokenizer)))
    samples = samples_for(method)
    result = apply(
        METHODS[method](**args_for(method)), samples, tokenizer, engine, progress=lambda *step: told.append(step)
    )
    assert len(result.values) == len(result.details) == len(samples)
    assert math.isfinite(result.score)
    assert json.loads(json.dumps(result.details)) == list(result.details)
    assert sum(rows for rows, _ in told) == len(METHODS[method]().rows(samples, tokenizer, 512))  # type: ignore[attr-defined]


def test_an_own_method_may_be_one_plain_function(tokenizer: Any, tools: Any) -> None:
    @register("shortest")
    def shortest(samples: Any, tokenizer: Any, engine: Any, *, progress: Any = None, above: int = 0) -> MethodResult:
        values = tuple(float(len(sample.text) > above) for sample in samples)
        return MethodResult(sum(values) / len(values), values)

    try:
        assert list(METHODS["shortest"].arguments) == ["above"]
        engine = tools.engine(tools.uniform(4))
        result = apply(METHODS["shortest"](above=5), [TextSample("abc")], tokenizer, engine)
        assert result == MethodResult(0.0, (0.0,))
    finally:
        del METHODS._factories["shortest"]


def test_importing_the_methods_imports_no_heavy_library() -> None:
    code = "import sys, sn37.methods; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.fixture(scope="module")
def llama(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def test_the_loss_over_a_real_model_is_transformers_own(llama: Any, tokenizer: Any) -> None:
    import torch

    samples = samples_for("reference_loss")
    result = apply(METHODS["reference_loss"](), samples, tokenizer, ReferenceEngine(llama, 512))
    for row, value in zip(METHODS["reference_loss"]().rows(samples, tokenizer, 512), result.values, strict=True):  # type: ignore[attr-defined]
        ids = torch.tensor([row.tokens])
        labels = torch.tensor([[-100] * row.start + list(row.tokens[row.start :])])
        with torch.no_grad():
            assert value == pytest.approx(float(llama(input_ids=ids, labels=labels).loss), rel=1e-5)


def test_replies_of_a_real_model_are_transformers_own(llama: Any, tokenizer: Any) -> None:
    import torch

    samples = samples_for("multiple_choice")
    engine = ReferenceEngine(llama, 512)
    result = apply(METHODS["multiple_choice"](), samples, tokenizer, engine)
    (row,) = METHODS["multiple_choice"]().rows(samples, tokenizer, 512)  # type: ignore[attr-defined]
    with torch.no_grad():
        out = llama.generate(
            torch.tensor([row.tokens]),
            attention_mask=torch.ones(1, len(row.tokens), dtype=torch.long),
            max_new_tokens=20,
            do_sample=False,
            repetition_penalty=1.1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0,
        )
    new = [token for token in out[0, len(row.tokens) :].tolist() if token != tokenizer.eos_token_id]
    reply = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert reply.startswith(result.details[0]["reply"])


@pytest.mark.parametrize("method", NAMES)
def test_every_method_scores_a_real_model_the_same_twice(method: str, llama: Any, tokenizer: Any) -> None:
    engine = ReferenceEngine(llama, 300)
    first = apply(METHODS[method](), samples_for(method), tokenizer, engine)
    assert first == apply(METHODS[method](), samples_for(method), tokenizer, engine)
