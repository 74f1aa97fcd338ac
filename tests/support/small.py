"""The smallest subnet that an epoch can be played on: an embedded chain and hub, untrained models made by hand.

The models are uniform but for noise: the more of it, the higher their loss, so who wins is known beforehand.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from faulty_chain import FaultyChain
from faulty_hub import FaultyHub

from sn37 import validator
from sn37.chain import Subnet, open_wallet
from sn37.competition import Competition
from sn37.competitions import read_competition
from sn37.devnet.chain import open_substrate
from sn37.devnet.datasets import Dataset
from sn37.evaluation.run import preloaded
from sn37.hub import Hub
from sn37.records.decision import Decision
from sn37.submission import ModelId, content_hash, secure_hash
from sn37.validator.settings import Settings
from sn37.workers.executors import Executor, LocalExecutor

NETUID = 37
START_BLOCK = 5_200_000
COMPETITION = """
id = 7
name = "SMALL"

[constraints]
architectures = ["LlamaForCausalLM"]
max_parameters = 100_000
max_bytes = 1_000_000
sequence_length = 128
tokenizer = "curator/tokenizer"
delay_blocks = 10
dtype = "float32"

[epsilon]
kind = "fixed"
value = 0.01

[evaluation]
time_limit_s = 300

[[tasks]]
name = "TEXTS"
weight = 0.5
source = { name = "hub_dataset", repo = "curator/texts", split = "test", rows = 4, page_rows = 2, text = "{text}" }
method = { name = "text_loss", sanity_check = false }

[[tasks]]
name = "WORDS"
weight = 0.5
source = { name = "word_sorting", count = 2 }
method = { name = "reference_loss" }
"""
TEXTS = [{"text": f"Line {number}: " + "the river rose in the night " * 2} for number in range(20)]


def save_model(folder: Path, noise: float, *, vocabulary: int = 257, **fields: Any) -> Path:
    """A tiny Llama whose head is noise of that size: 0 is uniform over all tokens, the best that untrained can be."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**{**shape, "vocab_size": vocabulary, **fields}))
        model.lm_head.weight.data.normal_(std=1.0).mul_(noise)
    model.save_pretrained(folder)
    return folder


@dataclass
class Small:
    """A subnet with one validator, who takes part as `validator`, and miners as they are asked for."""

    root: Path
    chain: FaultyChain
    server: FaultyHub
    executor: Executor | None = None
    models: dict[float, Path] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, executor: Executor | None = None) -> Small:
        root.mkdir(parents=True, exist_ok=True)
        chain = FaultyChain.create(root / "chain.sqlite", start_block=START_BLOCK, netuids=(NETUID,))
        small = cls(root, chain, FaultyHub(root / "hub", clock=chain.now).start(), executor)
        small.competition_file.write_text(COMPETITION)
        small.register("validator", stake=500_000.0, permit=True)
        Dataset("curator/texts", {("default", "test"): TEXTS}).publish(
            small.server.endpoint, small.server.token_of("curator")
        )
        tokenizer = root / "tokenizer"
        from sn37.checks.tokenizer import byte_tokenizer

        byte_tokenizer().save_pretrained(tokenizer)
        small.upload("curator/tokenizer", {path.name: path.read_bytes() for path in sorted(tokenizer.iterdir())})
        return small

    def close(self) -> None:
        self.server.stop()
        self.chain.close()

    # Who takes part -------------------------------------------------------------------------------

    @property
    def competition_file(self) -> Path:
        return self.root / "competition.toml"

    @property
    def competition(self) -> Competition:
        return read_competition(self.competition_file)

    def register(self, name: str, **fields: Any) -> str:
        """A wallet of that name, registered; its hotkey's address."""
        from bittensor import Wallet

        wallet = Wallet(name, "default", str(self.root / "wallets"))
        wallet.create_new_coldkey(use_password=False, suppress=True)
        wallet.create_new_hotkey(use_password=False, suppress=True)
        self.chain.register(NETUID, wallet.hotkey.ss58_address, **fields)
        return str(wallet.hotkey.ss58_address)

    def hotkey(self, name: str) -> str:
        return str(open_wallet(name, "default", self.root / "wallets").hotkey.ss58_address)

    def subnet(self, name: str | None = None, **options: Any) -> Subnet:
        options = {"backoff_s": 0.0, **options}
        wallet = name and open_wallet(name, "default", self.root / "wallets")
        return Subnet(self.chain.url, NETUID, wallet=wallet, **options)

    def model(self, noise: float) -> Path:
        if noise not in self.models:
            self.models[noise] = save_model(self.root / "models" / str(noise), noise)
        return self.models[noise]

    def files(self, noise: float) -> dict[str, bytes]:
        """The files of a model with that much noise."""
        return {path.name: path.read_bytes() for path in sorted(self.model(noise).iterdir())}

    def upload(self, repo: str, files: Mapping[str, bytes]) -> str:
        """Put files into a public repo, whatever they are; the commit."""
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(endpoint=self.server.endpoint, token=self.server.token_of(repo.split("/")[0]))
        api.create_repo(repo, exist_ok=True)
        added = [CommitOperationAdd(name, io.BytesIO(data)) for name, data in files.items()]
        return str(api.create_commit(repo, added, commit_message="made by hand").oid)

    def submit(self, name: str, files: Mapping[str, bytes] | float, *, register: bool = True) -> str:
        """Let a miner publish and commit these files (or a model with that much noise); its hotkey."""
        hotkey = self.register(name) if register else self.hotkey(name)
        self.commit(name, self.publish(name, files, hotkey).to_text())
        return hotkey

    def publish(self, name: str, files: Mapping[str, bytes] | float, hotkey: str) -> ModelId:
        """Put files into a miner's repo; what its hotkey has to commit."""
        files = self.files(files) if isinstance(files, float | int) else files
        commit = self.upload(f"{name}/model", files)
        folder = self.root / "hashed" / name / commit
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return ModelId(name, "model", commit, secure_hash(content_hash(folder), hotkey), 7)

    def commit(self, name: str, what: str | bytes) -> None:
        """Commit a text, or any bytes, which no miner's tool would."""
        import bittensor as bt

        raw = what.encode() if isinstance(what, str) else what
        call = bt.calls.Commitments.set_commitment(netuid=NETUID, info={"fields": [{f"Raw{len(raw)}": raw}]})
        wallet = open_wallet(name, "default", self.root / "wallets")

        async def send() -> Any:
            async with bt.Client("local", substrate=open_substrate(self.chain.url)) as client:
                return await client.submit_call(call, wallet, signer="hotkey")

        result = asyncio.run(send())
        assert result.success, result

    # A validator's epoch --------------------------------------------------------------------------

    def parameters(self, home: Path, **changes: Any) -> dict[str, Any]:
        """Parameters of the epoch notebook."""
        return {
            "network": self.chain.url,
            "netuid": NETUID,
            "hub": self.server.endpoint,
            "wallet": "validator",
            "hotkey": "default",
            "wallet_path": str(self.root / "wallets"),
            "root": str(home),
            "funding": {str(self.competition_file): 1.0},
            "device": "cpu",
            "wandb": "off",
            **changes,
        }

    def settings(self, home: Path, **changes: Any) -> Settings:
        return Settings.of(**self.parameters(home, **changes))

    def next_epoch(self) -> int:
        """Let blocks pass until the next sync block after the pick-up delay."""
        clock = Settings().clock
        return self.chain.advance_to(clock.next_sync_block(self.chain.head() + 10))

    def hub(self, home: Path, **options: Any) -> Hub:
        options = {"attempts": 2, "first_wait_s": 0.0, "timeout_s": 10, **options}
        return Hub(self.server.endpoint, cache=home / "cache" / "models", **options)

    def epoch(self, home: Path, **changes: Any) -> Outcome:
        """All steps of an epoch, as the notebook takes them."""
        hooks: dict[str, Callable[..., object]] = {
            name: changes.pop(name) for name in ("after_plan", "after_fetch", "after_decide") if name in changes
        }
        outcome = Outcome(self, home, self.settings(home, **changes))
        return outcome.run(hooks)


