"""A scratch folder lives as long as its process, and not for long after it, however that ends."""

import signal
import subprocess
import sys

import pytest

from sn37.scratch import ScratchFolder


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def process(*lines):
    program = "\n".join(("from sn37.scratch import ScratchFolder", "folder = ScratchFolder()", *lines))
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_folder_is_private_and_removed_when_it_is_closed(temporary):
    with ScratchFolder() as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_never_closed_goes_with_its_process(temporary):
    with process() as child:
        pass
    assert child.returncode == 0 and list(temporary.iterdir()) == []


def test_what_a_killed_process_leaves_is_removed_by_the_next_and_nothing_else(temporary):
    foreign = temporary / "sn37-foreign"
    foreign.mkdir()
    wait = ("print(folder.path, flush=True)", "import time", "time.sleep(600)")
    with process(*wait) as killed, process(*wait) as alive:
        left, held = killed.stdout.readline().strip(), alive.stdout.readline().strip()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with ScratchFolder() as folder:
            assert {str(path) for path in temporary.iterdir()} == {str(folder), held, str(foreign)} and left != held
        alive.kill()


def test_many_processes_at_once_each_get_a_folder_of_their_own(temporary):
    made = [process("print(folder.path.is_dir(), folder.path)") for _ in range(6)]
    lines = [child.communicate()[0].split() for child in made]
    assert all(there == "True" for there, _ in lines) and len({path for _, path in lines}) == 6
    assert list(temporary.iterdir()) == []
