"""`sn37 competitions`: what runs when, one competition whole, checking, publishing, a validator's funding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from sn37.competition import Competition, Epsilon, Normalization
    from sn37.competitions.funding import ReadHub
    from sn37.schedule import Schedule, Share

__all__ = ["HubAddress", "Tasks", "app", "named_competition"]

app = typer.Typer(help="What runs at a block; show, check, publish and fund competitions.", no_args_is_help=True)

Block = Annotated[
    int | None, typer.Option("--block", "-b", min=0, help="The block asked about; the chain's newest without it.")
]
Network = Annotated[str, typer.Option(help="The chain asked for its newest block.")]
HubAddress = Annotated[str | None, typer.Option("--hub", help="The hub's address; Hugging Face's own without it.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--tasks", help="A Python file or entry point with sources and methods of your own; may be repeated."),
]
File = Annotated[Path, typer.Argument(help="A competition file (TOML).")]


@app.command("list")
def list_(block: Block = None, network: Network = "finney") -> None:
    """The public competitions that run at a block, with their shares of the emission."""
    from sn37.competitions import public_competitions, public_schedule

    at = _at(block, network)
    shares = public_schedule().at(at)
    _print(_split_table(f"public competitions at block {at}", shares))
    resting = sorted({c.name for c in public_competitions()} - {share.competition.name for share in shares})
    if resting:
        typer.echo(f"not running then: {', '.join(resting)}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A public competition's name, a competition file, or repo@commit.")],
    block: Annotated[
        int | None, typer.Option("--block", "-b", min=0, help="As it runs then; newest without it.")
    ] = None,
    hub: HubAddress = None,
    tasks: Tasks = None,
    toml: Annotated[bool, typer.Option("--toml", help="As a competition file, to start one's own from.")] = False,
) -> None:
    """One competition whole: constraints, epsilon, tasks."""
    from sn37.competitions import write_competition

    competition = named_competition(name, block, hub, tasks)
    if toml:
        typer.echo(write_competition(competition), nl=False)
    else:
        _show(competition)


def named_competition(
    name: str, block: int | None = None, hub: str | None = None, tasks: list[str] | None = None
) -> Competition:
    """A public competition as it runs at a block (newest without it), one of a file, or of repo@commit."""
    from sn37.competition import Competition
    from sn37.competitions import load_tasks
    from sn37.competitions.funding import read_item

    load_tasks(tasks or ())
    found = read_item(name, Path(), _reader(hub), block)
    if not isinstance(found, Competition):
        raise ConfigError(f"{name!r} is no competition but the public split; see `sn37 competitions list`")
    return found


@app.command()
def check(
    file: File,
    tasks: Tasks = None,
) -> None:
    """Check a competition file; all its mistakes are told in one go, each with its place and the choices."""
    from sn37.competitions import load_tasks, read_competition
    from sn37.methods import METHODS

    load_tasks(tasks or ())
    competition = read_competition(file)
    typer.echo(f"{file} is right: {competition}")
    typer.echo(f"digest {competition.digest}")
    if competition.constraints.tokenizer is None:
        for task in competition.tasks:
            method = METHODS[task.method](**task.method_args)
            if getattr(method, "unit", None) == "nats_per_token":
                typer.echo(
                    f"warning: {task.name} counts nats_per_token while each model brings its own tokenizer: one that "
                    'puts empty tokens between letters lowers its loss; expected unit = "bits_per_byte"'
                )


@app.command()
def parts(tasks: Tasks = None) -> None:
    """The sources and methods that a competition may be made of, with their arguments and defaults."""
    from rich.table import Table

    from sn37.competitions import load_tasks
    from sn37.methods import METHODS
    from sn37.sources import SOURCES

    load_tasks(tasks or ())
    for registry in (SOURCES, METHODS):
        table = Table("name", "what it is", "arguments", title=f"{registry.kind}s", title_justify="left")
        for name in registry:
            table.add_row(name, registry[name].summary, registry[name].signature)
            table.add_section()
        _print(table)


@app.command()
def publish(
    file: File,
    repo: Annotated[str, typer.Option(help="The hub repo to put it in, namespace/name; made where it is missing.")],
    hub: HubAddress = None,
) -> None:
    """Check a competition and publish it on the hub, for others to fund. Needs a token in HF_TOKEN."""
    from sn37.competitions import read_competition
    from sn37.competitions.funding import HUB_FILE
    from sn37.hub import Hub
    from sn37.scratch import ScratchFolder

    competition = read_competition(file, builtin_only=True)
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise ConfigError("publishing needs a hub token with the right to write: set the environment variable HF_TOKEN")
    with ScratchFolder() as cache:
        commit = Hub(hub, token, cache=cache).publish_file(repo, HUB_FILE, file.read_bytes())
    typer.echo(f"published {competition.name}; fund it as\n{repo}@{commit}")


@app.command()
def fund(
    file: Annotated[
        Path,
        typer.Argument(help="A validator's pipeline (YAML), or a TOML file with a table funding.", show_default=False),
    ],
    block: Block = None,
    network: Annotated[
        str | None, typer.Option(help="The chain asked for its newest block; the pipeline's, or finney, without it.")
    ] = None,
    hub: HubAddress = None,
    tasks: Tasks = None,
) -> None:
    """Show the split of the emission that a funding gives, before it is used."""
    funding, schedule, home = _funded(file, hub, tasks or [])
    at = _at(block, network or home)
    parts = ", ".join(f"{item} {share:g}" for item, share in funding.items())
    _print(_split_table(f"at block {at}, funding {parts}", schedule.at(at)))


def _funded(file: Path, hub: str | None, tasks: list[str]) -> tuple[Mapping[str, Any], Schedule, str]:
    """The funding in a file, the schedule it gives, and the chain it is for."""
    from sn37.competitions import funded_schedule, load_tasks, read_funding_file

    if file.suffix == ".toml":
        load_tasks(tasks)
        funding = read_funding_file(file)
        return funding, funded_schedule(funding, file.parent, _reader(hub)), "finney"
    from sn37.hub import Hub
    from sn37.pipeline import read_pipeline
    from sn37.scratch import ScratchFolder
    from sn37.validator import Settings
    from sn37.validator.plan import schedule_of

    parameters = {name: value for name, value in read_pipeline(file).parameters.items() if name != "result_file"}
    more = parameters.get("more")
    own = more.pop("tasks", ()) if isinstance(more, dict) else ()
    settings = Settings.of(**parameters, tasks=[*own, *tasks])
    with ScratchFolder() as cache:
        client = Hub(hub or settings.hub, os.environ.get("HF_TOKEN"), cache=cache)
        return settings.funding, schedule_of(settings, client), settings.network


def _at(block: int | None, network: str) -> int:
    if block is not None:
        return block
    from sn37.chain import Subnet

    with Subnet(network, 37) as subnet:
        return subnet.head()


def _reader(hub: str | None) -> ReadHub:
    def read(repo: str, commit: str, name: str, max_bytes: int) -> bytes:
        from sn37.hub import Hub
        from sn37.scratch import ScratchFolder

        with ScratchFolder() as cache:
            return Hub(hub, os.environ.get("HF_TOKEN"), cache=cache).read_file(repo, commit, name, max_bytes)

    return read


def _print(*parts: object) -> None:
    from rich.console import Console

    Console(highlight=False).print(*parts, sep="\n")


def _split_table(title: str, shares: tuple[Share, ...]) -> Table:
    from rich.table import Table

    table = Table("id", "competition", "share", "parameters", "tasks and weights", title=title, title_justify="left")
    for share in shares:
        c = share.competition
        weights = ", ".join(f"{task.name} {task.weight:g}" for task in c.tasks)
        table.add_row(
            str(c.id), c.name, f"{share.share:.4g}", f"<= {c.constraints.max_parameters / 1e9:.3g} B", weights
        )
    return table


def _show(competition: Competition) -> None:
    from rich.table import Table
    from rich.text import Text

    head = Text(f"{competition.id} {competition.name}", style="bold")
    head.append(f"  {competition.title}\n{competition.description}\n", style="not bold")
    tasks = Table("task", "weight", "source", "method", "normalization", title="tasks (lower is better)")
    for task in competition.tasks:
        source, method = _call(task.source, task.source_args), _call(task.method, task.method_args)
        tasks.add_row(task.name, f"{task.weight:g}", source, method, _kind(task.normalization))
    facts = Table("constraint", "value", title="constraints")
    for name, value in asdict(competition.constraints).items():
        facts.add_row(name, _plain(name, value))
    facts.add_row("epsilon", _kind(competition.epsilon))
    if competition.significance is not None:
        facts.add_row("significance", f"a takeover must be beyond chance at {competition.significance:.0%}")
    for name, value in asdict(competition.evaluation).items():
        facts.add_row(name, f"{value:,}")
    for table in (tasks, facts):
        table.title_justify = "left"
    _print(head, tasks, facts, f"digest {competition.digest}")


def _call(name: str, args: Mapping[str, Any]) -> Any:
    from rich.text import Text

    return Text("\n".join([name, *(f"  {key} = {value!r}" for key, value in args.items())]))


def _kind(value: Epsilon | Normalization) -> str:
    figures = ", ".join(f"{key} {figure:g}" for key, figure in asdict(value).items() if key != "kind")
    return f"{value.kind} {figures}".strip()


def _plain(name: str, value: Any) -> str:
    if name == "tokenizer":
        return value or "any: each model brings its own"
    if name == "max_bytes":
        return f"{value:,} ({value / 2**30:g} GiB)"
    if isinstance(value, tuple | list):
        return "\n".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
