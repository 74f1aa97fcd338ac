"""The tour, from an empty folder to a winner; its second run is in a real browser (`test_browser`)."""

from executed import complaints

from sn37.devnet.running import hub_of
from sn37.files import shipped
from sn37.notebook import run_notebook
from sn37.records.epochs import Records


def test_the_tour_leads_from_nothing_to_a_winner_and_leaves_nothing_running(tmp_path, monkeypatch):
    for name in ("MPLBACKEND", "HF_HUB_DISABLE_XET", "TOKENIZERS_PARALLELISM", "WANDB_SILENT"):
        monkeypatch.delenv(name)  # as in a person's own shell, where warnings would show
    home = tmp_path / "tour"
    (home / "world" / "models").mkdir(parents=True)
    (home / "world" / ".sn37-world").touch()  # an earlier run was interrupted while it built its world
    run = run_notebook(shipped("notebooks", "00_tour.ipynb"), {"folder": str(home)}, tmp_path, "tour")
    first, second = Records(home / "records").sealed(90)
    assert f"reigns at sync block {second.sync_block}" in run.result["summary"]
    assert {pick.submission.uid for pick in first.manifest.submissions if not pick.evaluate} == {8}, "the late miner"
    assert {score.uid for score in second.decision.scores if score.fault is None} >= {4, 5, 8}
    assert run.report.read_text(encoding="utf-8").count("data:image/png;base64,") == 8
    assert complaints(run.notebook) == []
    assert hub_of(home / "world").endpoint is None, "its hub ends with it"
