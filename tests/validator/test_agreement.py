"""Validators on different machines come to equal numbers and equal decisions, and the chain trusts them all."""

import pytest

from sn37.analysis.comparison import compare
from sn37.evaluation.run import preloaded
from sn37.records.decision import Publication
from sn37.records.epochs import Records
from sn37.workers.executors import LocalExecutor

MODULES = preloaded(("LlamaForCausalLM",))


class Backwards:
    """An executor that begins with the last payload; the one it stands before is left open."""

    def __init__(self, executor):
        self.executor = executor

    def run(self, function, payloads, limits, on_progress=None):
        return self.executor.run(function, list(payloads)[::-1], limits, on_progress)


@pytest.mark.parametrize("epochs", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_three_validators_of_different_machines_agree_to_the_last_digit(small, executor, tmp_path, epochs):
    names = ("validator", "second", "third")
    for name in names[1:]:
        small.register(name, stake=500_000.0, permit=True)
    with LocalExecutor(("cpu", "cpu"), MODULES, cores=4) as two_workers:
        machines = dict(zip(names, (executor, two_workers, Backwards(executor)), strict=True))
        assert [executor.threads, two_workers.threads] != [1, 1]
        small.submit("first", 0.5)
        for place in range(epochs):
            small.submit(f"miner-{place}", 0.4 / (place + 1))
            small.next_epoch()
            for name, small.executor in machines.items():
                small.epoch(tmp_path / name, wallet=name)
    small.chain.advance_to(small.chain.next_step(37))
    records = [Records(tmp_path / name / "records").sealed(7) for name in names]
    assert [len(each) for each in records] == [epochs] * 3
    for one, *others in zip(*records, strict=True):
        found = [compare(one, other) for other in others]
        assert all(each.equal and each.compared > 0 for each in found), found
        assert {str(each.read(Publication).weights) for each in (one, *others)} == {str(one.read(Publication).weights)}
        assert [each.decision for each in others] == [one.decision] * 2
    with small.subnet() as subnet:
        peers = [subnet.metagraph().neuron(small.hotkey(name)) for name in names]
        rows = [subnet.validator_weights()[small.hotkey(name)] for name in names]
    assert [peer.validator_trust for peer in peers] == [1.0] * 3
    assert rows[0] == rows[1] == rows[2] != {}
