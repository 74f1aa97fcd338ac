"""The notebook of a miner, from a base model to what could be published."""

from executed import complaints

from sn37.files import shipped
from sn37.miner.check import check_folder
from sn37.notebook import run_notebook


def test_a_model_of_the_devnet_is_trained_checked_and_compared(world, tmp_path, monkeypatch):
    for name in ("MPLBACKEND", "HF_HUB_DISABLE_XET", "TOKENIZERS_PARALLELISM", "WANDB_MODE", "WANDB_SILENT"):
        monkeypatch.delenv(name)  # as in a person's own shell, where warnings would show
    with world.subnet() as subnet:
        before = subnet.submissions()
    given = {
        "start": world.miners[0].repo,
        "competition": str(world.root / "competition.toml"),
        "out": str(tmp_path / "training"),
        "hyperparameters": {"steps": 2, "draws": 1, "evaluate_every": 2, "accumulation": 1, "batch_tokens": 512},
        "device": "cpu",
        "network": world.network,
        "hub": world.hub_endpoint,
        "cache": str(tmp_path / "cache"),
        "repo": f"{world.miners[0].name}/next",
    }
    run = run_notebook(shipped("notebooks", "finetune_and_publish.ipynb"), given, tmp_path, "finetune")
    assert "in DEVNET_TINY after step 2" in run.result["summary"] or "began with" in run.result["summary"]
    assert (
        check_folder(tmp_path / "training" / "model", world.competition, world.hub).architecture == "LlamaForCausalLM"
    )
    page = run.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1, "the figure changes in place"
    assert "can be published to miner-1/next: run this again with publish = True" in page
    assert "fits DEVNET_TINY" in page and ("would win" in page or "would not win" in page)
    assert complaints(run.notebook) == []
    with world.subnet() as subnet:
        assert subnet.submissions() == before, "nothing is published"
