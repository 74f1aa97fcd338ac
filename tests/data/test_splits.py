"""Which files make up which config and split, with the datasets library on a real hub as the judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub

from sn37.data import PinnedDatasets
from sn37.errors import DataFault

Pinned = Callable[..., PinnedDatasets]
Push = Callable[..., str]

FILES = [
    "data/2013-20/a.parquet",
    "data/2013-20/b.parquet",
    "data/2014-10/a.parquet",
    "data/2014-10/deep/c.parquet",
    "extra/train-1.parquet",
    "extra/test-1.parquet",
]

CONFIGS = {
    "one folder": 'configs:\n- config_name: "2013"\n  data_files:\n  - split: train\n    path: data/2013-20/*\n',
    "a star": "configs:\n- config_name: c\n  data_files: data/2014-10/*\n",
    "two stars": "configs:\n- config_name: c\n  data_files: data/2014-10/**\n",
    "stars between": "configs:\n- config_name: c\n  data_files: data/**/*.parquet\n",
    "a list": "configs:\n- config_name: c\n  data_files: [extra/test-1.parquet, extra/t*]\n",
    "a folder": "configs:\n- config_name: c\n  data_dir: extra\n",
    "a folder and a pattern": "configs:\n- config_name: c\n  data_dir: data\n  data_files: 201[34]-?0/a.parquet\n",
    "several configs": """\
        configs:
        - config_name: b
          data_files:
          - {split: s, path: [extra/*, data/*/a.parquet]}
        - config_name: a
          default: true
          data_files:
          - {split: train, path: data/2013-20/*}
          - {split: test, path: data/2014-10/*}
        """,
    "nothing there": "configs:\n- config_name: c\n  data_files: nothing/*\n",
    "none": "configs: []\n",
}

NAMES = {
    "plain": ["train.parquet", "test.parquet"],
    "shards": ["data/train-00001-of-00002-1a1b2c3d.parquet", "data/train-00000-of-00002-0a1b2c3d.parquet"],
    "Spark": ["part-00000-9b1a-c000.snappy.parquet", "part-00001-9b1a-c000.snappy.parquet"],
    "Spark by folder": ["train/part-00000.snappy.parquet", "validation/part-00000.snappy.parquet"],
    "dev": ["dev.parquet", "train.parquet"],
    "another file": ["train.parquet", "embeddings.parquet"],
    "another folder": ["data/train-00000-of-00001-0a1b2c3d4e5f6a7b.parquet", "raw/dump.parquet"],
    "training and testing": ["training.parquet", "testing.parquet"],
    "hidden": [".hidden/x.parquet", "a.parquet"],
    "double underscores": ["__old__/x.parquet", "a.parquet"],
    "split folders": ["train/train-00000-of-00002.parquet", "train/train-00001-of-00002.parquet", "test/a.parquet"],
    "own split": ["data/20250101_03-00000-of-00001.parquet"],
    "more text than parquet": ["a.jsonl", "b.jsonl", "c.parquet"],
    "old infos": ["train.parquet", "dataset_infos.json"],
}

REPOS: dict[str, tuple[Sequence[str], str]] = {
    **{
        name: (FILES, f"---\nlicense: mit\n{textwrap.dedent(text)}---\n# A dataset\n") for name, text in CONFIGS.items()
    },
    **{name: (files, "# no head\n") for name, files in NAMES.items()},
}

JUDGE = """
import json, sys, datasets
datasets.logging.set_verbosity_error()
datasets.disable_progress_bars()
found = {}
for repo in json.loads(sys.argv[1]):
    try:
        found[repo] = splits = {}
        for config in datasets.get_dataset_config_names(repo):
            files = datasets.load_dataset_builder(repo, config).config.data_files
            splits[config] = {str(split): [path.split("/", 5)[-1] for path in paths] for split, paths in files.items()}
    except Exception as error:
        found[repo] = repr(error)
print(json.dumps(found))
"""


def judged(server: FaultyHub, repos: Sequence[str], home: Path) -> Mapping[str, Any]:
    """What the datasets library finds, in a process of its own: it takes the hub's address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", JUDGE, json.dumps(repos)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_splits_are_those_the_datasets_library_finds(
    pinned: Pinned, push: Push, server: FaultyHub, tmp_path: Path
) -> None:
    repos = {name: f"data/set{number}" for number, name in enumerate(REPOS)}
    for name, (files, readme) in REPOS.items():
        push({"README.md": readme, **dict.fromkeys(files, "{}")}, repos[name])
    theirs = judged(server, list(repos.values()), tmp_path / "home")
    for name, repo in repos.items():
        try:
            data = pinned()
            mine: Any = {config: data.splits(repo, config) for config in data.configs(repo)}
        except DataFault as error:
            mine = str(error)
        if name == "more text than parquet":
            assert "its files are not parquet" in mine
        elif isinstance(theirs[repo], str):
            assert "cannot tell its splits" in mine, name
        else:
            assert mine == theirs[repo], name
            assert {config: list(splits) for config, splits in mine.items()} == {
                config: list(splits) for config, splits in theirs[repo].items()
            }


MALFORMED = {
    "a number": "configs: 3\n",
    "a list of numbers": "configs: [3]\n",
    "no path": "configs:\n- config_name: c\n  data_files: [3]\n",
    "no YAML": "a: [\n",
    "a Python object": "a: !!python/object:os.system x\n",
    "no such folder": "configs:\n- config_name: c\n  data_files: nothing/*\n",
    "a folder above": "configs:\n- config_name: c\n  data_dir: ../..\n  data_files: '**/*.parquet'\n",
    "files of this machine": "configs:\n- config_name: c\n  data_files: /etc/*\n",
    "an address": "configs:\n- config_name: c\n  data_files: ENDPOINT/datasets/data/other/resolve/main/a.parquet\n",
    "another dataset": "configs:\n- config_name: c\n  data_files: hf://datasets/data/other/a.parquet\n",
    "an archive at an address": "configs:\n- config_name: c\n  data_files: 'zip://*.parquet::ENDPOINT/a.zip'\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_readme_that_is_malformed_or_points_elsewhere_is_a_data_fault(
    name: str, pinned: Pinned, push: Push, server: FaultyHub
) -> None:
    head = MALFORMED[name].replace("ENDPOINT", server.endpoint)
    push({"README.md": f"---\n{head}---\n", "a.parquet": "x"})
    server.stats.reset()
    with pytest.raises(DataFault, match=r"README.*data/set|data/set.*README"):
        pinned().configs("data/set")
    assert not any("other" in path or "a.zip" in path for path in server.stats.paths)


def test_a_pattern_of_many_stars_ends(pinned: Pinned, push: Push) -> None:
    stars = "**/" * 50 + "*a" * 50 + "b"
    head = f"configs:\n- config_name: c\n  data_files: '{stars}'\n"
    push({"README.md": f"---\n{head}---\n", "a/" * 50 + "a" * 200 + ".parquet": "x"})
    with pytest.raises(DataFault, match="data/set"):
        pinned(deadline_s=10.0).configs("data/set")
