"""The world of all competitions at once, and its demo: `python -m all_competitions` (see `make demo-all`).

The public competitions, scaled down, one of a validator's own and one from the hub. Beside what every world has, it
holds the public datasets in their real schemas, trusted authors on subnets 1, 9 and 18, and what they log to an
embedded wandb. All miners are honest: each competition has two whose models differ.

    competition.toml  a validator's own competition
    competitions/     the public ones, and a schedule in which all of them run at once
"""
