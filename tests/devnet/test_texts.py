"""The devnet's texts, questions, tokenizer and models: real prose, nothing of the test split, the same every time."""

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from random import Random

import pytest

from sn37.devnet import training
from sn37.devnet.datasets import InMemory
from sn37.devnet.questions import facts, questions
from sn37.devnet.texts import standard_texts
from sn37.devnet.world import COMPETITION
from sn37.errors import DataFault, EvaluatorFault

PRINT_DIGESTS = """
import hashlib, json, tempfile
from pathlib import Path
from sn37.competitions import read_competition
from sn37.devnet import training
from sn37.devnet.datasets import InMemory
from sn37.devnet.world import COMPETITION
datasets = training.data()
tokenizer = training.tokenizer(datasets)
with tempfile.TemporaryDirectory() as folder:
    list(training.train_models(read_competition(COMPETITION), datasets, tokenizer, {2: Path(folder)}))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}
print(json.dumps([hashlib.sha256(repr(datasets).encode()).hexdigest(), files]))
"""


def test_texts_are_prose_of_about_the_length_asked_for():
    texts = standard_texts(300)
    everything = texts.train + texts.eval
    assert len(everything) > 600
    assert all(len(text) >= 300 for text in everything)
    assert sum(len(text) < 1000 for text in everything) > 0.95 * len(everything)
    assert not any(sign in text for text in everything for sign in (">>>", "::=", "{", "|"))


def test_no_paragraph_is_in_both_parts_or_twice():
    texts = standard_texts(300)
    paragraphs = [line for text in texts.train + texts.eval for line in text.split("\n")]
    assert len(paragraphs) == len(set(paragraphs))


def test_every_nth_text_is_kept_for_evaluation():
    texts = standard_texts(300, eval_every=4)
    assert abs(len(texts.train) - 3 * len(texts.eval)) <= 3


def test_a_python_without_documentation_is_named():
    with pytest.raises(EvaluatorFault, match="pydoc_data"):
        standard_texts(10_000_000)


def test_every_question_has_one_answer():
    asked = [question for question, _ in facts()]
    assert len(asked) == len(set(asked)) > 100
    assert all(answer.isalpha() and answer.islower() for _, answer in facts())


def test_a_question_offers_its_answer_among_four_words():
    for question in questions(Random(1), 200):
        assert len(set(question.choices)) == 4
        assert question.answer in question.choices
        assert (question.question, question.answer) in facts()


def test_the_answer_stands_anywhere():
    places = [question.choices.index(question.answer) for question in questions(Random(1), 400)]
    assert all(60 < places.count(place) < 140 for place in range(4))


def test_no_row_of_a_test_split_is_trained_on():
    for dataset in training.data().values():
        train, test = ({json.dumps(row) for row in dataset.parts["default", split]} for split in ("train", "test"))
        assert len(test) > 100
        assert not train & test


def test_a_source_that_asks_for_other_data_is_told_what_there_is():
    with pytest.raises(DataFault, match="devnet/texts"):
        InMemory(training.data()).num_rows("devnet/other", "default", "train")


@pytest.fixture(scope="module")
def made():
    """The digests of data, tokenizer and a model of two steps, made by fresh interpreters."""

    def make(hash_seed, threads):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", PRINT_DIGESTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return [make("1", "1"), make("2", "2")]


@pytest.mark.slow
def test_fresh_interpreters_make_the_same_data_tokenizer_and_model(made):
    assert made[0] == made[1]
    assert "model.safetensors" in made[0][1]


def test_this_process_makes_the_same_data(made):
    assert hashlib.sha256(repr(training.data()).encode()).hexdigest() == made[0][0]


def test_the_tokenizer_gives_a_text_back_and_knows_the_answers():
    tokenizer = training.tokenizer(training.data())
    text = 'Naïve "text" — with\ttabs\nand 😀.'
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == training.VOCABULARY
    short = [answer for _, answer in facts() if len(tokenizer.encode(f" {answer}")) <= 3]
    assert len(short) > 0.9 * len(facts())


def test_the_chat_template_marks_who_speaks():
    tokenizer = training.tokenizer(training.data())
    rendered = tokenizer.apply_chat_template(
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert rendered == "<|system|>a<|end|><|user|>b<|end|><|assistant|>"
    assert len(tokenizer.encode("<|user|>")) == 1


def test_models_are_saved_on_the_way_in_order(tmp_path):
    from sn37.competitions import read_competition

    datasets = training.data()
    folders = {3: tmp_path / "three", 1: tmp_path / "one"}
    saved = training.train_models(read_competition(COMPETITION), datasets, training.tokenizer(datasets), folders)
    assert list(saved) == [folders[1], folders[3]]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders.values()]
    assert all(a != b for a, b in pairwise(weights))
