"""Tokenizers and chat templates made to win: each is odd in its own way, and none gains by it.

Losses are bits per byte. The honest model is uniform over 257 tokens, of which each is a byte: 8.006 bits.
"""

import json
import math

import pytest

LAST = "{{ messages[-1].content }}"
EVERYTHING = "".join(map(chr, range(32, 127))) * 10 + "\n" * 10


def tokenizer(files, **changes):
    """The files with parts of tokenizer.json replaced."""
    return {**files, "tokenizer.json": json.dumps({**json.loads(files["tokenizer.json"]), **changes}).encode()}


def forgetting(files, pattern, content, decoded=""):
    """A tokenizer that replaces a pattern, and whose U+0001 decodes to what is given."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    decoder = {
        "type": "Sequence",
        "decoders": [byte_level, {"type": "Replace", "pattern": {"String": "\u0001"}, "content": decoded}],
    }
    normalizer = {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
    return tokenizer(files, normalizer=normalizer, decoder=decoder)


def pieces_of_ten(files):
    """Ten characters are one token, which decodes to every character ten times."""
    return tokenizer(
        files,
        pre_tokenizer={
            "type": "Split", "pattern": {"Regex": r"[\s\S]{1,10}"}, "behavior": "Isolated", "invert": False,
        },
        model={"type": "WordLevel", "vocab": {"<|end|>": 0, "X": 1}, "unk_token": "X"},
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "X"}, "content": EVERYTHING[:1000]}, {"type": "Fuse"},
            ],
        },
    )  # fmt: skip


def template(files, text):
    return {**files, "chat_template.jinja": text.encode()}


SORTED = "{{ messages[0].content.split(': ')[-1].split() | sort | join(' ') }}"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

FAULTS = {
    "blows-up-texts": (lambda f: forgetting(f, "^", "\u0001" * 200), "tokens of"),
    "blows-up-references": (lambda f: forgetting(f, "^(?=[a-z ]+$)", "\u0001" * 300), "tokens of"),
    "leaves-nothing": (lambda f: forgetting(f, r"[\s\S]+", ""), "leaves nothing"),
    "decodes-to-pages": (lambda f: forgetting(f, "Line", "\u0001", "x" * 200_000), "characters of"),
    "writes-the-answer": (lambda f: template(f, LAST + "=" + SORTED + "="), "user message 2 times"),
    "writes-it-first": (lambda f: template(f, SORTED + LAST), "user message 2 times"),
    "counts-letters": (lambda f: template(f, "{{ messages[0].content | length }}" + LAST), "two ways"),
    "hides-the-prompt": (lambda f: template(f, "Say nothing."), "user message 0 times"),
    "says-it-twice": (lambda f: template(f, LAST + LAST), "user message 2 times"),
    "shouts": (lambda f: template(f, "{{ messages[-1].content | upper }}"), "user message 0 times"),
    "by-chance": (lambda f: template(f, "{{ range(9999) | random }}" + LAST), "two ways"),
    "by-address": (lambda f: template(f, "{{ ''.join }}" + LAST), "two ways"),
    "without-end": (lambda f: template(f, LOOP + LAST), "takes more than 5 s"),
    "without-measure": (lambda f: template(f, "{{ 'x' * 10**11 }}" + LAST), "MemoryError"),
    "adds-a-book": (lambda f: template(f, "{{ 'x ' * 40_000 }}" + LAST), "adds 80000 characters"),
}  # fmt: skip
"""Name -> its files from an honest tokenizer's, and what its reason says."""

GUESSING = {
    "says-everything": pieces_of_ten,
    "lower-case": lambda f: tokenizer(f, normalizer={"type": "Lowercase"}),
    "drops-vowels": lambda f: forgetting(f, "[aeiou]", ""),
    "one-word-for-all": lambda f: forgetting(f, "[a-z]+", "\u0001", "the"),
    "upper-case-when-read": lambda f: forgetting(f, "e", "\u0001", "E"),
}
"""Tokenizers that no text of TEXTS comes back from: it costs what guessing bytes costs."""


@pytest.fixture(scope="module")
def epoch(module_small, tmp_path_factory):
    small = module_small
    text = small.competition_file.read_text()
    for old, new in (
        ('"curator/tokenizer"', '"any"'),
        ("sanity_check = false }", 'sanity_check = false, unit = "bits_per_byte" }'),
        ('name = "reference_loss" }', 'name = "reference_loss", unit = "bits_per_byte" }'),
    ):
        assert old in text
        text = text.replace(old, new)
    small.competition_file.write_text(text)
    brought = {path.name: path.read_bytes() for path in sorted((small.root / "tokenizer").iterdir())}
    honest = {**small.files(0.0), **brought}
    small.submit("honest", honest)
    for name, (make, _) in FAULTS.items():
        small.submit(name, make(honest))
    for name, make in GUESSING.items():
        small.submit(name, make(honest))
    small.submit("dated", template(honest, "{{ strftime_now('%H:%M:%S') }}" + LAST))
    small.next_epoch()
    return small.epoch(tmp_path_factory.mktemp("home"), limits={"beyond": 50})


@pytest.mark.parametrize("name", FAULTS)
def test_what_no_honest_tokenizer_does_costs_its_miner_the_epoch(epoch, module_small, name):
    reason = epoch.faults[module_small.hotkey(name)]
    assert FAULTS[name][1] in reason
    assert reason.isprintable()


@pytest.mark.parametrize("name", GUESSING)
def test_texts_that_do_not_come_back_cost_8_bits_a_byte_never_nothing(epoch, module_small, name):
    tasks = epoch.decided.epoch.results[module_small.hotkey(name)].tasks
    assert set(tasks["TEXTS"].values) == {8.0}
    assert {detail["flaw"] for detail in tasks["TEXTS"].details} == {"does not decode"}
    assert all(value >= 8.0 for task in tasks.values() for value in task.values)
    assert all(task.samples == () for task in tasks.values())


def test_the_honest_one_wins_and_no_template_learns_the_time(epoch, module_small):
    honest, dated = module_small.hotkey("honest"), module_small.hotkey("dated")
    assert epoch.decision.winner == honest
    assert epoch.losses[honest] == epoch.losses[dated] == pytest.approx(math.log2(257), abs=1e-3)
    assert set(epoch.losses) == {honest, dated} | {module_small.hotkey(name) for name in GUESSING}
