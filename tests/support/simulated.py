"""Records of many epochs that nobody played: models with true qualities, samples in groups, takeovers, faults."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sn37.clock import Clock, generator
from sn37.competition import Competition, Constraints, EvalTask, InverseExponential, LinearDecay
from sn37.protocol import Figures, SelectionLimits
from sn37.records.decision import Publication
from sn37.records.epochs import Epoch, Records
from sn37.records.faults import Fault
from sn37.records.manifest import Manifest, Pick, TaskData
from sn37.records.results import Basis, Measurement, Result, Sketch, TaskResult
from sn37.sample import ChoiceSample, ReferenceSample, digest
from sn37.submission import ModelId, Submission
from sn37.validator.scores import decision_of

START = 5_200_211
COMPETITION = Competition(
    4,
    "SIMULATED",
    Constraints(("LlamaForCausalLM",), 1_000_000, 10_000_000, 512, None, 460),
    LinearDecay(0.05, 0.01, 7_200),
    (
        EvalTask("QUESTIONS", "hub_dataset", "multiple_choice", 0.6, {"repo": "a/questions"}),
        EvalTask("WORDS", "word_sorting", "reference_loss", 0.4, {"count": 20}, {}, InverseExponential(20.0)),
    ),
)


def submission(number: int, block: int) -> Submission:
    hotkey = f"5Hotkey{number:03d}{'x' * 38}"
    text = ModelId(f"miner-{number}", "model", f"{number:040x}", "A" * 43 + "=", COMPETITION.id).to_text()
    return Submission.read(hotkey, number, block, text)


def simulate(root: Path, epochs: int, models: int, *, samples: int = 20, seed: int = 0, broken: int = 1) -> Records:
    """So many decided epochs in a folder; the models 1 to `broken` fail each time."""
    records = Records(root)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    everybody = [submission(number, START - 9_000 + 40 * number) for number in range(models)]
    for place in range(epochs):
        sync_block = START + 360 * place
        draw = generator(seed, f"epoch {place}")
        drawn = {
            "QUESTIONS": tuple(
                ChoiceSample(f"Question {n} of {sync_block}?", ("A", "B", "C", "D"), "A", group=f"page {n // 4}")
                for n in range(samples)
            ),
            "WORDS": tuple(ReferenceSample(f"Sort {n}", "a b c", group=f"list {n}") for n in range(samples)),
        }
        taking_part = everybody[: max(2, min(models, 3 + place // 2))]
        epoch = records.begin(COMPETITION.id, sync_block)
        for task, values in drawn.items():
            epoch.write_samples(task, values)
        basis = Basis(COMPETITION.digest, {task: digest(values) for task, values in drawn.items()}, {"sn37": "0.1.0"})
        results = [result(one, basis, draw, samples, fails=0 < one.uid <= broken) for one in taking_part]
        for one in results:
            epoch.write(one)
        picks = [Pick(one, True, "kept" if place else "new") for one in taking_part]
        late = [Pick(one, False, "committed too late: block 1 + delay 460 > sync block 2") for one in everybody[-1:]]
        epoch.write(
            Manifest(
                competition=COMPETITION,
                competition_digest=COMPETITION.digest,
                shares={COMPETITION.id: 1.0},
                network="simulated",
                netuid=37,
                hub=None,
                own_tasks={},
                clock=Clock(),
                sync_block=sync_block,
                block_hash=f"0x{place:064x}",
                as_of=start + timedelta(seconds=12 * 360 * place),
                figures=Figures(),
                limits=SelectionLimits(),
                uids={one.hotkey: one.uid for one in everybody},
                submissions=tuple(picks + [pick for pick in late if pick.submission not in taking_part]),
                data={task: TaskData(basis.samples[task], samples, {}, {}, {}, 0.5) for task in drawn},
                ran={"device": ("cpu",)},
            )
        )
        decision = decision_of(COMPETITION, sync_block, results)
        epoch.write(decision)
        sealed = epoch.seal()
        won = {decision.winner: 1.0} if decision.winner else {}
        uids = {one.hotkey: one.uid for one in everybody if one.hotkey in won}
        sealed.write(Publication(won, uids, "set", sync_block + 3, None, "off"))
    return records


def result(one: Submission, basis: Basis, draw: random.Random, samples: int, *, fails: bool) -> Result:
    who = {"hotkey": one.hotkey, "uid": one.uid, "block": one.block, "text": one.text}
    if fails:
        return Result(**who, basis=basis, fault=Fault("model", "the files do not match the hash"), measurement=None)
    skill = 0.35 + 0.4 * (one.uid % 9) / 9
    right = [draw.random() < skill for _ in range(samples)]
    losses = [max(0.0, draw.gauss(6 - 4 * skill, 0.8)) for _ in range(samples)]
    replies = tuple(
        {"answer": "A" if ok else "B", "expected": "A", "reply": f"It is {'A' if ok else 'B'}"} for ok in right
    )
    values = tuple(float(not ok) for ok in right)
    tasks = {
        "QUESTIONS": TaskResult(sum(values) / samples, values, replies, "", (), 2.0, 4_000),
        "WORDS": TaskResult(sum(losses) / samples, tuple(losses), ({"tokens": 3},) * samples, "", (), 1.0, 2_000),
    }
    measured = Measurement(tasks, 900_000, "cpu", "float32", "fast", {}, 0.7, 1 << 20, sketch(one.uid))
    return Result(**who, basis=basis, fault=None, measurement=measured, content_hash=f"h{one.uid}", bytes=10)


@functools.cache
def sketch(uid: int) -> Sketch:
    """Models with nothing in common, but uid 3 is a near-copy of uid 2, and uid 4 a finetune of it."""
    noise = {3: 0.001, 4: 0.3}.get(uid, 0.0)
    base, own = (random.Random(f"weights {number}") for number in (2 if noise else uid, uid))
    tensors = {
        f"{tensor:016x}": tuple(base.gauss(0, 1) + noise * own.gauss(0, 1) for _ in range(8)) for tensor in range(4)
    }
    return Sketch(f"{uid:064x}", tensors)


def newest(records: Records) -> Epoch:
    return records.sealed(COMPETITION.id)[-1]
