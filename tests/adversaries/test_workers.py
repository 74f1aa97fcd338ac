"""What a model that brings its own tokenizer can do to the worker that loads it: nothing beyond its own epoch."""

import json
import sys

import pytest

BOMB = "{% set n = namespace(x='x' * 1000) %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
LOOP = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
MEMORY_BYTES = 2 << 30

TRICKS = {
    "loops": ({"chat_template.jinja": LOOP}, "the chat template takes more than 5 s"),
    "swells": ({"chat_template.jinja": BOMB}, "the chat template fails: MemoryError"),
    "escapes": ({"chat_template.jinja": "{{ ''.__class__.__mro__ }}"}, "SecurityError"),
    "refuses": ({"chat_template.jinja": "{{ raise_exception('no') }}"}, "the chat template fails: TemplateError"),
    "brings-none": ({"tokenizer.json": None}, "tokenizer.json is missing"),
}


@pytest.fixture(scope="module")
def epoch(module_small, tmp_path_factory):
    small = module_small
    text = small.competition_file.read_text()
    text = text.replace('"curator/tokenizer"', '"any"').replace("time_limit_s = 300", "time_limit_s = 15")
    small.competition_file.write_text(text)
    tokenizer = {path.name: path.read_bytes() for path in sorted((small.root / "tokenizer").iterdir())}
    files = {**small.files(0.5), **tokenizer}
    small.submit("honest", files)
    for name, (changes, _) in TRICKS.items():
        small.submit(name, changed(files, changes))
    small.next_epoch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["sn37.validator.evaluate"], "_memory_bytes", lambda: int(MEMORY_BYTES / 0.8))
        return small.epoch(tmp_path_factory.mktemp("home"))


def changed(files, changes):
    files = dict(files)
    for name, value in changes.items():
        if value is None:
            del files[name]
        elif isinstance(value, str):
            files[name] = value.encode()
        else:
            files["tokenizer.json"] = json.dumps({**json.loads(files["tokenizer.json"]), name: value}).encode()
    return files


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_costs_its_miner_the_epoch_with_the_reason(epoch, module_small, trick):
    assert TRICKS[trick][1] in epoch.faults[module_small.hotkey(trick)]


def test_nobody_else_pays_for_it(epoch, module_small):
    assert set(epoch.losses) == {module_small.hotkey("honest")}
    assert epoch.publication.weights == {module_small.hotkey("honest"): 1.0}