@dataclass
class Outcome:
    """One epoch, step by step; each step is what the notebook's cell does."""

    small: Small
    home: Path
    settings: Settings
    plan: Any = None
    decided: Any = None
    publication: Any = None

    @cached_property
    def subnet(self) -> Subnet:
        wallet = self.settings.wallet if self.settings.publish else None
        return self.small.subnet(wallet, attempts=2, timeout_s=20)

    @cached_property
    def hub(self) -> Hub:
        return self.small.hub(self.home)

    def run(self, hooks: Mapping[str, Callable[..., object]]) -> Outcome:
        nothing = lambda: None  # noqa: E731
        with self.subnet:
            self.plan = validator.plan(self.settings, self.subnet, self.hub)
            hooks.get("after_plan", nothing)()
            fetched = validator.fetch(self.plan, self.subnet, self.hub)
            hooks.get("after_fetch", nothing)()
            evaluated = validator.evaluate(fetched, self.small.executor)
            self.decided = validator.decide(evaluated)
            hooks.get("after_decide", nothing)()
            published = validator.publish(self.decided, self.subnet)
            self.publication = validator.mirror(self.decided, published, self.subnet, self.hub)
            for shown in (self.plan, fetched, evaluated, self.decided, self.publication):
                json.dumps(shown._repr_html_()).encode()
        return self

    @property
    def decision(self) -> Decision:
        return self.decided.decision

    @property
    def faults(self) -> dict[str, str]:
        """hotkey -> why it lost, or was not evaluated."""
        lost = {score.hotkey: score.fault.reason for score in self.decision.scores if score.fault}
        return lost | {p.submission.hotkey: p.why for p in self.plan.picks if not p.evaluate}

    @property
    def losses(self) -> dict[str, float]:
        return {score.hotkey: score.score for score in self.decision.scores if score.score is not None}


@pytest.fixture(scope="session")
def executor() -> Iterator[Executor]:
    """Workers that have imported what they need once."""
    with LocalExecutor(("cpu",), preloaded(("LlamaForCausalLM",))) as executor:
        executor.start()
        yield executor


@pytest.fixture(scope="module")
def module_small(tmp_path_factory: pytest.TempPathFactory, executor: Executor) -> Iterator[Small]:
    """A subnet that the tests of a module share."""
    small = Small.make(tmp_path_factory.mktemp("small"), executor)
    yield small
    small.close()


@pytest.fixture
def small(tmp_path: Path, executor: Executor) -> Iterator[Small]:
    """A subnet of one's own."""
    small = Small.make(tmp_path / "small", executor)
    yield small
    small.close()
