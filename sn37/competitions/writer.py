"""Writes a competition as the TOML file that reads back as the same competition."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sn37.competition import Competition
from sn37.competitions.reader import ANY_TOKENIZER, read_competition

__all__ = ["write_competition"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_competition(competition: Competition) -> str:
    """The text of its file. Raises ConfigError where no file could say it: an unregistered source, say."""
    data = competition.to_dict()
    head = {name: data[name] for name in ("id", "name", "title", "description")}
    constraints = {**data["constraints"], "tokenizer": data["constraints"]["tokenizer"] or ANY_TOKENIZER}
    parts = [_lines(head), "[constraints]\n" + _lines(constraints), "[epsilon]\n" + _lines(data["epsilon"])]
    parts.append("[evaluation]\n" + _lines(data["evaluation"]))
    for task in data["tasks"]:
        plain = {
            "name": task["name"],
            "weight": float(task["weight"]),
            "source": {"name": task["source"], **task["source_args"]},
            "method": {"name": task["method"], **task["method_args"]},
            "normalization": task["normalization"],
        }
        parts.append("[[tasks]]\n" + _lines(plain))
    text = "\n".join(parts)
    read_competition(text, competition.name)
    return text


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in table.items())


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for the one control character that JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, int):
        return str(value)
    return repr(float(value)).replace("e+", "e")
