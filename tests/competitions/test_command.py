"""`sn37 competitions`, over an embedded chain and hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sn37.competitions
from sn37.commands.competitions import app
from sn37.competitions import public_schedule
from sn37.devnet.chain import Chain
from sn37.devnet.hub import HubServer
from sn37.errors import ConfigError


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


def said(*arguments: object) -> str:
    """What the command prints; its error is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("block", "running", "resting"),
    [
        (10, {"B7_MULTI_CHOICE": "0.75", "INSTRUCT_8B": "0.25"}, "DISTILLED_REASONING_3B, SN9_MODEL"),
        (5_200_000, {"DISTILLED_REASONING_3B": "1"}, "B7_MULTI_CHOICE, INSTRUCT_8B, SN9_MODEL"),
    ],
)
def test_list_tells_what_runs_at_a_block(block: int, running: dict[str, str], resting: str) -> None:
    told = said("list", "--block", block)
    assert dict(re.findall(r"│ (\w+) +│ ([\d.]+) +│ <=", told)) == running
    assert f"not running then: {resting}" in told


def test_list_asks_the_chain_for_its_newest_block(tmp_path: Path) -> None:
    chain = Chain.create(tmp_path / "chain.sqlite", start_block=4_700_000)
    told = said("list", "--network", chain.url)
    chain.close()
    assert "public competitions at block 4700000" in told
    assert "INSTRUCT_8B" in told


def test_show_tells_every_figure_of_a_competition() -> None:
    told = said("show", "DISTILLED_REASONING_3B")
    for figure in ("3,200,000,000", "3,400,000,000", "15 GiB", "16,384", "Xenova/gpt-4", "460", "Gemma2ForCausalLM"):
        assert figure in told
    assert "linear_decay start 0.05, end 0.01, decay_blocks 21600" in told
    assert re.search(r"SYNTHETIC_1_SFT +│ 0.5 +│ synthetic_1_sft +│ reference_loss +│ none", told)
    assert "any: each model brings its own" in said("show", "INSTRUCT_8B")
    assert said("show", "INSTRUCT_8B", "--block", 0) != said("show", "INSTRUCT_8B")


@pytest.mark.parametrize("name", ["SN9_MODEL", "B7_MULTI_CHOICE", "INSTRUCT_8B", "DISTILLED_REASONING_3B"])
def test_show_prints_a_file_to_start_from(name: str, tmp_path: Path) -> None:
    from sn37.competitions import public, read_competition

    path = tmp_path / "own.toml"
    path.write_text(said("show", name, "--toml"))
    assert read_competition(path) == public(name)
    assert "is right" in said("check", path)


def test_parts_lists_every_source_and_method_with_its_arguments() -> None:
    from sn37.methods import METHODS
    from sn37.sources import SOURCES

    told = said("parts")
    assert all(name in told for name in (*SOURCES, *METHODS))
    assert "Lists of 2 to 20 distinct words" in told
    assert "sanity_check = True" in told and "repo (needed)" in told


def test_check_passes_a_right_file_and_tells_a_wrong_one(own: Callable[..., Path]) -> None:
    assert "is right: competition 42 OWN: QUESTIONS 0.75, WORDS 0.25" in said("check", own())
    with pytest.raises(
        ConfigError, match=r"own\.toml: tasks\[1\] WORDS: source: unknown source 'words'; expected one of"
    ):
        said("check", own(('"word_sorting"', '"words"')))


def test_check_warns_of_nats_per_token_where_the_tokenizer_is_open(tmp_path: Path) -> None:
    files = {path.stem: path for path in Path(sn37.competitions.__file__).parent.glob("*.toml")}
    warned = {name for name, path in files.items() if name != "schedule" and "warning: FINEWEB" in said("check", path)}
    assert warned == {"instruct_8b", "instruct_8b_first"}
    fixed = files["instruct_8b"].read_text()
    for method in ("text_loss", "reference_loss"):
        fixed = fixed.replace(f'name = "{method}" }}', f'name = "{method}", unit = "bits_per_byte" }}')
    (tmp_path / "own.toml").write_text(fixed)
    assert "warning" not in said("check", tmp_path / "own.toml")


def test_check_knows_the_validators_own_tasks(own: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sn37.sources import source\n@source('checked')\ndef f(context): return []\n"
    )
    path = own(('"word_sorting"', '"checked"'))
    assert "is right" in said("check", path, "--tasks", tmp_path / "mine.py")


