"""`sn37 validator`: the service that runs for months, and what an operator asks of it."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sn37.competition import Competition
    from sn37.pipeline import Pipeline
    from sn37.validator import Settings
    from sn37.validator.journal import Journal

__all__ = ["app"]

app = typer.Typer(name="validator", help="The validator as a service: run it, look after it.", no_args_is_help=True)

_PIPELINE = typer.Argument(help="A validator's pipeline file, such as pipelines/validator.yaml.")
_PARAMETER = typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter, such as more.wandb=off.")
_JSON = typer.Option("--json", help="One JSON object a line, for machines.")
_REPORT = typer.Option(help="Another pipeline, run beside at its own cadence. May be repeated.")


@app.command()
def run(
    pipeline: Annotated[Path, _PIPELINE],
    report: Annotated[list[Path] | None, _REPORT] = None,
    parameter: Annotated[list[str] | None, _PARAMETER] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Validate until stopped: at each new sync block an epoch of every funded competition; the weights beside.

    Epochs, weights and reports are processes of their own: a hanging evaluation never stops the weights. Kill it at any
    moment and start it again: it goes on where it was. SIGTERM stops it within seconds.
    """
    from sn37.supervisor import supervise
    from sn37.validator.journal import Journal
    from sn37.validator.status import held
    from sn37.workers.sandbox import adopt_orphans

    chosen, settings = _read(pipeline, parameter)
    for other in report or []:
        _read_any(other)
    with held(settings.root):
        _check(settings)
        adopt_orphans()
        given = [argument for text in parameter or [] for argument in ("-p", text)]
        more = given + ["--json"] * as_json
        reports = [argument for other in report or [] for argument in ("--report", str(other))]
        programs = {
            "epochs": _command("validator", "epochs", str(pipeline), *more, *reports),
            "weights": _command("validator", "weights", str(pipeline), *more),
        }
        for number, other in enumerate(report or [], start=1):
            programs[f"report {number} {other.stem}"] = _command(
                "validator", "report", str(pipeline), str(other), *given
            )
        journal = Journal("service", settings.root, typer.echo, as_json)
        journal.event(f"pipeline {chosen.name}: {', '.join(programs)} start")
        code = supervise(programs, journal.event, minor=programs.keys() - {"epochs", "weights"})
        journal.event("stopped")
    if code:
        raise typer.Exit(code)


@app.command()
def check(pipeline: Annotated[Path, _PIPELINE], parameter: Annotated[list[str] | None, _PARAMETER] = None) -> None:
    """Look whether everything a validator needs is there: chain, permit, records, device, disk, hub."""
    _check(_read(pipeline, parameter)[1])


@app.command()
def status(
    pipeline: Annotated[Path, _PIPELINE],
    parameter: Annotated[list[str] | None, _PARAMETER] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    prometheus: Annotated[
        Path | None, typer.Option(help="Write it as Prometheus' text, for the node exporter's textfile collector.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Serve it for Prometheus on this port, for ever.")] = 0,
) -> None:
    """Tell how a validator is doing: alive or not, epochs, weights, what runs, what waits and why, disk, versions.

    The exit code is 0 where it is healthy, 1 where its epochs or weights are late, 3 where no service runs.
    """
    from dataclasses import asdict

    from sn37 import validator
    from sn37.files import write_bytes
    from sn37.validator import status as look

    settings = _read(pipeline, parameter)[1]
    subnet, _ = validator.connect(settings)
    with subnet:
        if port:
            _serve(port, lambda: look.prometheus(look.status(settings, subnet)))
        found = look.status(settings, subnet)
    if prometheus is not None:
        write_bytes(prometheus.absolute(), look.prometheus(found))
    typer.echo(json.dumps(asdict(found), indent=1) if as_json else str(found))
    raise typer.Exit({"healthy": 0, "late": 1, "dead": 3}[found.health])


