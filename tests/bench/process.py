"""A contestant's process: it loads the model once and answers when it is its turn.

Alone in its process, a contestant owns all the memory it takes, and none that another has left behind.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sn37.errors import EvaluatorFault

__all__ = ["Contestant", "ContestantFailed"]

_END_TIMEOUT_S = 5.0

_SIDES = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices whose product is the measure of the machine."""


class ContestantFailed(EvaluatorFault):
    """A contestant could not do its work; the text says why."""


class Contestant:
    """One process. task: what `_Served` needs, as plain data. A context: the process ends with it."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, dict(task)), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        # Asked first: a killed process leaves its semaphores behind.
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(_END_TIMEOUT_S)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def ask(self, command: str) -> dict[str, Any]:
        """What the process answers. Raises ContestantFailed, also where it has died."""
        try:
            self._connection.send(command)
            answer = dict(self._connection.recv())
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            raise ContestantFailed(f"its process ended with code {code} (-9: killed, often for its memory)") from None
        if "error" in answer:
            raise ContestantFailed(str(answer["error"]))
        return answer


def _serve(connection: Connection, task: dict[str, Any]) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    served: _Served | None = None
    while True:
        command = connection.recv()
        if command is None:
            return
        try:
            served = served or _Served(task)
            connection.send(getattr(served, command)())
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            connection.send({"error": f"{type(error).__name__}: {text}"})


class _Served:
    """The model, the rows, and the commands."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        import torch

        torch.set_num_threads(task["threads"])
        self.task, self.device = task, str(task["device"])
        if self.device == "cpu":
            _fail_rather_than_swap()
        if task["contestant"] != MATMUL:
            self._prepare()

    def _prepare(self) -> None:
        import torch

        from bench.contestants import CONTESTANTS, Bench
        from bench.models import ARCHITECTURES
        from bench.workloads import WORKS, rows_of
        from sn37.checks.tokenizer import load_tokenizer
        from sn37.engine.model import load

        task = self.task
        folder, work = Path(task["model"]), WORKS[task["work"]]
        tokenizer = load_tokenizer(folder)
        samples = work.samples(task["vocabulary"], task["count"])
        model = load(folder, task["dtype"], self.device, ARCHITECTURES)
        self.solve = CONTESTANTS[task["contestant"]]
        self.bench = Bench(work, samples, rows_of(work, samples, tokenizer), model, tokenizer, task["engine"])
        # Weights are read from their file when they are first used, libraries loaded when they are first asked.
        for parameter in model.parameters():
            parameter.sum()
        with torch.inference_mode():
            model(input_ids=torch.tensor([[1, 2, 3]], device=self.device))
        gc.collect()
        self.before = self._held()

    def shape(self) -> dict[str, Any]:
        """The rows: (tokens, index of the first target) of each."""
        return {"rows": [(len(row.tokens), row.start) for row in self.bench.rows]}

    def run(self) -> dict[str, Any]:
        """Everything once: seconds, results, and the most memory above what the loaded model takes."""
        self._forget_peak()
        began_s = time.process_time()
        answers = self.solve(self.bench)
        cpu_s, peak = time.process_time() - began_s, self._peak()
        gc.collect()
        self._empty_cache()
        return {
            "seconds": answers.seconds,
            "cpu_s": cpu_s,
            "results": answers.results,
            "new_tokens": answers.new_tokens,
            "peak_bytes": max(0, peak - self.before),
        }

    def precision(self) -> dict[str, Any]:
        """The largest error of some losses against float64."""
        from bench.precision import largest_error

        rows = self.bench.rows[: self.task["precision_rows"]]
        some = replace(self.bench, rows=rows, samples=[self.bench.samples[row.sample] for row in rows])
        return {"error_nats": largest_error(self.bench.model, rows, lambda: self.solve(some).results)}

    def multiply(self) -> dict[str, Any]:
        """Operations per second of large matrix products in the dtype: the best of a second's tries."""
        import torch

        from sn37.engine.model import torch_dtype

        side = _SIDES[self.device]
        a, b = (torch.randn(side, side, device=self.device).to(torch_dtype(self.task["dtype"])) for _ in range(2))
        best, began = float("inf"), time.perf_counter()
        while time.perf_counter() - began < 1.0:
            once = time.perf_counter()
            a @ b
            if self.device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - once)
        return {"operations_per_s": 2.0 * side**3 / best}

    def _held(self) -> int:
        if self.device == "cuda":
            import torch

            return int(torch.cuda.memory_allocated())
        return _status("VmRSS")

    def _forget_peak(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> int:
        if self.device == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated())
        return _status("VmHWM")

    def _empty_cache(self) -> None:
        """The others wait in processes of their own and need the room."""
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()


MATMUL = "matrix product"
"""The contestant that only measures the machine."""


def _status(name: str) -> int:
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _fail_rather_than_swap() -> None:
    """Let an allocation fail that this machine cannot hold: who looks for a batch size by trying is told no."""
    import psutil

    if sys.platform == "linux":
        from sn37.workers.sandbox import limit_memory

        limit_memory(psutil.virtual_memory().available)
