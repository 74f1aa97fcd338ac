"""Old things go, by age and then by size; whatever is folded, shown or verified of the records is as before."""

import errno
import shutil
from datetime import timedelta

import pandas
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from simulated import COMPETITION, START, simulate
from typer.testing import CliRunner

from sn37.analysis import frames
from sn37.cli import app
from sn37.errors import ConfigError, EvaluatorFault
from sn37.files import write_json, write_text
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.validator import replay
from sn37.validator.keeping import prune
from sn37.validator.scores import mistakes_of
from sn37.validator.settings import Settings

EPOCHS = 12
LAST = START + 360 * (EPOCHS - 1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A validator's folder with twelve epochs, to be copied."""
    root = tmp_path_factory.mktemp("kept") / "home"
    records = simulate(root / "records", EPOCHS, 4, samples=4)
    for epoch in records.sealed(COMPETITION.id):
        write_text(epoch.folder / "epoch.ipynb", "{}" * 500)
        write_text(epoch.folder / "report.html", "<p>" * 500)
        write_text(root / "notebooks" / f"validator-4-{epoch.sync_block - 1}.ipynb", "{}")
        work = epoch.folder.with_name(f"{epoch.sync_block + 1}.work")
        write_text(work / "manifest.json", "{}")
    return root


@pytest.fixture
def home(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "home")


def settings(home, **keep):
    return Settings.of(root=str(home), more={"keep": keep})


def files(home):
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def known(home):
    """All that folds and frames say of the records, but for the texts of samples."""
    records = Records(home / "records")
    tables = (frames.epochs, frames.models, frames.scores, frames.weights, frames.turns, frames.distances)
    return [records.history(COMPETITION.id), *(table(records) for table in tables)]


def assert_known(home, before):
    history, *tables = known(home)
    assert history == before[0]
    for now, then in zip(tables, before[1:], strict=True):
        pandas.testing.assert_frame_equal(now, then)
    assert [mistakes_of(epoch) for epoch in Records(home / "records").sealed(COMPETITION.id)] == [[]] * EPOCHS


DAYS = st.integers(0, 1)


@examples(max_examples=8)
@given(
    st.integers(1, EPOCHS + 1),
    st.fixed_dictionaries({f"{name}_days": DAYS for name in ("notebooks", "samples", "runs", "undecided")}),
    st.integers(1, 100_000),
)
def test_whatever_goes_folds_frames_and_digests_say_the_same(kept, tmp_path_factory, epochs, days, max_bytes):
    home = shutil.copytree(kept, tmp_path_factory.mktemp("one") / "home")
    before = known(home)
    limits = settings(home, epochs=epochs, max_bytes=max_bytes, **days)
    prune(limits, [home / "notebooks"])
    assert_known(home, before)
    left = files(home)
    assert prune(limits, [home / "notebooks"]) == "" and files(home) == left
    sealed = Records(home / "records").sealed(COMPETITION.id)
    assert all(each.keeps_samples and (each.folder / "report.html").is_file() for each in sealed[-epochs:])
    may_go = [home / name for name in left if name.endswith((".ipynb", ".html")) or "/samples/" in name]
    old = [path for path in may_go if not any(each.folder in path.parents for each in sealed[-epochs:])]
    old = [path for path in old if path.parent.name != "notebooks"]
    assert sum(path.stat().st_size for path in old) <= max_bytes


def test_each_kind_goes_at_its_own_age_and_the_newest_epochs_keep_all(home):
    told = prune(settings(home, epochs=2, notebooks_days=0, undecided_days=0), [home / "notebooks"])
    assert told.startswith("pruned 39 items, ")
    sealed = Records(home / "records").sealed(COMPETITION.id)
    assert [(each.folder / "epoch.ipynb").exists() for each in sealed] == [False] * 10 + [True] * 2
    assert all(each.keeps_samples for each in sealed)
    assert [each.sync_block for each in Records(home / "records").open()] == [LAST - 719 + 360 * n for n in range(3)]
    assert len(list((home / "notebooks").iterdir())) == 2


def test_by_size_the_oldest_go_first(home):
    sealed = Records(home / "records").sealed(COMPETITION.id)
    size = sum(path.stat().st_size for path in (sealed[5].folder / "samples").iterdir()) + 2 * 1000 + 500
    prune(settings(home, epochs=1, max_bytes=3 * size + 100), [home / "notebooks"])
    samples = [each.keeps_samples for each in sealed]
    assert samples == sorted(samples) and samples.count(True) == 4


@pytest.mark.parametrize("moment", (0, 5, 11))
def test_a_kill_in_the_middle_leaves_records_that_are_right_and_the_next_pruning_ends_it(home, monkeypatch, moment):
    before = known(home)
    undisturbed = shutil.copytree(home, home.parent / "undisturbed")
    limits = {"epochs": 1, "notebooks_days": 0, "samples_days": 0, "undecided_days": 0}
    calls = iter(range(1000))

    def killed(path):
        if next(calls) == moment:
            next(path.rglob("*.jsonl"), path / "manifest.json").unlink()
            raise KeyboardInterrupt

        return delete(path)

    delete = shutil.rmtree
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        prune(settings(home, **limits), [home / "notebooks"])
    assert_known(home, before)
    for each in (home, undisturbed):
        prune(settings(each, **limits), [each / "notebooks"])
    assert files(home) == files(undisturbed)
    assert not list(home.rglob("*.pruned"))


def test_wandb_runs_go_when_all_their_epochs_are_logged_and_the_last_step_stays(home, monkeypatch):
    monkeypatch.setattr("sn37.validator.keeping.EPOCHS_PER_RUN", 3)
    steps, sealed = home / "wandb" / "steps", Records(home / "records").sealed(COMPETITION.id)
    for number, epoch in enumerate(sealed):
        write_json(steps / f"{number:08d}.{COMPETITION.id}.{epoch.sync_block}.json", {})
        logged = "" if number == 4 else "validator-1"
        epoch.write(Publication({}, {}, "set", 1, None, "", run=logged))
        if number % 3 == 0:
            began = epoch.manifest.as_of + timedelta(seconds=1)
            write_text(home / "wandb" / f"offline-run-{began:%Y%m%d_%H%M%S}-{number:016x}" / "run.wandb", "run")
    prune(settings(home, epochs=1, runs_days=0))
    assert [int(path.name[:8]) for path in sorted(steps.iterdir())] == [3, 4, 5, 9, 10, 11]
    assert len(list((home / "wandb").glob("offline-run-*"))) == 1


def test_a_model_s_own_files_are_never_taken_for_ours(home):
    theirs = home / "cache" / "models" / "models" / "0" / "files" / "weights.pruned"
    write_text(theirs, "x")
    prune(settings(home, epochs=1, max_bytes=1))
    assert theirs.is_file()


def test_nothing_decided_nothing_goes(tmp_path):
    assert prune(settings(tmp_path / "home", max_bytes=1)) == ""


def test_a_disk_that_refuses_is_one_sentence(home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(EvaluatorFault, match="Read-only file system"):
        prune(settings(home, epochs=1, samples_days=0))


def test_the_records_command_tells_what_was_pruned_from_what_is_wrong(home):
    prune(settings(home, epochs=2, samples_days=0))
    result = CliRunner().invoke(app, ["records", str(home), "--verify"])
    assert result.exit_code == 0 and "samples pruned of 10; 0 mistakes" in result.output
    newest = Records(home / "records").sealed(COMPETITION.id)[-1]
    newest.samples_file("WORDS").unlink()
    result = CliRunner().invoke(app, ["records", str(home), "--verify"])
    assert result.exit_code == 1 and "the samples of WORDS are not those of their digest" in result.output


def test_frames_of_samples_go_on_without_texts_and_a_replay_says_what_it_lacks(home, tmp_path):
    oldest = Records(home / "records").sealed(COMPETITION.id)[0]
    before = frames.samples(oldest)
    prune(settings(home, epochs=1, samples_days=0))
    pandas.testing.assert_series_equal(frames.samples(oldest)["value"], before["value"])
    with pytest.raises(ConfigError, match="are pruned; draw them again"):
        replay(oldest, tmp_path / "again", redraw=False)
