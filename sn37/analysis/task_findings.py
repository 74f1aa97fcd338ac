"""What is good and what is bad about an evaluation task: each check looks at the evidence and says it with its figures.

A check yields findings, none where it has nothing to look at. The thresholds are constants here, conventions and no
laws of nature: each finding names the figure it rests on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from sn37.analysis import stats
from sn37.analysis.task_evidence import LEVEL, Evidence, Finding, Game, Grade
from sn37.analysis.task_references import copies, gold, question, reference, wrong_references
from sn37.records.results import TaskResult

__all__ = ["CHECKS"]

SATURATED = 0.9
"""Where all models solve this share of the samples, too few are left to tell them apart."""
FEW_DECIDE = 0.2
"""Below this share of samples on which models differ, most of the evaluation is wasted."""
GAINS = 0.1
"""A game that gains this share of what guessing loses is worth playing."""
MOVES = 0.05
"""Where other words move a score by this share of what guessing, or the weakest model, scores, they matter."""
MOST_SAMPLES = 10_000
"""The most a source gives."""


def games(e: Evidence) -> Iterator[Finding]:
    """What can be had without solving the task."""
    refused = [f"{game.name} ({game.refused})" for game in e.games if game.outcome is None]
    if refused:
        yield Finding("games", "open", f"not played: {'; '.join(refused)}.")
    played: dict[tuple[float, ...], list[Game]] = defaultdict(list)
    for game in e.games:
        if game.outcome is not None:
            played[game.outcome.values].append(game)  # players that come to the same are told of once
    outcomes = [alike[0].outcome for alike in played.values() if alike[0].outcome is not None]
    p_values = stats.holm([_against_chance(e, outcome) for outcome in outcomes])
    best = e.models[e.ranked[0]].score if e.models else None
    worst = e.models[e.ranked[-1]].score if e.models else None
    found = False
    for alike, outcome, p_value in zip(played.values(), outcomes, p_values, strict=True):
        score, text = (
            outcome.score,
            f"a player that {' or '.join(game.what for game in alike)} scores {outcome.score:.3f}",
        )
        if e.chance is not None:
            gains = p_value < LEVEL and score <= (1 - GAINS) * e.chance
            wins = score <= (e.chance / 2 if best is None else max(best, e.chance / 2))
            text += f" where guessing scores {e.chance:.3f} (p = {p_value:.1g})"
            advice = "Make the wrong choices as long, and as likely, as the right ones."
        else:
            gains, wins = worst is not None and score <= worst, best is not None and score <= best
            advice = "Ask for what cannot be said without the prompt, or draw harder samples."
        if gains:
            found = True
            text += f"; the best model, {e.ranked[0]}, scores {best:.3f}" if best is not None else ""
            yield Finding("games", "defect" if wins else "warning", f"{text}.", advice)
    if outcomes and not found:
        names = ", ".join(
            f"{' or '.join(game.name for game in alike)} {outcome.score:.3f}"
            for alike, outcome in zip(played.values(), outcomes, strict=True)
        )
        least = "every model is better" if e.models else "models must be below"
        least = least if e.chance is None else f"guessing scores {e.chance:.3f}"
        yield Finding("games", "open" if e.chance is None and not e.models else "good", f"{names}; {least}.")


def _against_chance(e: Evidence, outcome: TaskResult) -> float:
    """One-sided p-value that the outcome is no better than guessing."""
    if e.chance is None:
        return 1.0
    values = [value - e.chance for value in outcome.values]
    found = stats.mean_interval(values, outcome.groups(e.samples))
    return found.p_value / 2 if found.estimate < 0 else 1.0


def floor(e: Evidence) -> Iterator[Finding]:
    """Whether any model is better than guessing."""
    if not e.models or e.chance is None:
        return
    best = e.models[e.ranked[0]]
    at = f"the best model, {e.ranked[0]}, scores {best.score:.3f}, and guessing {e.chance:.3f}"
    if _against_chance(e, best) < LEVEL:
        yield Finding("floor", "good", f"{at}.")
    else:
        text = f"{at}: no better than luck. Either the answers are noise, or the task is too hard for all of these."
        advice = "Check some answers by hand; judge it with a model that can do it, or make it easier."
        yield Finding("floor", "defect", text, advice)


def saturation(e: Evidence) -> Iterator[Finding]:
    """Whether there is something left to gain."""
    if not e.models:
        return
    best, worst = (e.models[e.ranked[place]].score for place in (0, -1))
    solved = float((e.values <= 1e-9).all(axis=1).mean())
    if e.chance is None and len(e.models) > 1 and worst - best < e.epsilon.final * worst:
        text = (
            f"all models lie between {best:.4f} and {worst:.4f}: closer together than epsilon ({e.epsilon.final:.2%})."
        )
        yield Finding("saturation", "defect", text, "Ask for something that the models do differently well.")
    elif solved >= SATURATED and len(e.models) > 1:
        text = f"all models solve {solved:.0%} of the samples, the weakest scores {worst:.3f}."
        yield Finding("saturation", "defect", text, "Make it harder: nothing is left to gain.")
    elif best <= 1e-9:
        text = "the best model scores 0: whoever reigns with 0 is never overtaken, for no loss is below."
        yield Finding("saturation", "warning", text, "Make it harder, or draw more samples.")
    elif len(e.models) > 1:
        yield Finding("saturation", "good", f"scores from {best:.3f} to {worst:.3f}; all models solve {solved:.0%}.")


def separation(e: Evidence) -> Iterator[Finding]:
    """Whether it tells the models apart, and in the order they were given."""
    if len(e.models) < 2:
        return
    real = {pair: found for pair, found in e.pairs.items() if found.real}
    lines = [
        f"{first} before {second} by {0 - found.difference.estimate:.3f} "
        f"[{0 - found.difference.high:.3f}, {0 - found.difference.low:.3f}]{'' if found.real else ', not real'}"
        for pair in pairwise(e.ranked)
        for (first, second), found in [(pair, e.pairs[pair])]
    ]
    text = f"{len(real)} of {len(e.pairs)} pairs of models are told apart: {'; '.join(lines)}."
    grade: Grade = "defect" if not real else "good" if len(real) == len(e.pairs) else "warning"
    advice = "" if grade == "good" else "Draw more samples, if the models differ at all."
    if grade == "defect" and e.deviation is not None:
        shown = stats.smallest_difference(e.deviation, len(e.samples))
        text += f" A difference of {shown:.3f} would have shown in 8 of 10 draws."
        advice = "The task is noise for these models, or they are equally good: look at other models, or other answers."
    yield Finding("separation", grade, text, advice)
    order = list(e.models)
    turned = [f"{first} before {second}" for first, second in real if order.index(first) < order.index(second)]
    if turned:
        text = f"against the order given, the weakest first: {'; '.join(turned)}, and the difference is real."
        advice = "Does it reward what it should? Look at the references and at the games."
        yield Finding("order of the models", "warning", text, advice)


def noise(e: Evidence) -> Iterator[Finding]:
    """Whether so many samples show the difference that epsilon asks for."""
    if e.deviation is None:
        return
    count, wanted = len(e.samples), e.wanted
    shown = stats.smallest_difference(e.deviation, count)
    text = f"{count} samples show a difference of {shown:.4f} in 8 of 10 draws; epsilon asks for {wanted:.4f}"
    text += f" ({e.epsilon.final:.1%} of {e.models[e.ranked[0]].score:.3f})"
    if shown <= wanted or not wanted:
        yield Finding("noise", "good", f"{text}.")
        return
    needed = stats.samples_needed(e.deviation, wanted)
    advice = (
        f"Draw {needed:,} samples" if needed <= MOST_SAMPLES else "Measure finer than this, for no source gives more"
    )
    if needed > MOST_SAMPLES:
        text += f", which takes {needed:,} samples"
    share = shown / e.models[e.ranked[0]].score
    advice += f", or choose an epsilon of {share:.1%}." if share < 0.5 else "."
    yield Finding("noise", "warning", f"{text}: a takeover by that much may be luck.", advice)


def deciding(e: Evidence) -> Iterator[Finding]:
    """The share of samples that decide anything."""
    if len(e.models) < 2:
        return
    apart = e.values.max(axis=1) - e.values.min(axis=1) > 1e-9
    solved, failed = ((e.values <= 1e-9).all(axis=1).mean(), (~apart & (e.values.min(axis=1) > 1e-9)).mean())
    share = float(apart.mean())
    squares = e.values.var(axis=1, ddof=0).sort_values(ascending=False)
    half = float((squares.cumsum() < squares.sum() / 2).mean()) + 1 / len(squares)
    text = f"models differ on {share:.0%} of the samples ({solved:.0%} all solve, {failed:.0%} all fail alike)"
    text += f"; half of what tells them apart comes from {half:.0%}." if share else "."
    few = share < FEW_DECIDE or half < FEW_DECIDE / 10
    advice = "Leave out what everybody solves; look at the few in `evidence.spread`." if few else ""
    yield Finding("deciding samples", "warning" if few else "good", text, advice)


def lengths(e: Evidence) -> Iterator[Finding]:
    """Whether the length of a sample decides."""
    from scipy import stats as distributions

    if not e.models:
        return
    best = e.models[e.ranked[0]]
    for what, text_of in (("prompt", question), ("reference", reference)):
        sizes = [len(text_of(e.samples[place])) for place in best.places]
        if len(set(sizes)) < 2 or len(set(best.values)) < 2:
            continue
        found = distributions.spearmanr(sizes, best.values)
        rho, p_value = float(found.statistic), float(found.pvalue)
        strong = abs(rho) > 0.5 and p_value < LEVEL
        more = "more" if rho > 0 else "less"
        text = f"rank correlation of the best model's loss with the {what}'s length: {rho:+.2f} (p = {p_value:.1g})"
        text += f": longer ones cost {more}." if strong else "."
        advice = "Is length what it is to measure? Draw samples of like length, or of all lengths evenly."
        yield Finding(f"length of the {what}", "warning" if strong else "good", text, advice if strong else "")


def wording(e: Evidence) -> Iterator[Finding]:
    """Whether other words, or the choices in another order, change the ranking."""
    changes = e.changes
    for variant, outcomes in e.variants.items():
        names = [name for name in e.ranked if name in outcomes]
        if not names:
            continue
        of = changes[changes["variant"] == variant]
        most = of.iloc[int(of["change"].abs().to_numpy().argmax())]
        text = (
            f"scores move by {most['change']:+.3f} at most ({most['model']}), {of['differ'].max():.0%} of the samples"
        )
        turned = []
        for pair in pairwise(names):
            first, second = (outcomes[name] for name in pair)
            if e.pairs[pair].real and e.difference(first, second).low > 0:
                turned.append(f"{pair[1]} before {pair[0]}")
        scale = e.chance or e.models[e.ranked[-1]].score
        moved = (of["change"].abs() > MOVES * scale) & ((of["low"] > 0) | (of["high"] < 0))
        if turned:
            advice = "It measures a habit more than a skill: draw the wording or the order at random for each sample."
            yield Finding(variant, "defect", f"{text}; it turns the ranking: {'; '.join(turned)}.", advice)
        elif moved.any():
            advice = "Draw the wording or the order at random for each sample."
            yield Finding(variant, "warning", f"{text}; the ranking stays.", advice)
        else:
            yield Finding(variant, "good", f"{text}; the ranking stays.")


def weighting(e: Evidence) -> Iterator[Finding]:
    """What weight and normalization do to the ranking."""
    if len(e.models) < 2:
        return
    first, second = (e.models[name].score for name in e.ranked[:2])
    made = [e.task.normalization(score) for score in (first, second)]
    if made[0] == made[1] and first != second:
        text = f"{e.task.normalization.kind} makes {made[0]:.4f} of both {first:.4f} and {second:.4f}."
        yield Finding("normalization", "defect", text, "Choose a ceiling above the scores that models have.")
    elif second:
        raw, kept = (1 - a / b if b else 0.0 for a, b in ((first, second), made))
        text = f"the best is {raw:.1%} below the second; after {e.task.normalization.kind} it is {kept:.1%}."
        yield Finding("normalization", "good", text)
    if not e.beside:
        return
    winners = e.weights[e.weights["place"] == 1].set_index("weight")["model"]
    turns = [f"{model} from {weight:.2f} on" for weight, model in winners[winners != winners.shift()].items()]
    text = f"with the weight of {e.task.name} the winner is {', '.join(turns)}; it has {e.task.weight:g} now."
    yield Finding("weight", "good", text)


def beside(e: Evidence) -> Iterator[Finding]:
    """Whether other tasks say the same."""
    from scipy import stats as distributions

    for name, outcomes in e.others.items():
        common = [model for model in e.ranked if model in outcomes]
        if len(common) < 3:
            yield Finding(f"beside {name}", "open", f"{len(common)} models have both; three or more say something.")
            continue
        scores = [[of[model].score for model in common] for of in (e.models, outcomes)]
        if any(len(set(of)) < 2 for of in scores):
            yield Finding(f"beside {name}", "open", "all models score the same on one of the two.")
            continue
        tau = float(distributions.kendalltau(*scores).statistic)
        text = f"rank correlation (Kendall) of the models' scores with {name}: {tau:+.2f} over {len(common)} models"
        text += ", few to tell." if len(common) < 8 else "."
        against = tau < 0 and len(common) >= 8
        yield Finding(f"beside {name}", "warning" if against else "good", text, "Which is right?" if against else "")


def cost(e: Evidence) -> Iterator[Finding]:
    """How long it takes."""
    if not e.models:
        return
    slowest = max(e.models, key=lambda name: e.models[name].seconds)
    seconds = e.models[slowest].seconds
    each = seconds / len(e.samples)
    text = f"{each:.3f} s a sample, {seconds:.1f} s a model ({slowest}, the slowest)"
    if e.deviation is not None and e.wanted and (needed := stats.samples_needed(e.deviation, e.wanted)) <= MOST_SAMPLES:
        text += f"; as many samples as epsilon needs would take {needed * each:,.0f} s"
    yield Finding("time", "good", f"{text}.")


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    gold,
    copies,
    games,
    floor,
    saturation,
    separation,
    noise,
    deciding,
    wrong_references,
    lengths,
    wording,
    weighting,
    beside,
    cost,
)
"""Every check, in the order of the page."""
