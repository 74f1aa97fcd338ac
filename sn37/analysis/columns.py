"""What the columns of each frame hold, with units and direction. Data only: `sn37.analysis.frames` fills them.

Records read back from what a validator has published (`sn37.open_records`) have the same columns: a dataset on the hub
all of them, a wandb log all but this: where an epoch is too large for a step, prompts, references and replies end with
"…" after 500, 100 or 20 characters, or `samples` has no rows of it; faults of undecided epochs are not published.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COLUMNS"]

_EPOCH = {
    "validator": 'Whose records: the name given, "" for a single one.',
    "competition_id": "The competition's id.",
    "sync_block": "The epoch's sync block (one block = 12 s).",
}
_SUBMISSION = {
    "hotkey": "Who committed it.",
    "uid": "Its uid at the sync block.",
    "block": "The block of the commitment.",
    "repo": 'The hub repo, `namespace/name`; "" for a malformed commitment.',
}

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "epochs": {
        **_EPOCH,
        "competition": "The competition's name.",
        "time": "When the sync block was made (UTC).",
        "seed": "The seed of all sampling, as text.",
        "winner": 'The winner\'s hotkey; "" where nobody has a score.',
        "winner_uid": "The winner's uid; missing where there is none.",
        "winner_score": "The winner's score, a loss: lower is better.",
        "evaluated": "Models with a score.",
        "failed": "Models that failed by their own fault.",
        "set_aside": "Submissions that could not be had.",
        "samples": "Samples of all tasks together.",
        "data_s": "Seconds that drawing the samples took.",
        "load_s": "Seconds that loading models took, all of them together.",
        "compute_s": "Seconds that evaluating took, all models together.",
        "device": "What the models ran on.",
    },
    "models": {
        **_EPOCH,
        **_SUBMISSION,
        "score": "Sum of weight x normalized task score, a loss: lower is better; missing where the model failed.",
        "epsilon": "By which share of its loss it must be beaten, had it reigned at the sync block.",
        "wins": "How many of the others it beats, epsilon included.",
        "win_rate": "wins / opponents, in [0, 1].",
        "reigned": "Whether it took over in the course of the reign.",
        "winner": "Whether it reigns at the end.",
        "fault": 'Why it has no score; "" where it has one.',
        "copy_of": "The hotkey of the nearest submission committed earlier, of those in the epochs asked for; "
        '"" where none compares.',
        "copy_distance": "How far sampled weights of the two are apart: 0 for a copy, about 1 for unrelated models.",
    },
    "scores": {
        **_EPOCH,
        **_SUBMISSION,
        "task": "The evaluation task.",
        "weight": "The task's share of the score, in (0, 1].",
        "raw": "The raw score, a loss: lower is better.",
        "normalized": "The normalized score; lower is better.",
        "weighted": "weight x normalized: what the task adds to the score.",
    },
    "samples": {
        **_EPOCH,
        **_SUBMISSION,
        "task": "The evaluation task.",
        "sample": "The sample's place, from 0.",
        "group": 'What samples that are not independent share (a page, a source document); "" for none.',
        "value": "The sample's loss: lower is better.",
        "prompt": "What the model was asked; several prompts one after the other; missing where it is not kept.",
        "reference": "What was expected; missing where it is not kept.",
        "reply": 'What the model said, up to 2,000 characters; "" for losses.',
        "taken": 'What the parser took of the reply; "" for nothing.',
        "tokens": "Tokens of the target, or of the reply; missing where the method does not tell.",
    },
    "submissions": {
        **_EPOCH,
        **_SUBMISSION,
        "text": "The commitment as it stands on the chain.",
        "evaluated": "Whether it was evaluated.",
        "why": "The reason.",
    },
    "faults": {
        **_EPOCH,
        "hotkey": 'Whose submission; "" where the epoch as a whole was stopped.',
        "owner": "Whose fault: model, submission, data, evaluator or chain.",
        "stage": "Where: plan, fetch, evaluate, decide or publish.",
        "reason": "What went wrong, in one sentence.",
    },
    "weights": {
        **_EPOCH,
        "hotkey": "The miner.",
        "uid": "Its uid at the sync block; missing where it had none.",
        "average": "The moving average of the competition's weight, over the epochs at hand, a share of 1.",
        "weight": "The subnet's weight that was set after the epoch, a share of 1; missing where none was.",
    },
    "duels": {
        **_EPOCH,
        "hotkey": "One model.",
        "uid": "Its uid.",
        "opponent_hotkey": "Another model.",
        "opponent": "The other's uid.",
        "beats": "Whether the first beats the second, epsilon included.",
        "margin": "The first's loss less the second's, epsilon included: below 0 the first wins.",
    },
    "distances": {
        "validator": _EPOCH["validator"],
        "competition_id": _EPOCH["competition_id"],
        "hotkey": "One model: the newest submission of a hotkey; the oldest commitments first.",
        "uid": "Its uid.",
        "block": "The block of its commitment.",
        "other_hotkey": "Another model of the same shape.",
        "other": "The other's uid.",
        "other_block": "The block of its commitment.",
        "distance": "How far sampled weights of the two are apart: 0 for a copy, about 1 for unrelated models.",
    },
    "turns": {
        **_EPOCH,
        "turn": "Its place in the reign, from 0: the oldest commitment first.",
        "hotkey": "Whose turn it is.",
        "uid": "Its uid.",
        "block": "The block of its commitment.",
        "score": "Its score, a loss.",
        "incumbent": 'The hotkey that reigned until then; "" before the first.',
        "needed": "The loss below which it takes over; infinite for the first.",
        "succeeds": "Whether it took over.",
        "difference": "Its loss less the incumbent's on the same samples: below 0 it is better.",
        "low": "The lower end of the difference's interval, paired by sample and clustered by group.",
        "high": "The upper end. Where the competition asks for significance it must be below 0 to take over.",
    },
}
"""Every frame's columns and what they hold, with units and direction."""
