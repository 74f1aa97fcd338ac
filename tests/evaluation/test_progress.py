"""A bar for who looks, and nothing for anybody else."""

import io
import os

import pytest
from jupyter_client.manager import start_new_kernel

from sn37.evaluation.progress import Progress

MESSAGE = {"stage": "task", "task": "TEXTS", "rows": 3, "samples": 9, "tokens": 1200}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("sn37.evaluation.progress._INTERVAL_S", 0.0)
    with Progress(2) as progress:
        progress.report("a", MESSAGE)
        progress.report("b", {"stage": "load"})
        progress.finished("a")
        progress.finished("b")
    return stream.getvalue()


def test_a_terminal_shows_models_task_samples_and_tokens_per_second(monkeypatch):
    text = shown(monkeypatch, Terminal())
    assert "TEXTS 3/9" in text and "load" in text and "tokens/s" in text
    assert "0/2" in text and "1/2" in text and "2/2" in text


def test_it_is_silent_where_nobody_looks(monkeypatch):
    assert shown(monkeypatch, io.StringIO()) == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert shown(monkeypatch, Terminal()) == ""


CODE = """
from sn37.evaluation.progress import Progress
with Progress(2) as progress:
    progress.report("a", {"task": "TEXTS", "rows": 3, "samples": 9})
    progress.finished("a")
"""
NO_WIDGETS = "import sys; sys.modules['ipywidgets'] = None\n"


@pytest.mark.parametrize(
    ("code", "environment", "kinds"),
    [(CODE, {}, {"display_data"}), (NO_WIDGETS + CODE, {}, set()), (CODE, {"TQDM_DISABLE": "1"}, set())],
)
def test_a_notebook_shows_a_widget_and_without_widgets_no_complaint(code, environment, kinds):
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, **environment})
    said = []
    try:
        client.execute_interactive(code, timeout=60, output_hook=lambda message: said.append(message["msg_type"]))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert {kind for kind in said if kind in ("stream", "display_data", "error")} == kinds