def _serve(port: int, text: Callable[[], bytes]) -> None:
    """Answer every GET on this machine's loopback with the text of that moment, until interrupted."""
    from wsgiref.simple_server import make_server

    def answer(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        body = text()
        start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])
        return [body]

    with make_server("127.0.0.1", port, answer) as server:
        typer.echo(f"serving on http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


@app.command(hidden=True)
def epochs(
    pipeline: Annotated[Path, _PIPELINE],
    report: Annotated[list[Path] | None, _REPORT] = None,
    parameter: Annotated[list[str] | None, _PARAMETER] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """The service's loop of epochs. Old executed notebooks of the reports are pruned with its own."""
    from sn37 import validator
    from sn37.pipeline import run_once
    from sn37.validator.service import run_epochs

    chosen, settings = _read(pipeline, parameter)

    def run_epoch(competition: Competition, sync_block: int) -> Mapping[str, object]:
        one = replace(chosen, parameters={**chosen.parameters, "competition": competition.name})
        return run_once(one, f"{chosen.name}-{competition.id}-{sync_block}").result

    journal = _begin("epochs", settings, as_json)
    subnet, hub = validator.connect(settings)
    executed = [each.out / "notebooks" for each in (chosen, *map(_read_any, report or []))]
    with subnet:
        run_epochs(settings, subnet, hub, run_epoch, journal, executed=executed, poll_s=chosen.poll_s)


@app.command(hidden=True)
def weights(
    pipeline: Annotated[Path, _PIPELINE],
    parameter: Annotated[list[str] | None, _PARAMETER] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """The service's loop of weights."""
    from sn37 import validator
    from sn37.validator.service import keep_weights

    chosen, settings = _read(pipeline, parameter)
    journal = _begin("weights", settings, as_json)
    subnet, _ = validator.connect(settings)
    with subnet:
        keep_weights(settings, subnet, journal, poll_s=chosen.poll_s)


@app.command(hidden=True)
def report(
    pipeline: Annotated[Path, _PIPELINE],
    beside: Annotated[Path, typer.Argument(help="The pipeline to run at its cadence.")],
    parameter: Annotated[list[str] | None, _PARAMETER] = None,
) -> None:
    """A pipeline that runs beside the service and ends with it, its cadence counted on the validator's chain."""
    from sn37.commands.run import blocks_of
    from sn37.pipeline import run_forever

    _end_with_parent()
    chain = blocks_of(_read_any(pipeline, parameter).parameters)
    run_forever(_read_any(beside), *chain, lambda line: print(line, flush=True))


def _read_any(pipeline: Path, parameter: list[str] | None = None) -> Pipeline:
    from sn37.commands.run import split_parameter
    from sn37.pipeline import check_parameters, read_pipeline

    chosen = read_pipeline(pipeline, dict(split_parameter(text) for text in parameter or []))
    check_parameters(chosen.notebook, chosen.parameters)
    return chosen


def _read(pipeline: Path, parameter: list[str] | None) -> tuple[Pipeline, Settings]:
    """A validator's pipeline and the settings in it."""
    from sn37.validator import Settings

    chosen = _read_any(pipeline, parameter)
    return chosen, Settings.of(**chosen.parameters)


def _check(settings: Settings) -> None:
    """Say what holds and what does not. Raises ConfigError where something does not."""
    from sn37 import validator
    from sn37.validator.ready import check_ready

    subnet, hub = validator.connect(settings)
    with subnet:
        findings = check_ready(settings, subnet, hub)
    for finding in findings:
        typer.echo(f"  {finding}")
    missing = [finding for finding in findings if not finding.holds]
    if missing:
        raise ConfigError(f"the validator cannot work yet: {'; '.join(one.told for one in missing)}")


def _begin(name: str, settings: Settings, as_json: bool) -> Journal:
    """What each program of the service does first; where it says what it does."""
    from sn37.validator.journal import Journal

    _end_with_parent()
    return Journal(name, settings.root, lambda line: print(line, flush=True), as_json)


def _end_with_parent() -> None:
    """Let this program end with the service, in order where it is asked to."""
    from sn37.workers.sandbox import die_with_parent

    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sn37", *arguments]
