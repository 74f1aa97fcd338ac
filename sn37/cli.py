"""The `sn37` command: one clear sentence and exit code 2 for whatever the user can mend."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from sn37 import __version__
from sn37.commands import competitions, demo, devnet, lab, miner, notebook, records, run, validator
from sn37.errors import ChainFault, ConfigError, HubFault, Sn37Error, disk_fault, is_full

__all__ = ["app", "main"]

app = typer.Typer(
    name="sn37",
    help="Finetuning competitions on Bittensor (subnet 37): validate them with notebooks, replay and explain them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("init")(run.init)
app.command("lab")(lab.lab)
app.command("notebook", add_help_option=False)(notebook.notebook)
app.command("records")(records.records)
app.command("replay")(records.replay)
app.command("compare")(records.compare)
app.add_typer(competitions.app, name="competitions")
app.add_typer(devnet.app, name="devnet")
app.add_typer(miner.app, name="miner")
app.add_typer(validator.app, name="validator")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sn37 {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["SN37_DEBUG"] = "1"


def main() -> None:
    """Run the command line; an error becomes one sentence on standard error.

    Exit code 2: the user, or time, can mend it. 1: nobody foresaw it. 130: interrupted.
    """
    try:
        app()
    except ChainFault as error:
        _fail(error, f"{error}; try again later, or with another network", 2)
    except HubFault as error:
        _fail(error, f"{error}; try again later, or with another hub", 2)
    except Sn37Error as error:
        _fail(error, f"{error}", 2)
    except OSError as error:
        _fail(error, _sentence(error), 2)
    except KeyboardInterrupt:
        _fail(None, "stopped", 130)
    except Exception as error:
        _fail(error, f"{type(error).__name__}: {error}; this was not foreseen: `sn37 --debug ...` shows where", 1)


def _sentence(error: OSError) -> str:
    where = error.filename or "the working folder"
    if is_full(error):
        return f"{disk_fault(error, where)} and run it again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where} cannot be used ({error.strerror}); let this user read and write there, or choose another place"
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}; correct the path and try again"


def _fail(error: BaseException | None, sentence: str, code: int) -> None:
    if error is not None and os.environ.get("SN37_DEBUG"):
        raise error
    kind = f"{error.owner} fault" if isinstance(error, Sn37Error) and not isinstance(error, ConfigError) else "error"
    print(f"sn37: {kind}: {sentence}", file=sys.stderr)
    sys.exit(code)
