"""Two real epochs with nine miners, each of whom loses by a cause of its own, known beforehand.

The models are unigrams: whatever was said before, each byte has a probability of its own, so losses are known too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small import Small, save_model
from worlds import once

from sn37.records.epochs import Epoch, Records

LETTERS = "abcdefghijklmnopqrstuvwxyz "
IN_TEXTS = "linethrvosg "
"""The letters that the texts hold; the words to be sorted hold all."""

CHANGES = {
    'tokenizer = "curator/tokenizer"': 'tokenizer = "any"',
    'kind = "fixed"\nvalue = 0.01': 'kind = "linear_decay"\nstart = 0.05\nend = 0.001\ndecay_blocks = 7200',
    "time_limit_s = 300": "time_limit_s = 8",
    "max_bytes = 1_000_000": "max_bytes = 9_000_000",
}


@dataclass(frozen=True)
class Causes:
    """What was played."""

    records: Records
    """The validator's records."""
    hotkeys: Mapping[str, str]
    """Each miner's hotkey, by the cause for which it loses."""
    epochs: tuple[Epoch, Epoch]
    """The two epochs."""


def unigram(folder: Path, **logits: float) -> dict[str, bytes]:
    """The files of a model that gives each of these letters its logit, and all other bytes 0."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sn37.checks.tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=257))
    with torch.no_grad():
        # Every token is embedded alike and no layer adds to it, so the head sees ones and gives the sum of its rows.
        model.model.embed_tokens.weight.fill_(1.0)
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for letter, logit in logits.items():
            model.lm_head.weight[tokenizer.encode(letter)[0]] = logit / 16
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _deep(folder: Path) -> dict[str, bytes]:
    """A model of so many layers that it runs over the time."""
    shape = {"hidden_size": 2, "intermediate_size": 2, "num_attention_heads": 1, "num_hidden_layers": 1_500}
    return {path.name: path.read_bytes() for path in sorted(save_model(folder, 0.5, **shape).iterdir())}


@pytest.fixture(scope="session")
def causes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Causes:
    """The two epochs, played by the first process of this run that asks for them."""

    def make(root: Path) -> None:
        small = Small.make(root / "small", request.getfixturevalue("executor"))
        try:
            text = small.competition_file.read_text()
            for old, new in CHANGES.items():
                assert old in text, old
                text = text.replace(old, new)
            small.competition_file.write_text(text)
            (root / "hotkeys.json").write_text(json.dumps(_play(small, root / "home")))
        finally:
            small.close()

    folder = once(tmp_path_factory, "causes", make)
    records = Records(folder / "home" / "records")
    first, second = records.sealed(7)
    return Causes(records, json.loads((folder / "hotkeys.json").read_text()), (first, second))


def _play(small: Small, home: Path) -> dict[str, str]:
    """Plays the epochs; the miners' hotkeys."""
    folder = small.root / "unigrams"
    leading = unigram(folder / "leading", **dict.fromkeys(LETTERS, 2.0))
    files: dict[str, Mapping[str, bytes]] = {
        "seniority": leading,  # it leads, and commits again before the second epoch
        "copy": leading,
        "task": unigram(folder / "task", **{x: 2.3 if x in IN_TEXTS else -2.0 for x in LETTERS}),
        "epsilon": unigram(folder / "epsilon", **dict.fromkeys(LETTERS, 2.1)),
        "template": {**leading, "chat_template.jinja": b"Say nothing."},
        "gone": leading,
        "slow": {**leading, **_deep(folder / "deep")},
    }
    hotkeys = {name: small.submit(name, given) for name, given in files.items()}
    small.server.storage.delete(next(repo for repo in small.server.storage.repos() if repo.namespace == "gone"))
    hotkeys["hash"] = small.register("hash")
    promised = small.publish("hash", leading, hotkeys["hash"])
    commit = small.upload("hash/model", {"config.json": leading["config.json"] + b"\n"})
    small.commit("hash", replace(promised, commit=commit).to_text())
    sync_block = small.next_epoch() + 360
    small.chain.advance_to(sync_block - 5)
    hotkeys["late"] = small.submit("late", leading)
    small.chain.advance_to(sync_block)
    small.epoch(home)
    with small.subnet() as chain:
        _, text = chain.committed(hotkeys["seniority"]) or (0, "")
    small.commit("seniority", text)
    small.next_epoch()
    small.epoch(home, limits={"per_competition": 1, "beyond": 3})
    return hotkeys
