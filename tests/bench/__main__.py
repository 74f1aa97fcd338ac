"""`make bench`: the engine beside what others run, on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn37.errors import ConfigError, Sn37Error

if TYPE_CHECKING:
    from rich.table import Table

    from bench.measure import Measurement, Plan

__all__ = ["bench"]

EPOCH = "epoch"


def bench(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Which, separated by commas.")] = "bfloat16,float32",
    size: Annotated[str, typer.Option(help="Of the models' bodies: tiny, small, 100m or 1b.")] = "tiny",
    rounds: Annotated[int, typer.Option(min=1, help="How often everybody does everything; the median counts.")] = 3,
    work: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="short, long, choices, instructions or epoch; may be repeated; all if left out"
        ),
    ] = None,
    contestant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="'engine', 'plain loop', 'lm-eval 16' or 'lm-eval auto'; all if left out"),
    ] = None,
    engine: Annotated[str, typer.Option(help="Which of the library's engines: fast or reference.")] = "fast",
    vocabulary: Annotated[int, typer.Option(help="Words the models know.")] = 100_277,
    threads: Annotated[int, typer.Option(help="Of each process; 0: as many as there are cores.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few samples: to see that it runs, not how fast.")] = False,
    out: Annotated[Path, typer.Option(help="Where the table and the figure are written.")] = Path("out/bench"),
) -> None:
    """Measure the evaluation engine beside the plain loop and lm-evaluation-harness, on models made here.

    lm-evaluation-harness takes part where the extra `bench` is installed.
    """
    from bench.measure import CONTESTANT_NAMES, Plan
    from bench.workloads import WORKS

    asked = tuple(work or (*WORKS, EPOCH))
    _check_works(asked, (*WORKS, EPOCH))
    plan = Plan(
        works=tuple(name for name in WORKS if name in asked),
        dtypes=tuple(name.strip() for name in dtype.split(",") if name.strip()),
        contestants=tuple(contestant or CONTESTANT_NAMES),
        device=device,
        size=size,
        rounds=rounds,
        vocabulary=vocabulary,
        quick=quick,
        engine=engine,
        threads=threads or len(os.sched_getaffinity(0)),
    )
    _check_device(device)
    _run(plan, out, epoch=EPOCH in asked)


def _run(plan: Plan, out: Path, *, epoch: bool) -> None:
    import tempfile

    from rich.console import Console

    from bench.epochs import measure_epochs
    from bench.measure import measure
    from bench.report import epoch_lines, write

    console = Console(highlight=False, markup=False, soft_wrap=True)
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 2:
        console.print(f"this machine is busy (load {load:.1f} on {cores} cores): the seconds will say little")
    with tempfile.TemporaryDirectory(prefix="sn37-bench-") as folder:
        found = measure(plan, Path(folder), console.print)
        epochs = measure_epochs(plan, Path(folder), console.print) if epoch else []
    if found:
        console.print(_table(found))
    for line in epoch_lines(epochs):
        console.print(line)
    for file in write(out, plan, found, epochs):
        console.print(f"wrote {file}")


def _check_works(asked: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ConfigError(f"unknown work {', '.join(unknown)}; expected some of {', '.join(known)}")


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("--device cuda: torch sees no CUDA device here; leave it out to measure the processor")


def _table(found: list[Measurement]) -> Table:
    from rich.table import Table

    from bench.report import COLUMNS, cells

    table = Table(*COLUMNS)
    last: tuple[str, ...] = ()
    for measured in found:
        line = cells(found, measured)
        if last and line[:2] != last:
            table.add_section()
        last = line[:2]
        table.add_row(*line)
    return table


if __name__ == "__main__":
    try:
        typer.run(bench)
    except Sn37Error as error:
        sys.exit(f"bench: {error}")
