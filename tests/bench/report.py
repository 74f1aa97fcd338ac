"""The figures as a table, for people and for programs, and as a picture; and on what machine they were had."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.epochs import MODELS, Epochs
from bench.measure import Measurement, Plan
from bench.workloads import WORKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLUMNS", "cells", "environment", "figure", "write"]

_GREYS = ("0.15", "0.75", "0.5", "0.95")
_HATCHES = ("", "//", "..", "xx")

COLUMNS = (
    "work",
    "dtype",
    "who",
    "seconds",
    "engine is faster",
    "tokens/s",
    "memory above the model",
    "of the machine",
    "other than the plain loop",
    "error against float64",
    "wrong answers",
)


def cells(found: Sequence[Measurement], measured: Measurement) -> tuple[str, ...]:
    """One line of the table, in the order of `COLUMNS`."""
    head = (WORKS[measured.work].title, measured.dtype, measured.contestant)
    if measured.failed:
        return (*head, f"failed: {measured.failed}", *[""] * (len(COLUMNS) - 4))
    spread = f" ({min(measured.seconds):.2f} to {max(measured.seconds):.2f})" if len(measured.seconds) > 1 else ""
    return (
        *head,
        f"{measured.median_s:.2f}{spread}",
        _times(found, measured),
        f"{measured.tokens_per_s:,.0f}",
        f"{measured.peak_bytes / 1e6:,.0f} MB",
        f"{measured.share_of_machine:.0%}",
        _difference(measured),
        "" if measured.error_nats is None else f"{measured.error_nats:.1e}",
        "" if measured.wrong is None else f"{measured.wrong:.0%}",
    )


def _times(found: Sequence[Measurement], measured: Measurement) -> str:
    times = speedup(found, measured)
    return "" if measured.contestant == "engine" or times is None else f"{times:.1f}x"


def speedup(found: Sequence[Measurement], measured: Measurement) -> float | None:
    """How many times as long it took as this library's engine on the same work in the same dtype."""
    same = [m for m in found if (m.work, m.dtype, m.contestant) == (measured.work, measured.dtype, "engine")]
    if not same or not same[0].seconds or not measured.seconds:
        return None
    return measured.median_s / same[0].median_s


def _difference(measured: Measurement) -> str:
    if measured.difference is None or measured.contestant == "plain loop":
        return ""
    if measured.generates:
        return f"{measured.difference:.0f} of {len(measured.results)} replies"
    return f"{measured.difference:.1e} nats"


def environment(plan: Plan) -> dict[str, Any]:
    """The machine, the versions, the plan."""
    import torch

    names = ("sn37", "torch", "transformers", "lm_eval")
    return {
        "plan": asdict(plan),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if plan.device == "cuda" else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def epoch_lines(epochs: Sequence[Epochs]) -> list[str]:
    """One sentence per dtype."""
    return [
        f"{e.dtype}: {MODELS} equal models take {e.ratio:.1f} times as long as one; "
        f"{e.constant_s:.1f} s do not grow with them"
        for e in epochs
    ]


def write(out: Path, plan: Plan, found: Sequence[Measurement], epochs: Sequence[Epochs]) -> list[Path]:
    """table.csv, table.md, environment.json, results.json and figure.png in `out`. Returns them."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [cells(found, m) for m in found]
    with (out / "table.csv").open("w", newline="") as file:
        rows = [_plain(found, m) for m in found]
        table = csv.DictWriter(file, list(rows[0]) if rows else ["work"])
        table.writeheader()
        table.writerows(rows)
    text = "\n".join(f"| {' | '.join(line)} |" for line in (COLUMNS, ("---",) * len(COLUMNS), *lines))
    (out / "table.md").write_text(text + "\n\n" + "".join(f"- {line}\n" for line in epoch_lines(epochs)))
    (out / "environment.json").write_text(json.dumps(environment(plan), indent=2) + "\n")
    (out / "epochs.json").write_text(json.dumps([asdict(e) for e in epochs], indent=2) + "\n")
    written = [out / name for name in ("table.csv", "table.md", "environment.json", "epochs.json")]
    return [*written, figure(found, out / "figure.png")] if found else written


def _plain(found: Sequence[Measurement], measured: Measurement) -> Mapping[str, Any]:
    times = speedup(found, measured)
    return {
        "work": measured.work,
        "dtype": measured.dtype,
        "contestant": measured.contestant,
        "samples": measured.samples,
        "median_s": measured.median_s,
        "rounds_s": " ".join(f"{s:.4f}" for s in measured.seconds),
        "rounds_cpu_s": " ".join(f"{s:.4f}" for s in measured.cpu_s),
        "times_of_engine": "" if times is None else times,
        "tokens": measured.tokens,
        "tokens_per_s": measured.tokens_per_s,
        "peak_bytes_above_model": measured.peak_bytes,
        "needed_operations": measured.operations,
        "matrix_product_operations_per_s": measured.machine,
        "share_of_machine": measured.share_of_machine,
        "difference_from_plain_loop": "" if measured.difference is None else measured.difference,
        "error_nats_against_float64": "" if measured.error_nats is None else measured.error_nats,
        "wrong_answers": "" if measured.wrong is None else measured.wrong,
        "failed": measured.failed,
    }


def figure(found: Sequence[Measurement], file: Path) -> Path:
    """How fast each contestant is, beside the plain loop: a panel per dtype."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dtypes = sorted({m.dtype for m in found})
    drawn = Figure(figsize=(5.2 * len(dtypes), 4.2), layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for panel, dtype in zip(panels, dtypes, strict=True):
        _panel(panel, [m for m in found if m.dtype == dtype], dtype)
    panels[0].set_ylabel("times as fast as the plain loop (higher is better)")
    panels[-1].legend(frameon=False, fontsize=8)
    drawn.savefig(file, dpi=150)
    return file


def _panel(ax: Axes, found: Sequence[Measurement], dtype: str) -> None:
    works = list(dict.fromkeys(m.work for m in found))
    names = list(dict.fromkeys(m.contestant for m in found))
    plain = {m.work: m.median_s for m in found if m.contestant == "plain loop"}
    for index, name in enumerate(names):
        speeds = [
            next((plain.get(work, math.nan) / m.median_s for m in found if (m.work, m.contestant) == (work, name)), 0.0)
            for work in works
        ]
        places = [i + (index - (len(names) - 1) / 2) * 0.8 / len(names) for i in range(len(works))]
        style: dict[str, Any] = {
            "color": _GREYS[index % 4],
            "hatch": _HATCHES[index % 4],
            "edgecolor": "black",
            "linewidth": 0.6,
        }
        bars = ax.bar(places, [0 if math.isnan(s) else s for s in speeds], 0.8 / len(names), label=name, **style)
        ax.bar_label(bars, ["" if math.isnan(s) or not s else f"{s:.1f}" for s in speeds], fontsize=7)
    ax.axhline(1.0, color="black", linewidth=0.6)
    ax.set_xticks(range(len(works)), [WORKS[work].title.replace(", ", ",\n") for work in works], fontsize=8)
    ax.set_title(dtype)
