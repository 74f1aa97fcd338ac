"""`sn37 miner train`, from the command line on an embedded hub."""

import pytest
from typer.testing import CliRunner

from sn37.checks.tokenizer import byte_tokenizer
from sn37.cli import app
from sn37.competitions import write_competition
from sn37.devnet.tiny_llama import save, small_llama
from sn37.errors import ConfigError, ModelFault
from sn37.miner import check

SHORT = "--steps 3 --draws 2 --evaluate-every 2 --accumulation 1 --batch-tokens 512 --learning-rate 0.003 --device cpu"


@pytest.fixture
def said(outside, competition, tmp_path, monkeypatch):
    """Runs `sn37 miner train` in a folder that holds the competition's file; gives what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny.toml").write_text(write_competition(competition))
    where = ["-c", "tiny.toml", "--network", outside.chain.url, "--hub", outside.server.endpoint]

    def run(start, *more):
        result = CliRunner().invoke(app, ["miner", "train", start, *where, *SHORT.split(), *more])
        if isinstance(result.exception, Exception):
            raise result.exception
        return result.output

    return run


@pytest.fixture
def published(outside, tmp_path):
    tokenizer = byte_tokenizer()
    model = save(small_llama(tokenizer, hidden=16, layers=1), tokenizer, tmp_path / "base")
    return outside.hub().publish(model, "alice/base", private=False)


def test_a_model_of_the_hub_is_trained_and_trained_on(said, published, competition, tmp_path):
    told = said("alice/base", "--lora", "2")
    assert f"TINY: training from alice/base@{published}" in told
    assert "training/model: score" in told
    assert {"model", "training.png", "training.json", "history.json"} <= {
        path.name for path in (tmp_path / "training").iterdir()
    }
    assert check(tmp_path / "training" / "model", competition).unexpected == ()
    assert said("alice/base", "--lora", "2").splitlines()[-2:] == told.splitlines()[-2:]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("alice/none",), ConfigError, "the model repo alice/none is not there"),
        (("leader",), ConfigError, "nobody with a model for competition 7 has incentive"),
        (("words",), ConfigError, r"words is no model; expected a folder with config\.json"),
        (("alice/base", "-c", "NOTHING"), ConfigError, "NOTHING"),
        (("odd",), ModelFault, "the architecture 'GPT2LMHeadModel' is not allowed"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(said, tmp_path, given, error, message):
    (tmp_path / "words").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    (tmp_path / "odd" / "tokenizer.json").write_bytes(tokenizer_json(tmp_path))
    with pytest.raises(error, match=message):
        said(*given)


def tokenizer_json(folder):
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    return (folder / "tokenizer" / "tokenizer.json").read_bytes()
