"""What the fold over many epochs costs: `python -m bench.folds [epochs] [models]` (from `tests/`).

Makes records of so many epochs, then folds them in a fresh process: the seconds and the growth of its peak memory are
those that a plan costs, imports included.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FOLD = """
import resource, sys, time
from pathlib import Path
from sn37.records.epochs import Records
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, processor = time.perf_counter(), time.process_time()
history = Records(Path(sys.argv[1])).history(4)
history.average(0.9)
seconds, processor = time.perf_counter() - began, time.process_time() - processor
megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(f"{seconds:.2f} s ({processor:.2f} s of a processor), {megabytes:.0f} MB; {len(history.tried)} submissions")
"""


def make(root: Path, epochs: int, models: int) -> None:
    """Sealed epochs of competition 4: submissions change slowly, as on a subnet, and one in ten fails."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    from recorded import decision, score, seal

    from sn37.records.epochs import Records

    records, draw = Records(root), random.Random(0)
    for number in range(epochs):
        scores = [
            score(uid, None if draw.random() < 0.1 else draw.uniform(1, 2), text=f"{'x' * 90}{(number + uid) // 50}")
            for uid in range(models)
        ]
        alive = [made for made in scores if made.score is not None]
        best = min(alive, key=lambda made: made.score or 0.0).hotkey if alive else None
        seal(records, 4, decision(360 * number, *scores, winner=best))


def fold(root: Path) -> str:
    """What one fold in a process of its own costs, in words."""
    done = subprocess.run([sys.executable, "-c", _FOLD, str(root)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Make, build the index, and fold again."""
    epochs, models = (int(given) for given in (*sys.argv[1:], *("10000", "17")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        make(Path(folder), epochs, models)
        print(f"{epochs} epochs of {models} models made in {time.perf_counter() - began:.1f} s")
        for name in ("without an index", "with it", "with it"):
            print(f"{name}: {fold(Path(folder))}")


if __name__ == "__main__":
    main()