def test_a_published_competition_is_funded_by_others(
    own: Callable[..., Path], server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", server.token_of("someone"))
    told = said("publish", own(), "--repo", "someone/own", "--hub", server.endpoint)
    item = told.split()[-1]
    assert re.fullmatch(r"someone/own@[0-9a-f]{40}", item)
    monkeypatch.delenv("HF_TOKEN")
    assert "42 OWN" in said("show", item, "--hub", server.endpoint)
    own(("id = 42", "id = 43"), ('"OWN"', '"SECOND"'), name="second.toml")
    funding = tmp_path / "funding.toml"
    funding.write_text(f'[funding]\npublic = 0.5\n"second.toml" = 0.3\n"{item}" = 0.2\n')
    told = said("fund", funding, "--hub", server.endpoint, "--block", 5_200_000)
    split = dict(re.findall(r"│ (\w+) +│ ([\d.]+) +│ <=", told))
    assert split == {"DISTILLED_REASONING_3B": "0.5", "OWN": "0.2", "SECOND": "0.3"}


def test_a_competition_with_ones_own_code_is_not_published(own: Callable[..., Path], tmp_path: Path) -> None:
    from sn37.sources import source

    source("unpublished")(lambda context: [])
    with pytest.raises(ConfigError, match="code outside the package is never used here"):
        said("publish", own(('"word_sorting"', '"unpublished"')), "--repo", "someone/own")


def test_publishing_needs_a_token(own: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="set the environment variable HF_TOKEN"):
        said("publish", own(), "--repo", "someone/own")


def test_fund_shows_what_a_validators_pipeline_would_use(own: Callable[..., Path], tmp_path: Path) -> None:
    from sn37.files import shipped

    path = tmp_path / "validator.yaml"
    own()
    text = shipped("pipelines", "validator.yaml").read_text()
    wanted = f"funding: {{public: 0.25, {tmp_path / 'own.toml'}: 0.75}}"
    path.write_text(re.sub(r"funding: \{public: 1.0\}", wanted, text))
    split = dict(re.findall(r"│ (\w+) +│ ([\d.]+) +│ <=", said("fund", path, "--block", 5_200_000)))
    assert split == {"DISTILLED_REASONING_3B": "0.25", "OWN": "0.75"}


def test_fund_tells_shares_that_do_not_sum_to_1(tmp_path: Path) -> None:
    path = tmp_path / "funding.toml"
    path.write_text("[funding]\npublic = 0.5\n")
    with pytest.raises(ConfigError, match=r"the shares of public sum to 0\.5; expected 1"):
        said("fund", path, "--block", 1)


def test_an_own_schedules_competitions_are_funded_by_name(own: Callable[..., Path], tmp_path: Path) -> None:
    from sn37.competitions import funded_schedule, read_schedule

    own()
    own(("id = 42", "id = 43"), ('"OWN"', '"SECOND"'), name="second.toml")
    path = tmp_path / "schedule.toml"
    path.write_text('default_id = 42\n[[periods]]\nfrom_block = 5\nshares = { "own.toml" = 1.0 }\n')
    schedule = funded_schedule({"OWN": 0.6, "second.toml": 0.4}, tmp_path, lambda *_: b"", read_schedule(path))
    assert [(s.competition.name, s.share) for s in schedule.at(5)] == [("OWN", 0.6), ("SECOND", 0.4)]
    assert schedule.at(4) == ()
    assert public_schedule().at(4) != ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("default_id = 1\n", "schedule.toml: periods is missing"),
        ("default_id = 1\nperiods = []\n", "a schedule needs periods"),
        (
            'default_id = 1\n[[periods]]\nfrom_block = 0\nshares = { "own.toml" = 0.5 }\n',
            r"periods\[0\]: .* sum to 0.5",
        ),
        ('default_id = 1\n[[periods]]\nfrom_block = 0\nshare = { "own.toml" = 1.0 }\n', "unknown field share"),
        ('default_id = 1\n[[periods]]\nfrom_block = 0\nshares = { "gone.toml" = 1.0 }\n', "gone.toml: cannot be read"),
    ],
)
def test_a_wrong_schedule_is_told_with_its_place(
    text: str, told: str, own: Callable[..., Path], tmp_path: Path
) -> None:
    from sn37.competitions import read_schedule

    own()
    (tmp_path / "schedule.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_schedule(tmp_path / "schedule.toml")
