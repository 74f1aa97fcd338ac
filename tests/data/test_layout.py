"""Which files make up which config and split, with the datasets library as the judge."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from sn37.data.layout import layout


def readme(configs: str) -> str:
    return f"---\nlicense: mit\n{textwrap.dedent(configs)}---\n# A dataset\n"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["data/train-00000-of-00001.parquet"], {"default": {"train": ["data/train-00000-of-00001.parquet"]}}),
        (
            ["a/test-00001-of-00002.parquet", "a/test-00000-of-00002.parquet", "b/train-00000-of-00001-0af3.parquet"],
            {
                "a": {"test": ["a/test-00000-of-00002.parquet", "a/test-00001-of-00002.parquet"]},
                "b": {"train": ["b/train-00000-of-00001-0af3.parquet"]},
            },
        ),
        (["20250101_03/20250101_03-00000-of-00001.parquet"], {"20250101_03": {"20250101_03": None}}),
        (["train.parquet", "validation.parquet"], {"default": {"train": ["train.parquet"], "validation": None}}),
        (["x/part-1.parquet", "x/part-2.parquet"], {"default": {"train": ["x/part-1.parquet", "x/part-2.parquet"]}}),
        (["dump/my_test_file.parquet", "dump/other.parquet"], {"default": {"test": None, "train": None}}),
        (["README.md", "data.jsonl"], {}),
    ],
)
def test_without_a_word_in_the_readme_the_names_tell(
    paths: list[str], expected: dict[str, dict[str, list[str] | None]]
) -> None:
    found = layout(paths, "# no head\n")
    assert {config: set(splits) for config, splits in found.items()} == {c: set(s) for c, s in expected.items()}
    for config, splits in expected.items():
        for split, files in splits.items():
            assert files is None or found[config][split] == files


FILES = [
    "data/2013-20/a.parquet",
    "data/2013-20/b.parquet",
    "data/2014-10/a.parquet",
    "data/2014-10/deep/c.parquet",
    "extra/train-1.parquet",
    "extra/test-1.parquet",
]


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        (
            """
            configs:
            - config_name: "2013"
              data_files:
              - split: train
                path: data/2013-20/*
            """,
            {"2013": {"train": FILES[:2]}},
        ),
        ("configs:\n- data_files: data/2014-10/*\n", {"default": {"train": [FILES[2]]}}),
        ("configs:\n- data_files: data/2014-10/**\n", {"default": {"train": FILES[2:4]}}),
        ("configs:\n- data_files: data/**/*.parquet\n", {"default": {"train": FILES[:4]}}),
        ("configs:\n- data_files: data/2014-10\n", {"default": {"train": FILES[2:4]}}),
        ("configs:\n- data_files: [extra/test-1.parquet, extra/t*]\n", {"default": {"train": [FILES[5], FILES[4]]}}),
        (
            "configs:\n- data_dir: extra\n",
            {"default": {"train": [FILES[4]], "test": [FILES[5]]}},
        ),
        (
            "configs:\n- data_dir: data\n  data_files: 201[34]-?0/a.parquet\n",
            {"default": {"train": [FILES[0], FILES[2]]}},
        ),
        ("configs:\n- data_files:\n    test: extra/test*\n", {"default": {"test": [FILES[5]]}}),
        ("configs:\n- data_files:\n  - split: s\n    path: [extra/*, data/*/a.parquet]\n", {"default": {"s": None}}),
        ("configs:\n- data_files: nothing/*\n", {"default": {"train": []}}),
        ("configs: []\n", {"default": {"train": None, "test": None}}),
    ],
)
def test_the_readme_tells(configs: str, expected: dict[str, dict[str, list[str] | None]]) -> None:
    found = layout(FILES, readme(configs))
    assert {config: set(splits) for config, splits in found.items()} == {c: set(s) for c, s in expected.items()}
    for config, splits in expected.items():
        for split, files in splits.items():
            assert files is None or list(found[config][split]) == files


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("configs: 3\n", "no list"),
        ("configs: [3]\n", "no list"),
        ("configs:\n- data_files: [3]\n", "malformed"),
        ("a: [\n", "no YAML"),
        ("a: !!python/object:os.system x\n", "no YAML"),
    ],
)
def test_a_malformed_readme_is_named(head: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        layout(FILES, readme(head))


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    stars = "**/" * 50 + "*a" * 50 + "b"
    assert layout(["a/" * 100 + "a" * 200 + ".parquet"], readme(f"configs:\n- data_files: '{stars}'\n"))


def test_the_datasets_library_finds_the_same_files(tmp_path: Path) -> None:
    from datasets.data_files import resolve_pattern

    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in (
        "data/*/a.parquet",
        "data/**/*.parquet",
        "**/*-1.parquet",
        "data/2014-10/*",
        "e*/t[er]*",
        "data/**",
    ):
        theirs = sorted(str(Path(p).relative_to(tmp_path)) for p in resolve_pattern(pattern, str(tmp_path)))
        assert layout(FILES, readme(f"configs:\n- data_files: '{pattern}'\n"))["default"]["train"] == theirs, pattern
