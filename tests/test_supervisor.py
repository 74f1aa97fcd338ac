"""Programs are kept running, a mistake of the user's ends them all, and none outlives a stop."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sn37.supervisor import supervise

FOREVER = "import time; time.sleep(600)"
WITH_A_CHILD = (
    "import subprocess, sys, time, pathlib; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(600)"
)


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_a_program_that_ends_is_started_again_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sn37.supervisor._PAUSE_S", 0.1)
    counter = tmp_path / "starts"
    once = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(1)"
    said = []

    def say(text):
        said.append(text)
        if counter.read_text().count("x") == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    assert supervise({"ends": python(once, counter), "stays": python(FOREVER)}, say) == 0
    assert counter.read_text() == "xxx"
    assert [text for text in said if text.startswith("stays")] == []
    assert said[0].startswith("ends ended with code 1; started again in 0 s") and said[-1] == "stopping"


def test_a_mistake_of_the_users_ends_all(tmp_path):
    pid = tmp_path / "pid"
    wrong = "import sys, time, pathlib\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)\nsys.exit(2)"
    assert supervise({"stays": python(WITH_A_CHILD, pid), "wrong": python(wrong, pid)}, print) == 2
    until(lambda: not psutil.pid_exists(int(pid.read_text())))


@pytest.mark.parametrize("healthy_s", [600.0, 0.0])
def test_neither_a_minor_program_nor_one_that_has_worked_for_long_ends_all(tmp_path, monkeypatch, healthy_s):
    monkeypatch.setattr("sn37.supervisor._PAUSE_S", 0.1)
    monkeypatch.setattr("sn37.supervisor._HEALTHY_S", healthy_s)
    said = []

    def say(text):
        said.append(text)
        if len(said) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    minor = {"wrong"} if healthy_s else set()
    programs = {"stays": python(FOREVER), "wrong": python("import sys; sys.exit(2)")}
    assert supervise(programs, say, minor) == 0
    assert said[0].startswith("wrong ended with code 2; started again in 0 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_what_they_started_within_seconds(tmp_path, number):
    pid = tmp_path / "pid"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WITH_A_CHILD
    code = f"from sn37.supervisor import supervise; supervise({{'stubborn': {python(stubborn, pid)}}}, print)"
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as service:
        until(pid.exists)
        until(lambda: pid.read_text())
        inner = psutil.Process(service.pid).children(recursive=True)
        service.send_signal(number)
        began = time.monotonic()
        assert service.wait(timeout=20) == 0
        assert time.monotonic() - began < 10
    assert len(inner) == 2
    until(lambda: not any(process.is_running() and process.status() != "zombie" for process in inner))
