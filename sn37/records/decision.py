"""What an epoch came to: the scores, who reigned when, the winner; and what was published of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from sn37.html import table
from sn37.incentive import Contender
from sn37.records.faults import Fault
from sn37.submission import Commitment

__all__ = ["Decision", "Difference", "Publication", "Score", "Turn"]


@dataclass(frozen=True)
class Score(Commitment):
    """One evaluated submission's score."""

    score: float | None
    """The sum of weight x normalized task score, a loss: 0 or more, lower is better; None where the model failed."""
    fault: Fault | None
    """Why it has no score."""
    raw: Mapping[str, float]
    """Each task's raw score, a loss: lower is better; {} where the model failed."""
    normalized: Mapping[str, float]
    """Each task's normalized score; lower is better."""
    epsilon: float
    """By which share of its loss it must be beaten, had it reigned at the sync block."""

    @property
    def contender(self) -> Contender | None:
        """The submission as one that takes part in the reign; None without a score."""
        return None if self.score is None else Contender(self.hotkey, self.uid, self.block, self.score)


@dataclass(frozen=True)
class Difference:
    """The difference of two models' scores on the same samples: below 0 the first is better."""

    estimate: float
    """The difference."""
    low: float | None
    """The lower end of its interval, paired by sample and clustered by group; None where too few groups tell."""
    high: float | None
    """The upper end."""
    level: float
    """The interval's level, such as 0.95."""

    @property
    def convinces(self) -> bool:
        """Whether the first model is better beyond chance: the whole interval is below 0."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Turn:
    """One contender's turn in the reign."""

    hotkey: str
    """Whose turn it is."""
    incumbent: str | None
    """The hotkey that reigned until then; None before the first."""
    needed: float | None
    """The loss below which the contender takes over; None for the first, whom any loss lets reign."""
    succeeds: bool
    """Whether it took over."""
    difference: Difference | None = field(default=None, compare=False)
    """Its loss less the incumbent's, with an interval; None for the first, and where it was not worked out."""


@dataclass(frozen=True)
class Decision:
    """A decided epoch of one competition: a pure function of its results."""

    sync_block: int
    """The epoch's sync block."""
    scores: tuple[Score, ...]
    """Every evaluated submission, the best first; equal losses in the order of block, then uid; failed ones last."""
    reign: tuple[Turn, ...]
    """The turn of every submission with a score, in the order of their commitments."""
    wins: Mapping[str, int]
    """How many of the others each submission with a score beats, by hotkey."""
    win_rate: Mapping[str, float]
    """Wins / opponents, in [0, 1]; 1 for one that stands alone."""
    beats: Mapping[str, tuple[str, ...]]
    """Whom each submission with a score beats: for leaderboards, it decides nothing."""
    winner: str | None
    """The hotkey that reigns at the end; None where nobody has a score: then nothing changes."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Submissions that could not be had this time and why, by hotkey: they neither won nor lost."""

    timings: Mapping[str, tuple[float, float]] = field(default_factory=dict, compare=False)
    """Seconds that loading each model took, and that evaluating it took, by hotkey."""

    def leaderboard(self, tasks: Sequence[str] = (), weights: Mapping[str, float] | None = None) -> str:
        """The scores as a table in HTML, the best first, then who was set aside.

        tasks: whose raw scores are shown; () for all. weights: by hotkey, where they are shown too.
        """
        names = tasks or tuple(dict.fromkeys(name for score in self.scores for name in score.raw))
        columns = ("uid", "hotkey", "loss", "win rate", *(("weight",) if weights is not None else ()), *names, "fault")
        rows: list[tuple[object, ...]] = []
        for score in self.scores:
            rate = self.win_rate.get(score.hotkey)
            share = () if weights is None else (f"{weights.get(score.hotkey, 0.0):.3f}",)
            raw = [score.raw.get(name) for name in names]
            start = (score.uid, score.hotkey[:8], score.score, None if rate is None else f"{rate:.0%}")
            rows.append((*start, *share, *raw, score.fault.reason if score.fault else ""))
        nothing = [None] * (len(columns) - 3)
        rows += [(None, hotkey[:8], *nothing, f"set aside: {why}") for hotkey, why in self.set_aside.items()]
        return table(columns, rows, "losses: lower is better")

    def __repr__(self) -> str:
        best = self.best
        if best is None or best.score is None:
            return f"sync block {self.sync_block}: nobody has a finite score, nothing changes"
        return (
            f"sync block {self.sync_block}: uid {best.uid} wins with loss {best.score:.4f}, "
            f"win rate {self.win_rate[best.hotkey]:.0%}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.leaderboard()}"

    @property
    def best(self) -> Score | None:
        """The winner's score."""
        return next((score for score in self.scores if score.hotkey == self.winner), None)


@dataclass(frozen=True)
class Publication:
    """What was set on the chain and mirrored for an epoch."""

    weights: Mapping[str, float]
    """The subnet's weights by hotkey; they sum to 1, or are empty."""
    uids: Mapping[str, int]
    """The uids of the weighted hotkeys when the weights were set."""
    chain: str
    """How setting the weights went, in a sentence."""
    block: int | None
    """The block in which this epoch's weights were set; None where they were not."""
    possible_from: int | None
    """The block from which on the chain takes these weights, where it would not yet; else None."""
    mirror: str
    """How mirroring to wandb went, in a sentence; "" where it was not tried."""
    published_at: datetime | None = field(default=None, compare=False)
    """When this was written (UTC)."""
    run: str = ""
    """The name of the wandb run that holds the epoch; "" for none yet."""
    upload: str = ""
    """How uploading the record to the hub went, in a sentence; "" where it was not tried."""

    def __repr__(self) -> str:
        shares = ", ".join(f"uid {self.uids[h]}: {w:.3f}" for h, w in self.weights.items()) or "none"
        uploaded = f"; hub: {self.upload}" if self.upload else ""
        return f"weights {shares}; chain: {self.chain}; wandb: {self.mirror}{uploaded}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"
