"""A validator's own funding: shares over `public`, public names, competition files and `repo@commit`.

Competitions from the hub are data by anyone: small, strict, and built from this package's sources and
methods only. No code is ever read from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from sn37.competition import Competition
from sn37.competitions.public import public, public_competitions, public_schedule, scheduled
from sn37.competitions.reader import MAX_FILE_BYTES, parse_toml, read_competition, read_text
from sn37.errors import ConfigError
from sn37.schedule import PUBLIC, Period, Schedule, fund

__all__ = ["HUB_FILE", "funded_schedule", "read_funding", "read_funding_file", "read_item"]

HUB_FILE = "competition.toml"
"""The file of a hub repo that holds its competition."""

ReadHub = Callable[[str, str, str, int], bytes]
"""(repo, commit, file name, most bytes) -> the file; raises HubFault, and ConfigError where there is none."""

_AT_COMMIT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)@([0-9a-f]{40})")


def read_funding(
    funding: Mapping[str, object],
    base_dir: Path,
    read_hub: ReadHub,
    block: int | None = None,
    schedule: Schedule | None = None,
) -> dict[Competition | str, float]:
    """The funding items of a validator's settings, as `sn37.schedule.fund` takes them.

    funding: item -> share, as in `{"public": 0.5, "mine.toml": 0.3, "name/repo@<commit>": 0.2}`; base_dir: where
    files are looked for; block: where competitions called by name are taken as they run (the newest by default);
    schedule: a subnet's own, whose competitions have names too. Raises ConfigError naming the item.
    """
    found: dict[Competition | str, float] = {}
    for item, share in funding.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError(f"funding: the share of {item} is {share!r}; expected a number in (0, 1]")
        competition = read_item(str(item), base_dir, read_hub, block, schedule)
        found[competition] = found.get(competition, 0.0) + share
    total = math.fsum(found.values())
    if abs(total - 1) > 1e-9:
        raise ConfigError(f"funding: the shares of {', '.join(map(str, funding))} sum to {total:g}; expected 1")
    return found


def funded_schedule(
    funding: Mapping[str, object], base_dir: Path, read_hub: ReadHub, schedule: Schedule | None = None
) -> Schedule:
    """The public schedule with a validator's own split, in every period as public competitions ran then.

    Raises ConfigError also where a competition of its own has the id of a public one.
    """
    schedule = schedule or public_schedule()
    read_once = cache(read_hub)
    periods = []
    for period in schedule.periods:
        items = read_funding(funding, base_dir, read_once, period.from_block, schedule)
        try:
            periods.append(Period(period.from_block, fund(items, period.shares)))
        except ValueError as error:
            raise ConfigError(f"funding: {error}; give your own competition an id no public one has") from None
    return Schedule(tuple(periods), schedule.default_id)


def read_funding_file(path: Path) -> dict[str, object]:
    """The `[funding]` table of a TOML file. Raises ConfigError."""
    data = parse_toml(read_text(path, str(path)), str(path))
    if set(data) != {"funding"} or not isinstance(data["funding"], dict) or not data["funding"]:
        raise ConfigError(f'{path}: expected one table [funding] with lines like "public" = 0.5')
    return data["funding"]


def read_item(
    item: str, base_dir: Path, read_hub: ReadHub, block: int | None = None, schedule: Schedule | None = None
) -> Competition | str:
    """What one funding item stands for: `"public"` itself, or a competition. Raises ConfigError."""
    if item == PUBLIC:
        return PUBLIC
    if schedule is not None and (competition := scheduled(schedule, item, block)):
        return competition
    names = {competition.name for competition in public_competitions()}
    if item in names:
        return public(item, block)
    if match := _AT_COMMIT.fullmatch(item):
        return _from_hub(match[1], match[2], read_hub)
    if item.endswith(".toml"):
        return read_competition(base_dir / Path(item).expanduser(), item)
    choices = f"{PUBLIC}, {', '.join(sorted(names))}, a .toml file, or namespace/name@ and the full 40-digit commit"
    raise ConfigError(f"unknown competition {item!r}; expected {choices}")


def _from_hub(repo: str, commit: str, read_hub: ReadHub) -> Competition:
    where = f"{repo}@{commit[:12]}"
    data = read_hub(repo, commit, HUB_FILE, MAX_FILE_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {HUB_FILE} is not UTF-8 text") from None
    return read_competition(text, where, builtin_only=True)
