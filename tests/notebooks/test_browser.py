"""What people see, in a real browser: the tour in the JupyterLab of `sn37 lab`, and a report offline."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from simulated import simulate

from sn37.files import shipped
from sn37.notebook import run_notebook

CHROMIUM = Path("/usr/bin/chromium")
TOKEN = "browser-test"
PATIENCE_S = 300


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium; skipped where it, or the package that drives it, is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def started_below(folder: Path) -> list[psutil.Process]:
    """The processes that have something to do with a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join(process.cmdline()) + process.cwd() and process.pid != os.getpid():
                found.append(process)
    return found


@pytest.fixture(scope="module")
def lab(played, tmp_path_factory):
    """`sn37 lab` in a folder that a world and its records are in already, and a world for the tour; its process."""
    root = shutil.copytree(played, tmp_path_factory.mktemp("lab") / "lab")
    shutil.copytree(played / "world", root / "tour" / "world")
    port = free_port()
    flags = ["--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.port={port}"]
    command = [sys.executable, "-m", "sn37", "lab", "--root", str(root), "--", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    with (root / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    process.root, process.address = root, f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answer(process, "status") is not None, process)
        yield process
    finally:
        for each in [process, *started_below(root)]:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.wait()


def wait_until(condition, lab):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert lab.poll() is None and time.monotonic() < deadline, (lab.root / "log.txt").read_text()
        time.sleep(0.2)


def answer(lab, what):
    """What JupyterLab's server answers; None where it does not."""
    try:
        with urllib.request.urlopen(f"{lab.address}/api/{what}?token={TOKEN}", timeout=5) as found:
            return json.load(found)
    except OSError:
        return None


def kernel_of(lab):
    """The state of the one notebook's kernel; None where there is none yet."""
    return next((session["kernel"]["execution_state"] for session in answer(lab, "sessions") or ()), None)


def test_the_notebooks_point_at_the_world(lab):
    names = {path.name for path in shipped("notebooks").glob("*.ipynb")}
    assert {path.name for path in (lab.root / "notebooks").iterdir()} == names
    book = nbformat.read(lab.root / "notebooks" / "validator_epoch.ipynb", as_version=4)
    nbformat.validate(book)
    (cell,) = [cell for cell in book.cells if "injected-parameters" in cell.metadata.get("tags", ())]
    assert f'network = "sqlite://{lab.root}/world/chain.sqlite"' in cell.source and "validator-1" in cell.source
    design = (lab.root / "notebooks" / "design_eval_task.ipynb").read_text(encoding="utf-8")
    assert f"{lab.root}/world/models/" in design, "the tasks one designs are judged by this world's models"


def test_jupyterlab_runs_the_tour_without_an_error_and_shows_its_figures(lab, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(1_000 * PATIENCE_S)
    page.goto(f"{lab.address}/lab/tree/notebooks/00_tour.ipynb?token={TOKEN}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    wait_until(lambda: kernel_of(lab) == "idle", lab)  # told to run before it has a kernel, JupyterLab asks for one
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    page.locator(".jp-OutputArea-output", has_text="Subnet 37 at block").wait_for()
    page.wait_for_function("document.querySelectorAll('.jp-OutputArea-output img').length >= 8")
    wait_until(lambda: kernel_of(lab) == "idle", lab)
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
    widths = page.locator(".jp-OutputArea-output img").evaluate_all("found => found.map(img => img.naturalWidth)")
    assert len(widths) >= 8 and min(widths) > 300
    page.close()


def test_ctrl_c_stops_jupyterlab_its_kernels_and_the_world(lab):
    assert len(started_below(lab.root)) >= 3, "sn37, JupyterLab, the hub"
    lab.send_signal(signal.SIGINT)
    assert lab.wait(PATIENCE_S) == 0
    assert [process.cmdline() for process in started_below(lab.root)] == []
    assert "everything is kept for the next start" in (lab.root / "log.txt").read_text()


def test_where_jupyterlab_cannot_start_nothing_else_goes_on(played, tmp_path):
    root = shutil.copytree(played, tmp_path / "lab")
    command = [sys.executable, "-m", "sn37", "lab", "--root", str(root), "--", "--ServerApp.port=none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("JupyterLab ended with exit code 1; what it said stands above")
    assert started_below(root) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_shows_its_figures_with_the_network_off(browser, tmp_path_factory, scheme, report):
    context = browser.new_context(color_scheme=scheme)
    context.set_offline(True)
    page = context.new_page()
    told = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(report.as_uri())
    images = page.locator("img")
    assert images.count() == 2
    assert min(images.evaluate_all("found => found.map(img => img.naturalWidth)")) > 300
    assert not page.locator(".input pre").first.is_visible()
    page.locator("summary", has_text="code").first.click()
    assert page.locator(".input pre").first.is_visible()
    text, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(text) < brightness(paper)) == (scheme == "light")
    assert told == []
    context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    records = simulate(folder / "records", epochs=2, models=4).root
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND")
        return run_notebook(shipped("notebooks", "explore_epoch.ipynb"), {"records": str(records)}, folder, "r").report


def brightness(colour: str) -> int:
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
