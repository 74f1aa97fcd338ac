"""Writes a competition as plain data and as the TOML file that reads back as the same competition."""

from __future__ import annotations

from dataclasses import asdict

import tomli_w

from sn37.competition import ANY_TOKENIZER, Competition, EvalTask
from sn37.competitions.reader import competition_from
from sn37.errors import ConfigError

__all__ = ["document_of", "write_competition"]


def document_of(competition: Competition) -> dict[str, object]:
    """The competition as plain data in the form of its file; `competition_from` reads it back."""
    constraints = asdict(competition.constraints)
    return {
        "id": competition.id,
        "name": competition.name,
        "title": competition.title,
        "description": competition.description,
        "constraints": {**constraints, "tokenizer": constraints["tokenizer"] or ANY_TOKENIZER},
        "epsilon": asdict(competition.epsilon),
        "evaluation": asdict(competition.evaluation),
        **({} if competition.significance is None else {"significance": competition.significance}),
        "tasks": [_task(task) for task in competition.tasks],
    }


def _task(task: EvalTask) -> dict[str, object]:
    return {
        "name": task.name,
        "weight": float(task.weight),
        "source": {"name": task.source, **task.source_args},
        "method": {"name": task.method, **task.method_args},
        "normalization": asdict(task.normalization),
    }


def write_competition(competition: Competition) -> str:
    """The text of its file. Raises ConfigError where no file could say it: an unregistered source, say."""
    document = document_of(competition)
    competition_from(document, competition.name)
    try:
        return tomli_w.dumps(document)
    except TypeError as error:
        raise ConfigError(f"{competition.name} has an argument that TOML cannot say: {error}") from None
