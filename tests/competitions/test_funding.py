"""Funding: shares over the public split, own files and the hub; code is never read from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sn37.competition import Competition
from sn37.competitions import funded_schedule, public, public_schedule, read_funding
from sn37.competitions.funding import HUB_FILE, read_funding_file
from sn37.competitions.reader import MAX_FILE_BYTES
from sn37.errors import ConfigError
from sn37.schedule import fund

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PERIODS = (0, 4_675_163, 5_158_632)


def nowhere(repo: str, commit: str, name: str, max_bytes: int) -> bytes:
    raise AssertionError("nothing is to be read from the hub")


def shares(
    funding: dict[str, float], folder: Path, block: int, read: Callable[..., bytes] = nowhere
) -> dict[str, float]:
    schedule = funded_schedule(funding, folder, read)
    return {share.competition.name: share.share for share in schedule.at(block)}


@pytest.mark.parametrize("block", PERIODS)
def test_a_validator_that_funds_nothing_special_follows_the_schedule(block: int, tmp_path: Path) -> None:
    assert funded_schedule({"public": 1.0}, tmp_path, nowhere).at(block) == public_schedule().at(block)


def test_files_and_public_competitions_share_the_emission(own: Callable[..., Path], tmp_path: Path) -> None:
    own()
    split = shares({"public": 0.5, "own.toml": 0.3, "INSTRUCT_8B": 0.2}, tmp_path, 0)
    assert split == pytest.approx({"B7_MULTI_CHOICE": 0.375, "INSTRUCT_8B": 0.325, "OWN": 0.3})
    split = shares({"public": 0.5, "own.toml": 0.3, "INSTRUCT_8B": 0.2}, tmp_path, 5_158_632)
    assert split == pytest.approx({"DISTILLED_REASONING_3B": 0.5, "INSTRUCT_8B": 0.2, "OWN": 0.3})
    assert math.fsum(split.values()) == pytest.approx(1, abs=1e-12)


def test_a_public_name_means_the_weighting_of_each_period(tmp_path: Path) -> None:
    schedule = funded_schedule({"INSTRUCT_8B": 1.0}, tmp_path, nowhere)
    for block in PERIODS:
        assert schedule.at(block)[0].competition == public("INSTRUCT_8B", block)


def test_a_hub_competition_is_read_once_at_its_commit(text: str, tmp_path: Path) -> None:
    asked = []

    def read(repo: str, commit: str, name: str, max_bytes: int) -> bytes:
        asked.append((repo, commit, name, max_bytes))
        return text.encode()

    split = shares({"public": 0.5, f"someone/own@{COMMIT}": 0.5}, tmp_path, 5_158_632, read)
    assert split == {"DISTILLED_REASONING_3B": 0.5, "OWN": 0.5}
    assert asked == [("someone/own", COMMIT, HUB_FILE, MAX_FILE_BYTES)]


def test_one_competition_by_two_ways_gets_the_sum(own: Callable[..., Path], text: str, tmp_path: Path) -> None:
    own()
    funding = {"public": 0.5, "own.toml": 0.3, f"someone/own@{COMMIT}": 0.2}
    assert shares(funding, tmp_path, 5_158_632, lambda *_: text.encode())["OWN"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff", "not UTF-8"),
        (b"import os", "not valid TOML"),
        (b"#" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_hostile_hub_file_is_refused_by_name(data: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"someone/own@0123456789ab: .*{told}"):
        read_funding({f"someone/own@{COMMIT}": 1.0}, tmp_path, lambda *_: data)


def test_a_hub_competition_may_name_built_in_sources_only(text: str, tmp_path: Path) -> None:
    from sn37.sources import source

    @source("theirs")
    def theirs(context: object) -> list[object]:
        raise AssertionError("never run")

    data = text.replace("word_sorting", "theirs").encode()
    with pytest.raises(ConfigError, match=r"unknown source 'theirs' \(code outside the package"):
        read_funding({f"someone/own@{COMMIT}": 1.0}, tmp_path, lambda *_: data)


@pytest.mark.parametrize(
    ("funding", "told"),
    [
        ({"public": 0.5, "INSTRUCT_8B": 0.4}, "the shares of public, INSTRUCT_8B sum to 0.9; expected 1"),
        ({"public": 1.5, "INSTRUCT_8B": -0.5}, "the share of public is 1.5; expected a number in"),
        ({"public": True}, "the share of public is True"),
        ({"public": "1"}, "the share of public is '1'"),
        ({"public": float("nan")}, "the share of public is nan"),
        ({"INSTRUCT_9B": 1.0}, "unknown competition 'INSTRUCT_9B'; expected public, B7_MULTI_CHOICE"),
        ({"someone/own@main": 1.0}, "unknown competition 'someone/own@main'; .* full 40-digit commit"),
        ({"someone/own": 1.0}, "unknown competition 'someone/own'"),
        ({"gone.toml": 1.0}, r"gone\.toml: cannot be read"),
    ],
)
def test_a_wrong_funding_is_told_by_its_item(funding: dict[str, float], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        read_funding(funding, tmp_path, nowhere)


@pytest.mark.parametrize("claimed", [2, 3, 4])
def test_an_own_competition_cannot_claim_a_public_id(claimed: int, own: Callable[..., Path], tmp_path: Path) -> None:
    own(("id = 42", f"id = {claimed}"))
    with pytest.raises(ConfigError, match=f"competition id {claimed} is used twice: .*OWN"):
        funded_schedule({"public": 0.5, "own.toml": 0.5}, tmp_path, nowhere)


def test_two_own_competitions_cannot_share_an_id(own: Callable[..., Path], tmp_path: Path) -> None:
    own(name="a.toml")
    own(('"OWN"', '"OTHER"'), name="b.toml")
    with pytest.raises(ConfigError, match="competition id 42 is used twice: by OWN and by OTHER"):
        funded_schedule({"a.toml": 0.5, "b.toml": 0.5}, tmp_path, nowhere)


def test_the_items_are_what_the_schedule_takes(own: Callable[..., Path], tmp_path: Path) -> None:
    own()
    items = read_funding({"public": 0.5, "own.toml": 0.5}, tmp_path, nowhere)
    assert [type(item) for item in items] == [str, Competition]
    assert [s.share for s in fund(items, public_schedule().at(5_158_632))] == [0.5, 0.5]


def test_a_funding_file_holds_one_table(tmp_path: Path) -> None:
    path = tmp_path / "funding.toml"
    path.write_text('[funding]\npublic = 0.5\n"own.toml" = 0.5\n')
    assert read_funding_file(path) == {"public": 0.5, "own.toml": 0.5}
    path.write_text("public = 1.0\n")
    with pytest.raises(ConfigError, match=r"expected one table \[funding\]"):
        read_funding_file(path)
