"""The public competitions for tiny models differ from the public ones in sizes, and in nothing else."""

import pytest
from all_competitions.scaled import DRAWN, SCALE, SHARES, scaled, write_schedule

from sn37.competitions import document_of, public, read_schedule

SIZES = ("min_parameters", "max_parameters", "max_bytes")


@pytest.mark.parametrize("name", SHARES)
def test_only_sizes_are_scaled(name):
    here, there = document_of(scaled(public(name))), document_of(public(name))
    for size in SIZES:
        assert here["constraints"].pop(size) == there["constraints"].pop(size) // SCALE
    for mine, theirs in zip(here["tasks"], there["tasks"], strict=True):
        drawn = mine.pop("source"), theirs.pop("source")
        counted = DRAWN[drawn[0]["name"]]
        first, second = ({k: v for k, v in source.items() if k not in counted} for source in drawn)
        assert first == second
    assert here == there


def test_no_public_task_loses_its_sanity_check():
    tasks = [task for name in SHARES for task in scaled(public(name)).tasks if task.method == "text_loss"]
    assert tasks
    assert all(task.method_args.get("sanity_check", True) for task in tasks)


def test_the_written_schedule_runs_all_of_them_at_once(tmp_path):
    shares = read_schedule(write_schedule(tmp_path)).at(5_200_000)
    assert [share.competition for share in shares] == [scaled(public(name)) for name in SHARES]
    assert {share.competition.name: share.share for share in shares} == SHARES
