"""Figures of records: one idea each, labelled axes, the direction stated, readable in grey.

Every function draws on `ax`, or on a new figure, and returns the axes. Scores are losses: lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sn37.competition import Competition
from sn37.incentive import moving_average
from sn37.records.decision import Score
from sn37.records.epochs import Epoch, Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["duel", "task_scores", "weights"]

_GREYS = ("0.25", "0.55", "0.8", "0.95")
_HATCHES = ("", "//", "..", "xx")
_LINES = ("-", "--", "-.", ":")


def task_scores(scores: Sequence[Score], competition: Competition, ax: Axes | None = None) -> Axes:
    """Each model's score, split into its weighted, normalized task scores; the best model on top."""
    alive = [score for score in scores if score.score is not None]
    ax = _axes(ax, rows=len(alive))
    left = [0.0] * len(alive)
    for index, task in enumerate(competition.tasks):
        parts = [task.weight * score.normalized[task.name] for score in alive]
        ax.barh(
            range(len(alive)),
            parts,
            left=left,
            label=f"{task.name} x {task.weight:g}",
            color=_GREYS[index % len(_GREYS)],
            hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor="black",
            linewidth=0.6,
        )
        left = [a + b for a, b in zip(left, parts, strict=True)]
    for row, total in enumerate(left):
        ax.text(total, row, f" {total:.4f}", va="center", fontsize=9)
    ax.set_yticks(range(len(alive)), [f"uid {score.uid}" for score in alive])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel("score: sum of weight x normalized loss (lower is better)")
    ax.set_title(f"{competition.name}: which task the loss comes from")
    if alive:
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    else:
        _say(ax, "no model has a score")
    return ax


def duel(epoch: Epoch, ax: Axes | None = None) -> Axes:
    """Who beats whom among a decided epoch's models with a score, epsilon included; dark: the row beats the column."""
    decision = epoch.decision
    uids = {score.hotkey: score.uid for score in decision.scores}
    inside = sorted(decision.beats, key=lambda hotkey: (-decision.win_rate[hotkey], uids[hotkey]))
    ax = _axes(ax, rows=len(inside), width=4.5)
    cells = [[float(j in decision.beats[i]) for j in inside] for i in inside]
    ax.set_title(f"who beats whom at sync block {epoch.sync_block}, after epsilon")
    if not inside:
        return _say(ax, "no model has a score")
    ax.imshow(cells, cmap="Greys", vmin=0, vmax=2.6, aspect="auto")
    for row, i in enumerate(inside):
        for column, j in enumerate(inside):
            text = "" if i == j else ("beats" if j in decision.beats[i] else "loses")
            ax.text(column, row, text, ha="center", va="center", fontsize=8)
    ax.set_xticks(range(len(inside)), [f"uid {uids[hotkey]}" for hotkey in inside])
    labels = [f"uid {uids[hotkey]}  {decision.win_rate[hotkey]:.0%}" for hotkey in inside]
    ax.set_yticks(range(len(inside)), labels)
    ax.set_xlabel("opponent")
    ax.set_ylabel("model, win rate")
    return ax


def weights(records: Records, competition_id: int, alpha: float, ax: Axes | None = None, most: int = 6) -> Axes:
    """The moving average of a competition's weights over the epochs that had a winner, the `most` largest ones."""
    past = records.history(competition_id)
    average, blocks = past.average(alpha), [win.sync_block for win in past.wins]
    shown = sorted(average, key=lambda hotkey: (-average[hotkey], hotkey))[:most]
    values: dict[str, list[float]] = {hotkey: [] for hotkey in shown}
    average = {}
    for win in past.wins:
        average = moving_average(average, win.hotkey, alpha)
        for hotkey, line in values.items():
            line.append(average.get(hotkey, 0.0))
    uids = {win.hotkey: win.uid for win in past.wins}
    ax = _axes(ax, rows=6)
    for index, hotkey in enumerate(shown):
        style = _LINES[index % len(_LINES)]
        ax.plot(blocks, values[hotkey], style, color="black", marker="o", markersize=3, label=f"uid {uids[hotkey]}")
    ax.set_ylim(-0.03, 1.05)
    ax.set_xticks(blocks if len(blocks) <= 6 else blocks[:: -(-len(blocks) // 6)])
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    ax.set_xlabel("sync block (one block = 12 s)")
    ax.set_ylabel("moving average of the weight (share of 1)")
    ax.set_title(f"competition {competition_id}: weight over epochs")
    if shown:
        ax.legend(frameon=False, fontsize=9)
    else:
        _say(ax, "no epoch had a winner yet")
    return ax


def _axes(ax: Axes | None, rows: int, width: float = 7.0) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    _, new = pyplot.subplots(figsize=(width, 1.2 + 0.42 * max(rows, 2)), layout="constrained")
    return new


def _say(ax: Axes, text: str) -> Axes:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    return ax
