"""Which parquet files make up which config and split of a dataset repo.

From the `configs:` block of the README where there is one, else from the names of the files, as
`datasets.Dataset.push_to_hub` and most repos give them. Pure: knows nothing of the hub.
https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["Layout", "layout"]

Layout = Mapping[str, Mapping[str, Sequence[str]]]
"""Config -> split -> files, in the order of their rows."""

_SHARD = re.compile(r"(?:(?P<folder>.+)/)?(?P<split>[^/]+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
_PLAIN = re.compile(r"(?:(?P<folder>.+)/)?(?P<split>train|test|validation)\.parquet")
_KEYWORDS = {
    "test": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "train": "train",
}


def layout(paths: Sequence[str], readme: str) -> Layout:
    """The dataset's layout. paths: all files of the repo; readme: its README.md, "" for none.

    Raises ValueError where the README's configs are malformed.
    """
    parquet = sorted(path for path in paths if path.endswith(".parquet"))
    configs = _front_matter(readme).get("configs")
    if not configs:
        return _by_name(parquet)
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        raise ValueError("the configs in its README are no list")
    return {str(config.get("config_name", "default")): _splits(config, parquet) for config in configs}


def _front_matter(readme: str) -> dict[str, Any]:
    import yaml

    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", readme, re.DOTALL)
    if match is None:
        return {}
    try:
        data = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ValueError("the head of its README is no YAML") from None
    return data if isinstance(data, dict) else {}


def _splits(config: Mapping[str, Any], parquet: Sequence[str]) -> dict[str, list[str]]:
    """The splits of one entry of `configs:`."""
    base = str(config.get("data_dir") or "").strip("/")
    data = config.get("data_files")
    if data is None:
        inside = [path for path in parquet if not base or path.startswith(f"{base}/")]
        return next(iter(_by_name(inside, one_config=True).values()), {})
    patterns: dict[str, list[str]] = {}
    for entry in data if isinstance(data, list) else [data]:
        if isinstance(entry, str):
            patterns.setdefault("train", []).append(entry)
        elif isinstance(entry, dict) and "path" in entry:
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            patterns.setdefault(str(entry.get("split", "train")), []).extend(str(path) for path in paths)
        elif isinstance(entry, dict):
            for split, paths in entry.items():
                found = paths if isinstance(paths, list) else [paths]
                patterns.setdefault(str(split), []).extend(str(path) for path in found)
        else:
            raise ValueError(f"the data_files of {config.get('config_name')!r} in its README are malformed")
    return {split: _matching(wanted, base, parquet) for split, wanted in patterns.items()}


def _matching(patterns: Sequence[str], base: str, parquet: Sequence[str]) -> list[str]:
    """The files that the patterns match, pattern by pattern; a pattern may also be a folder's plain name."""
    found: dict[str, None] = {}
    for pattern in patterns:
        pattern = pattern.removeprefix("./").strip("/")
        wanted = (f"{base}/{pattern}" if base else pattern).split("/")
        plain = not any(sign in pattern for sign in "*?[")
        for path in parquet:
            parts = path.split("/")
            if _matches(wanted, parts) or (plain and parts[: len(wanted)] == wanted):
                found[path] = None
    return list(found)


def _matches(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path matches a pattern, both split at `/`; `**` stands for any number of parts.

    Takes no longer than the product of both lengths, whatever the pattern.
    """
    # reached[j]: the pattern so far matches the first j parts
    reached = [True, *[False] * len(parts)]
    for part in wanted:
        if part == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [j >= first for j in range(len(reached))]
        else:
            steps = (ok and fnmatchcase(name, part) for ok, name in zip(reached, parts, strict=False))
            reached = [False, *steps]
    return reached[-1]


def _by_name(parquet: Sequence[str], one_config: bool = False) -> dict[str, dict[str, list[str]]]:
    """Configs and splits as the files' names tell them."""
    found: dict[str, dict[str, list[str]]] = {}
    named = [(path, _SHARD.fullmatch(path) or _PLAIN.fullmatch(path)) for path in parquet]
    if all(match for _, match in named):
        for path, match in named:
            assert match is not None
            folder = match["folder"] or ""
            config = "default" if one_config or folder in ("", "data") else folder
            found.setdefault(config, {}).setdefault(match["split"], []).append(path)
        return found
    for path in parquet:
        words = re.split(r"[^a-z]+", path.lower())
        split = next((_KEYWORDS[word] for word in words if word in _KEYWORDS), "train")
        found.setdefault("default", {}).setdefault(split, []).append(path)
    return found
