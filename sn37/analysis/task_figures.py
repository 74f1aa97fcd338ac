"""Figures of an evaluation task that is being judged, in the manner of `sn37.analysis.figures`.

Every function takes a data frame of `sn37.analysis.task_evidence`, draws on `ax` or on a new figure, and returns the
axes. Scores are losses: lower is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sn37.analysis import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["changes", "deciding", "noise", "standing", "weights"]

_FACES = {"model": "black", "game": "white", "gold": "0.7"}


@drawing.styled
def standing(scores: DataFrame, ax: Axes | None = None, *, chance: float | None = None) -> Axes:
    """Models, filled, beside players that have not solved the task, hollow; the lowest score on top.

    scores: columns `name, kind, score, low, high`. chance: what guessing scores.
    """
    ranked = scores.sort_values(["score", "name"], kind="stable")
    ax = drawing.axes(ax, rows=len(ranked) + 2)
    drawing.title(ax, "models, and what is had without solving the task", "raw score (loss: lower is better)")
    if ranked.empty:
        return drawing.say(ax, "nothing has a score")
    places = range(len(ranked))
    ends = ranked[["low", "high"]].replace([float("inf"), -float("inf")], float("nan"))
    ax.hlines(places, ends["low"], ends["high"], color="0.45", linewidth=1.2)
    for kind, face in _FACES.items():
        mine = [place for place, found in enumerate(ranked["kind"]) if found == kind]
        ax.scatter(ranked["score"].iloc[mine], mine, c=face, edgecolors="black", zorder=3, s=28, label=kind)
    if chance is not None:
        ax.axvline(chance, color="0.4", linestyle="--", label="guessing")
    drawing.models_down(ax, [drawing.short(str(name)) for name in ranked["name"]])
    ax.grid(axis="x")
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def noise(noise: DataFrame, ax: Axes | None = None, *, samples: int) -> Axes:
    """The smallest difference that a number of samples shows, above the line that epsilon asks for until they cross.

    noise: columns `samples, smallest, epsilon`. samples: how many there are now.
    """
    ax = drawing.axes(ax, rows=7)
    drawing.title(ax, "how many samples the difference takes that epsilon asks for", "samples")
    ax.set_ylabel("difference of losses")
    if noise.empty:
        return drawing.say(ax, "two models that differ are needed")
    ax.loglog(noise["samples"], noise["smallest"], color="black", label="shown in 8 of 10 draws")
    if noise["epsilon"].iloc[0] > 0:
        ax.loglog(noise["samples"], noise["epsilon"], color="0.4", linestyle="--", label="epsilon asks for")
    ax.axvline(samples, color="0.6", linestyle=":", label=f"now: {samples:,}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.set_minor_formatter(lambda value, _: "")
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def deciding(values: DataFrame, ax: Axes | None = None) -> Axes:
    """Every model's loss on every sample, dark: high; a column that is of one shade decides nothing.

    values: one row a sample, one column a model, the best first.
    """
    ax = drawing.axes(ax, rows=len(values.columns) + 2)
    drawing.title(ax, "which samples decide (dark: high loss)", "samples, the easiest first")
    if values.empty:
        return drawing.say(ax, "no model has a score")
    order = values.mean(axis=1).sort_values(kind="stable").index
    table = values.loc[order].to_numpy().T
    ax.imshow(table, vmin=0, vmax=float(values.quantile(0.98).max()) * 1.2 or 1.0, aspect="auto", interpolation="none")
    ax.set_yticks(range(len(table)), [drawing.short(str(name)) for name in values.columns])
    return ax


@drawing.styled
def changes(changes: DataFrame, ax: Axes | None = None) -> Axes:
    """How far each model's score moves with other words, with its interval; right of the line: worse.

    changes: columns `variant, model, change, low, high`.
    """
    variants = list(dict.fromkeys(changes["variant"]))
    models = list(dict.fromkeys(changes["model"]))
    ax = drawing.axes(ax, rows=len(variants) * max(len(models), 1) // 2 + 3)
    drawing.title(ax, "other words, or another order of the choices", "change of the raw score (right: worse)")
    if not variants:
        return drawing.say(ax, "nothing was reworded or reordered")
    for index, model in enumerate(models):
        of = changes[changes["model"] == model]
        rows = [variants.index(variant) + (index + 1) / (len(models) + 1) - 0.5 for variant in of["variant"]]
        shade = drawing.shades(len(models) + 1)[index]
        ax.hlines(rows, of["low"], of["high"], color=shade, linewidth=1.2)
        ax.plot(of["change"], rows, "osD^vP"[index % 6], color=shade, label=drawing.short(str(model)))
    ax.axvline(0.0, color="black", linewidth=0.8)
    drawing.models_down(ax, variants)
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def weights(weights: DataFrame, ax: Axes | None = None, *, now: float) -> Axes:
    """Each model's score at every weight of the task; where lines cross the ranking changes.

    weights: columns `weight, model, score`. now: the task's weight.
    """
    ax = drawing.axes(ax, rows=7)
    drawing.title(ax, "what the weight of the task does to the ranking", "weight of the task (share of the score)")
    ax.set_ylabel("score (loss: lower is better)")
    if weights.empty:
        return drawing.say(ax, "no task beside it")
    models = list(dict.fromkeys(weights["model"]))
    for index, model in enumerate(models):
        of = weights[weights["model"] == model].sort_values("weight")
        drawing.line(ax, index, len(models), of["weight"], of["score"], drawing.short(str(model)))
    ax.axvline(now, color="0.6", linestyle=":", label=f"now: {now:g}")
    drawing.legend_beside(ax)
    return ax
