"""A validator killed with SIGKILL at random moments ends as one that nobody disturbed, and does nothing twice."""

import pytest
from killed import Attempts

from sn37.analysis.comparison import compare
from sn37.clock import generator
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.validator.scores import mistakes_of


@pytest.mark.parametrize(
    ("epochs", "kills", "wandb"), [(3, 12, "off"), pytest.param(5, 50, "offline", marks=pytest.mark.soak)]
)
def test_a_killed_validator_ends_as_an_undisturbed_one(small, tmp_path, epochs, kills, wandb):
    small.chain.set_rules(37, weights_rate_limit=0)  # so that the chain would take the same weights twice
    twin = small.register("twin", stake=500_000.0, permit=True)
    keep = {"epochs": 1, "samples_days": 0}
    killed = small.parameters(tmp_path / "killed", wandb=wandb, keep=keep)
    undisturbed = small.parameters(tmp_path / "undisturbed", wandb=wandb, wallet="twin")
    draw, died, finished = generator(0, "kills"), [], {}
    with Attempts() as attempts:
        for place in range(epochs):
            small.submit(f"miner-{place}", 0.5 / (place + 1))
            small.next_epoch()
            moments = int(attempts.run(undisturbed)[-1])
            while len(died) < kills * (place + 1) // epochs:
                moment = draw.randrange(moments)
                died += [moment] if attempts.run(killed, moment) is None else []
                finished |= results(tmp_path / "killed")
            lines = attempts.run(killed)
            assert not [line for line in lines if "fault" in line or "error" in line], lines
            assert results(tmp_path / "killed").items() >= finished.items(), "what was finished is not done twice"
    assert len(died) == kills

    def sealed(name):
        return Records(tmp_path / name / "records").sealed(7)

    assert len(sealed("killed")) == epochs and not list(Records(tmp_path / "killed" / "records").open())
    for mine, theirs in zip(sealed("killed"), sealed("undisturbed"), strict=True):
        assert compare(mine, theirs).equal, compare(mine, theirs)
        assert mine.read(Publication).weights == theirs.read(Publication).weights
        assert mistakes_of(mine) == []
    with small.subnet() as subnet:
        weights = subnet.validator_weights()
    assert weights[small.hotkey("validator")] == weights[twin] != {}
    uids = {neuron.hotkey: neuron.uid for neuron in small.chain.neurons(37)}
    times = [len(set_at(small, uids[hotkey])) for hotkey in (small.hotkey("validator"), twin)]
    assert times == [epochs, epochs], "the weights of each epoch reach the chain once"
    if wandb == "offline":
        steps = [path.name.split(".", 1)[1] for path in (tmp_path / "killed" / "wandb" / "steps").iterdir()]
        assert sorted(steps) == [f"7.{epoch.sync_block}.json" for epoch in sealed("killed")]
        assert all(epoch.read(Publication).run for epoch in sealed("killed"))


def results(home):
    """When each model's result was written, by sync block and hotkey."""
    found = (home / "records" / "7").glob("*/results/[!.]*.json")
    return {(path.parts[-3].removesuffix(".work"), path.stem): path.stat().st_mtime_ns for path in found}


def set_at(small, uid):
    """The blocks in which a validator's weights reached the chain."""
    found = small.chain.store.rows("SELECT block FROM weights WHERE uid = ? AND row != '[]'", uid)
    return [row["block"] for row in found]
