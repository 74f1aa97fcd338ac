"""Figures of a competition: one idea each, labelled axes with units, the direction of better stated.

Every function takes a data frame as `sn37.analysis.frames` makes it, draws on `ax` or on a new figure, and returns the
axes. Scores are losses: lower is better. 2 to 64 models and 1 to 12 tasks have room.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from sn37.analysis import drawing
from sn37.analysis.copies import NEAR
from sn37.analysis.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = [
    "agreement",
    "copies",
    "costs",
    "differences",
    "duel",
    "epsilon_decay",
    "leaderboard",
    "reasons",
    "reign",
    "style",
    "task_profile",
    "task_scores",
    "waterfall",
    "weights",
]

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oo")
_LEAST_DISTANCE = 1e-4
_WRITTEN_CELLS = 12
"""Up to so many models a matrix has words in its cells; beyond, shades alone."""


@drawing.styled
def leaderboard(models: DataFrame, ax: Axes | None = None) -> Axes:
    """Each model's score, the best on top, the winner filled; with its interval where `low` and `high` are known.

    models: rows of one epoch, columns `uid, repo, score, winner` and, if known, `low, high`.
    """
    ranked = models.dropna(subset=["score"]).sort_values(["score", "block", "uid"], kind="stable")
    ax = drawing.axes(ax, rows=len(ranked))
    drawing.title(ax, "score of each model", "score (loss: lower is better)")
    if ranked.empty:
        return drawing.say(ax, "no model has a score")
    places = range(len(ranked))
    if {"low", "high"} <= set(ranked.columns):
        ax.hlines(places, ranked["low"], ranked["high"], color="0.45", linewidth=1.2)
    faces = ["black" if won else "white" for won in ranked["winner"]]
    ax.scatter(ranked["score"], places, c=faces, edgecolors="black", zorder=3, s=28)
    drawing.models_down(ax, drawing.names(ranked))
    ax.grid(axis="x")
    return ax


@drawing.styled
def task_scores(scores: DataFrame, ax: Axes | None = None) -> Axes:
    """Each model's score split into its weighted, normalized task scores; the best model on top.

    scores: rows of one epoch, columns `uid, repo, task, weight, weighted`.
    """
    parts = scores.pivot_table("weighted", ["uid", "repo"], "task", sort=False).fillna(0.0)
    parts = parts.loc[parts.sum(axis=1).sort_values(kind="stable").index]
    ax = drawing.axes(ax, rows=len(parts))
    drawing.title(ax, "which task the loss comes from", "sum of weight x normalized loss (lower is better)")
    if parts.empty:
        return drawing.say(ax, "no model has a score")
    share = scores.groupby("task", sort=False)["weight"].first()
    left = [0.0] * len(parts)
    for task, face, hatch in zip(
        parts.columns, drawing.shades(len(parts.columns)), itertools.cycle(_HATCHES), strict=False
    ):
        name = f"{drawing.short(str(task))} x {share[task]:.3g}"
        ax.barh(range(len(parts)), parts[task], left=left, label=name, color=face, hatch=hatch, edgecolor="0.2", lw=0.4)
        left = [a + b for a, b in zip(left, parts[task], strict=True)]
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:.4f}", va="center", fontsize=8)
    drawing.models_down(ax, drawing.names(parts.reset_index()))
    ax.margins(x=0.12)
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def task_profile(scores: DataFrame, ax: Axes | None = None) -> Axes:
    """Who is good at what: each model's raw loss on each task beside the best one's; dark is far behind.

    scores: rows of one epoch, columns `uid, repo, task, raw`. A cell is the loss divided by the lowest of its task.
    """
    raw = scores.pivot_table("raw", ["uid", "repo"], "task", sort=False)
    ax = drawing.axes(ax, rows=len(raw), width=2.6 + 1.1 * max(len(raw.columns), 2))
    ax.set_title("raw loss / best of its task (1.00 is best)")
    if raw.empty:
        return drawing.say(ax, "no model has a score")
    times = (raw / raw.min()).fillna(float("inf"))
    times = times.loc[times.replace(float("inf"), 99.0).mean(axis=1).sort_values(kind="stable").index]
    ax.imshow(times.clip(1.0, 2.0), vmin=1.0, vmax=2.6, aspect="auto")
    for (row, column), value in drawing.cells(times.to_numpy()):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=drawing.size(len(times)))
    ax.set_xticks(
        range(len(times.columns)), [drawing.short(str(task), 16) for task in times.columns], rotation=30, ha="right"
    )
    ax.set_yticks(range(len(times)), drawing.names(times.reset_index()), fontsize=drawing.size(len(times)))
    return ax


@drawing.styled
def duel(duels: DataFrame, ax: Axes | None = None) -> Axes:
    """Who beats whom once the earlier one has its epsilon; dark: the row beats the column; most wins on top.

    duels: rows of one epoch, columns `uid, opponent, beats`.
    """
    table = duels.pivot_table("beats", "uid", "opponent", aggfunc="first").astype(float)
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index
    table = table.reindex(index=order, columns=order)
    ax = drawing.axes(ax, rows=len(table), width=4.4 + 0.22 * len(table))
    ax.set_title("who beats whom, after epsilon (dark: wins)")
    if len(table) < 2:
        return drawing.say(ax, "fewer than two models have a score")
    ax.imshow(table.fillna(0.5), vmin=0, vmax=1.8, aspect="auto")
    if len(table) <= _WRITTEN_CELLS:
        for (row, column), won in drawing.cells(table.to_numpy()):
            if row != column:
                ax.text(column, row, "wins" if won else "loses", ha="center", va="center", fontsize=7)
    rates = table.mean(axis=1)
    ax.set_yticks(
        range(len(table)), [f"uid {uid}  {rates[uid]:.0%}" for uid in order], fontsize=drawing.size(len(table))
    )
    ax.set_xticks(range(len(table)), [str(uid) for uid in order], fontsize=drawing.size(len(table)), rotation=90)
    ax.set_xlabel("opponent (uid)")
    ax.set_ylabel("model, opponents it beats")
    return ax


@drawing.styled
def reign(models: DataFrame, ax: Axes | None = None) -> Axes:
    """The winner's score over epochs, what a newcomer had to beat (epsilon), everybody else's, and each takeover.

    models: rows of one competition's epochs, columns `sync_block, hotkey, uid, block, score, epsilon, winner`.
    """
    ax = drawing.axes(ax, rows=8, width=8.0)
    drawing.title(ax, "who reigned, and what a newcomer had to beat", "sync block (one block = 12 s)")
    ax.set_ylabel("score (loss: lower is better)")
    scored = models.dropna(subset=["score"])
    won = scored[scored["winner"]].sort_values("sync_block")
    if won.empty:
        return drawing.say(ax, "no epoch had a winner yet")
    others = scored[~scored["winner"]]
    ax.scatter(others["sync_block"], others["score"], s=10, color="0.7", label="others", zorder=1)
    ax.step(won["sync_block"], won["score"], where="post", color="black", label="the winner", zorder=3)
    needed = won["score"] * (1 - won["epsilon"])
    ax.step(
        won["sync_block"], needed, where="post", color="0.4", linestyle="--", label="a newcomer needs less", zorder=2
    )
    taken = won[won["hotkey"] != won["hotkey"].shift()]
    ax.scatter(taken["sync_block"], taken["score"], s=36, color="black", zorder=4)
    for uid, block, score in taken[["uid", "sync_block", "score"]].tail(20).itertuples(index=False):
        ax.annotate(f"uid {uid}", (block, score), xytext=(3, 6), textcoords="offset points", fontsize=8)
    low, high = min(needed.min(), won["score"].min()), max(won["score"].max(), others["score"].quantile(0.9) or 0)
    ax.set_ylim(low - 0.08 * (high - low or 1), high + 0.12 * (high - low or 1))
    drawing.blocks(ax, won["sync_block"])
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def weights(weights: DataFrame, ax: Axes | None = None, most: int = 8) -> Axes:
    """The moving average of a competition's weights over its epochs, the `most` largest of the last one.

    weights: rows of one competition, columns `sync_block, hotkey, uid, average`.
    """
    ax = drawing.axes(ax, rows=7, width=7.5)
    drawing.title(ax, "weight over epochs", "sync block (one block = 12 s)")
    ax.set_ylabel("moving average of the weight (share of 1)")
    ax.set_ylim(-0.03, 1.05)
    if weights.empty:
        return drawing.say(ax, "no epoch had a winner yet")
    last = weights[weights["sync_block"] == weights["sync_block"].max()]
    shown = last.sort_values(["average", "uid"], ascending=[False, True]).head(most)
    for index, (uid, hotkey) in enumerate(shown[["uid", "hotkey"]].itertuples(index=False)):
        line = weights[weights["hotkey"] == hotkey].sort_values("sync_block")
        drawing.line(ax, index, len(shown), line["sync_block"], line["average"], f"uid {uid}")
    drawing.blocks(ax, weights["sync_block"])
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def agreement(weights: DataFrame, ax: Axes | None = None) -> Axes:
    """How far each validator's weights are from the others' median, over epochs; 0 is full agreement.

    weights: rows of several validators, columns `validator, sync_block, hotkey, weight`. The distance is half the sum
    of absolute differences: 1 where nothing is shared.
    """
    ax = drawing.axes(ax, rows=6, width=7.5)
    drawing.title(ax, "distance of each validator's weights from the median", "sync block (one block = 12 s)")
    ax.set_ylabel("half the sum of differences (0: agrees)")
    table = weights.pivot_table("weight", ["sync_block", "hotkey"], "validator", fill_value=0.0)
    if len(table.columns) < 2:
        return drawing.say(ax, "weights of two validators or more are needed")
    distance = table.sub(table.median(axis=1), axis=0).abs().groupby("sync_block").sum() / 2
    for index, name in enumerate(distance.columns):
        drawing.line(ax, index, len(distance.columns), distance.index, distance[name], drawing.short(str(name)))
    ax.set_ylim(-0.03, max(0.1, float(distance.to_numpy().max()) * 1.1))
    drawing.blocks(ax, distance.index)
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def reasons(submissions: DataFrame, ax: Axes | None = None, most: int = 12) -> Axes:
    """Why submissions were evaluated or not, the commonest reasons on top; those evaluated are filled.

    submissions: columns `evaluated, why`.
    """
    counts = submissions.groupby(["why", "evaluated"]).size().sort_values(ascending=False).head(most)
    ax = drawing.axes(ax, rows=len(counts), width=8.0)
    drawing.title(ax, "what became of the submissions", "submissions")
    if counts.empty:
        return drawing.say(ax, "no submission")
    faces = ["0.35" if evaluated else "0.9" for _, evaluated in counts.index]
    ax.barh(range(len(counts)), counts.to_numpy(), color=faces, edgecolor="0.2", linewidth=0.6)
    drawing.models_down(ax, [drawing.short(str(why), 60) for why, _ in counts.index])
    return ax


@drawing.styled
def costs(epochs: DataFrame, ax: Axes | None = None) -> Axes:
    """Seconds of each epoch: reading data, loading models, computing; stacked.

    epochs: columns `sync_block, data_s, load_s, compute_s`.
    """
    ax = drawing.axes(ax, rows=6, width=7.5)
    drawing.title(ax, "time of each epoch", "sync block (one block = 12 s)")
    ax.set_ylabel("seconds (of all workers together)")
    if epochs.empty:
        return drawing.say(ax, "no epoch yet")
    rows = epochs.sort_values("sync_block")
    parts = {"data": "data_s", "loading": "load_s", "computing": "compute_s"}
    faces = drawing.shades(len(parts))
    ax.stackplot(rows["sync_block"], *(rows[name] for name in parts.values()), labels=list(parts), colors=faces)
    drawing.blocks(ax, rows["sync_block"])
    drawing.legend_beside(ax)
    return ax


@drawing.styled
def copies(distances: DataFrame, ax: Axes | None = None) -> Axes:
    """Which models are near-copies: the distance of sampled weights between each two, from white (1) to dark (0.0001).

    distances: columns `uid, block, other, distance` (0: equal weights, 1: unrelated); the oldest commitments first.
    """
    order = distances.drop_duplicates("uid").sort_values(["block", "uid"])["uid"]
    table = distances.pivot_table("distance", "uid", "other").reindex(index=order, columns=order)
    ax = drawing.axes(ax, rows=len(table), width=4.4 + 0.22 * len(table))
    ax.set_title("distance of weights (dark: near-copies)")
    if table.empty:
        return drawing.say(ax, "no two models of one shape with sketched weights")
    orders = -table.clip(_LEAST_DISTANCE, 1).map(math.log10)
    ax.imshow(orders, vmin=0, vmax=-1.5 * math.log10(_LEAST_DISTANCE), aspect="auto")
    written = len(table) <= _WRITTEN_CELLS
    for (row, column), value in drawing.cells(table.to_numpy()):
        if written and value == value:
            weight = "bold" if value < NEAR else "normal"
            ax.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=7, fontweight=weight)
        elif value < NEAR:
            ax.plot(column, row, "o", color="black", markersize=3)
    ax.set_xlabel(f"uid, oldest commitment first; {'bold' if written else 'a dot'}: below {NEAR:g}")
    ax.set_yticks(range(len(table)), [f"uid {uid}" for uid in table.index], fontsize=drawing.size(len(table)))
    ax.set_xticks(
        range(len(table.columns)), [str(uid) for uid in table.columns], fontsize=drawing.size(len(table)), rotation=90
    )
    return ax


@drawing.styled
def differences(samples: DataFrame, ax: Axes | None = None) -> Axes:
    """How far two records' values of the same samples lie apart, one row a task; all on the line: equal.

    samples: columns `task, difference`, as `Comparison.samples` has them.
    """
    tasks = sorted(samples["task"].unique())
    ax = drawing.axes(ax, rows=len(tasks) + 1)
    drawing.title(ax, "the same samples, evaluated twice", "loss in the second record - loss in the first")
    if not tasks:
        return drawing.say(ax, "no sample that both have")
    for row, task in enumerate(tasks):
        apart = samples.loc[samples["task"] == task, "difference"]
        ax.plot(apart, [row] * len(apart), "|", markersize=16, alpha=0.6)
        ax.annotate(f"{(apart != 0).mean():.0%} differ", (1.02, row), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(0.0, color="black", linewidth=0.8)
    drawing.models_down(ax, tasks)
    return ax


@drawing.styled
def waterfall(
    tasks: DataFrame,
    start: tuple[str, float] = ("one", 0.0),
    end: tuple[str, float] = ("the other", 0.0),
    ax: Axes | None = None,
) -> Axes:
    """From one model's score, on top, task by task to another one's, below; dark: the other is behind, white: ahead.

    tasks: rows in their order, columns `task, difference`, as `Explanation.tasks` has them. start, end: each model's
    name and score.
    """
    ax = drawing.axes(ax, rows=len(tasks) + 3)
    drawing.title(ax, f"from {start[0]} to {end[0]} (dark: {end[0]} is behind)", "score (loss: lower is better)")
    if tasks.empty:
        return drawing.say(ax, "no two scores to compare")
    reached = [start[1], *(start[1] + tasks["difference"].cumsum())]
    for row, (before, after) in enumerate(itertools.pairwise(reached), 1):
        behind = after > before
        ax.barh(row, after - before, left=before, color="0.35" if behind else "white", edgecolor="0.2", linewidth=0.8)
        ax.plot([after, after], [row, row + 1], color="0.5", linewidth=0.7, linestyle=":")
        drawing.beside(ax, row, f"{after - before:+.4g}", before, after)
    for row, (_, score) in ((0, start), (len(tasks) + 1, end)):
        ax.scatter([score], [row], color="black", zorder=3)
        drawing.beside(ax, row, f"{score:.6g}", score)
    names = [drawing.short(str(task)) for task in tasks["task"]]
    drawing.models_down(ax, [start[0], *names, end[0]])
    ax.use_sticky_edges = False
    ax.margins(x=0.15)
    ax.grid(axis="x")
    return ax


@drawing.styled
def epsilon_decay(needed: DataFrame, score: float | None = None, ax: Axes | None = None) -> Axes:
    """What a later commitment has to be below to win, block by block, and where a score stands.

    needed: columns `block, needed`. The score wins from where the line is above it.
    """
    ax = drawing.axes(ax, rows=6)
    drawing.title(ax, "what a later commitment has to be below, as epsilon decays", "block (12 s each)")
    ax.set_ylabel("score (loss: lower is better)")
    if needed.empty:
        return drawing.say(ax, "nobody reigns: any score wins")
    ax.plot(needed["block"], needed["needed"], color="black", label="needed: below this line")
    if score is not None:
        ax.axhline(score, color="0.4", linestyle="--", label="this score")
    drawing.blocks(ax, needed["block"])
    ax.margins(y=0.2)
    drawing.legend_beside(ax)
    return ax
