"""Models that run over their time: their miner loses, and they do not come back in every epoch."""

import pytest
from small import save_model

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x"


@pytest.fixture
def open_tokenizer(small):
    """A subnet where each model brings its tokenizer and has little time; the files of an honest model."""
    small.chain.set_rules(37, commitment_rate_limit=0)
    change(small, ('"curator/tokenizer"', '"any"'), ("time_limit_s = 300", "time_limit_s = 15"))
    tokenizer = {path.name: path.read_bytes() for path in sorted((small.root / "tokenizer").iterdir())}
    return small, {**small.files(0.5), **tokenizer}


def change(small, *pairs):
    text = small.competition_file.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    small.competition_file.write_text(text)


@pytest.mark.slow
def test_a_death_is_the_models_where_the_competition_checks_that_a_model_makes_sense(open_tokenizer, tmp_path):
    """The control model passes that check itself; it did not, and any death left the epoch undecided."""
    small, files = open_tokenizer
    change(
        small,
        ("sanity_check = false", "sanity_check = true"),
        ("time_limit_s = 15", "time_limit_s = 8"),
        ("max_bytes = 1_000_000", "max_bytes = 9_000_000"),
    )
    shape = {"hidden_size": 2, "intermediate_size": 2, "num_attention_heads": 1, "num_hidden_layers": 1_500}
    deep = save_model(tmp_path / "deep", 0.5, **shape)
    evil = small.submit("evil", {**files, **{path.name: path.read_bytes() for path in sorted(deep.iterdir())}})
    small.next_epoch()
    epoch = small.epoch(tmp_path)
    assert epoch.decided.epoch.sealed
    assert "control model's went well" in epoch.faults[evil]


def test_a_slow_model_is_run_twice_and_not_again_though_its_text_is_committed_anew(open_tokenizer, tmp_path):
    small, files = open_tokenizer
    change(small, ("time_limit_s = 15", "time_limit_s = 10"))
    small.submit("honest", files)
    slow = small.submit("slow", {**files, "chat_template.jinja": LOOP.encode()})
    with small.subnet() as chain:
        _, text = chain.committed(slow)
    ran = []
    for _ in range(4):
        small.next_epoch()
        ran.append(slow in {pick.submission.hotkey for pick in small.epoch(tmp_path).plan.chosen})
        small.commit("slow", text)
    assert ran == [True, True, False, False]
