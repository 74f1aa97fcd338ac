"""Figures hold what they promise for 2 to 64 models and 1 to 12 tasks: readable names, the direction, greys."""

import itertools

import matplotlib
import matplotlib.text
import numpy
import pandas
import pytest
from matplotlib import pyplot

from sn37.analysis import figures

SIZES = (2, 17, 64)


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def models(count, epochs=1):
    draw = numpy.random.default_rng(0)
    rows = []
    for epoch in range(epochs):
        scores = numpy.sort(draw.gamma(9, 0.05, count)) + 0.3
        for place in range(count):
            rows.append(
                {
                    "sync_block": 5_200_000 + 360 * epoch,
                    "hotkey": f"hot{(place + epoch // 9) % count}",
                    "uid": (place * 7 + epoch // 9) % 256,
                    "repo": f"miner-{place}/a-model-with-a-long-name-{place}",
                    "block": 5_190_000 + 50 * place,
                    "score": scores[place],
                    "epsilon": 0.04,
                    "winner": place == 0,
                    "low": scores[place] - 0.01,
                    "high": scores[place] + 0.01,
                }
            )
    return pandas.DataFrame(rows)


def scores(count, tasks):
    draw = numpy.random.default_rng(1)
    return pandas.DataFrame(
        [
            {
                "uid": uid,
                "repo": f"miner-{uid}/model",
                "task": f"A_TASK_WITH_A_LONG_NAME_{task}",
                "weight": 1 / tasks,
                "raw": (raw := draw.gamma(4, 0.3)),
                "weighted": raw / tasks,
            }
            for uid in range(count)
            for task in range(tasks)
        ]
    )


def duels(count):
    pairs = itertools.permutations(range(count), 2)
    return pandas.DataFrame([{"uid": i, "opponent": j, "beats": i < j} for i, j in pairs])


def weights(validators):
    return pandas.DataFrame(
        [
            {
                "validator": name,
                "sync_block": 5_200_000 + 360 * epoch,
                "hotkey": f"hot{uid}",
                "uid": uid,
                "average": (uid + 1) / 40,
                "weight": float(uid == epoch % 12),
            }
            for name in validators
            for epoch in range(20)
            for uid in range(12)
        ]
    )


def distances(count):
    pairs = itertools.product(range(count), range(count))
    distance = {0: 0.0, 1: 0.0004, 2: 0.03, 3: 0.4}
    rows = [{"uid": i, "block": 9 - i, "other": j, "distance": distance.get(abs(i - j), 0.98)} for i, j in pairs]
    return pandas.DataFrame([row for row in rows if row["uid"] != row["other"]])


def steps(tasks):
    draw = numpy.random.default_rng(2)
    names = [f"A_TASK_WITH_A_LONG_NAME_{task}" for task in range(tasks)]
    return pandas.DataFrame({"task": names, "difference": numpy.sort(draw.normal(0, 0.01, tasks))[::-1]})


def waterfall(tasks):
    frame = steps(tasks)
    return figures.waterfall(frame, ("uid 4", 0.4337), ("uid 5", 0.4337 + frame["difference"].sum()))


def needed():
    blocks = numpy.arange(5_200_000, 5_250_400, 360)
    epsilon = 0.05 - numpy.minimum((blocks - 5_198_000) / 7_200, 1) * 0.04
    return pandas.DataFrame({"block": blocks, "needed": 0.4337 * (1 - epsilon)})


DRAWN = {
    **{f"leaderboard-{n}": lambda n=n: figures.leaderboard(models(n)) for n in SIZES},
    **{f"task_scores-{n}-{t}": lambda n=n, t=t: figures.task_scores(scores(n, t)) for n in SIZES for t in (1, 5, 12)},
    **{f"task_profile-{n}-{t}": lambda n=n, t=t: figures.task_profile(scores(n, t)) for n in SIZES for t in (1, 12)},
    **{f"duel-{n}": lambda n=n: figures.duel(duels(n)) for n in (2, 12, 24, 64)},
    **{f"copies-{n}": lambda n=n: figures.copies(distances(n)) for n in (2, 24, 64)},
    **{f"reign-{n}": lambda n=n: figures.reign(models(n, epochs=30)) for n in SIZES},
    **{f"waterfall-{t}": lambda t=t: waterfall(t) for t in (1, 5, 12)},
    "epsilon_decay": lambda: figures.epsilon_decay(needed(), 0.426),
    "weights": lambda: figures.weights(weights(["one"])),
    "agreement": lambda: figures.agreement(weights(["one", "two", "three"])),
}


def boxes(axis):
    """Where the labels of the ticks in view are."""
    low, high = sorted(axis.get_view_interval())
    labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label.get_window_extent() for label in labels if label.get_text()]


@pytest.mark.parametrize("name", DRAWN)
def test_no_name_runs_into_another_or_out_of_the_figure(name):
    ax = DRAWN[name]()
    canvas = ax.figure.canvas
    canvas.draw()
    whole = ax.figure.bbox.padded(2)
    for labels in (boxes(ax.yaxis), boxes(ax.xaxis)):
        assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in labels)
        if labels and abs(ax.get_xticklabels()[0].get_rotation()) not in (30,):
            assert not any(one.overlaps(other) for one, other in itertools.pairwise(labels))
    title = next(text for text in ax.findobj(matplotlib.text.Text) if text.get_text() == ax.get_title(loc="left"))
    assert title.get_text() and title.get_window_extent().x1 <= whole.x1


@pytest.mark.parametrize(
    "name", [name for name in DRAWN if name.startswith(("leader", "task_s", "reign", "water", "eps"))]
)
def test_the_direction_of_better_is_on_the_axis(name):
    ax = DRAWN[name]()
    assert "lower is better" in ax.get_xlabel() + ax.get_ylabel()


@pytest.mark.parametrize("tasks", range(2, 13))
def test_neighbours_differ_in_grey_and_no_two_tasks_look_alike(tasks):
    ax = figures.task_scores(scores(3, tasks))
    bars = [container[0] for container in ax.containers]
    greys = [float(numpy.dot(bar.get_facecolor()[:3], (0.299, 0.587, 0.114))) for bar in bars]
    assert all(abs(a - b) > 0.04 for a, b in itertools.pairwise(greys))
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == tasks


def test_lines_are_told_apart_without_colour():
    ax = figures.weights(weights(["one"]), most=12)
    looks = {(line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == 12


EMPTY = {
    "leaderboard": (figures.leaderboard, models(2).head(0)),
    "task_scores": (figures.task_scores, scores(2, 1).head(0)),
    "task_profile": (figures.task_profile, scores(2, 1).head(0)),
    "duel": (figures.duel, duels(2).head(0)),
    "reign": (figures.reign, models(2).head(0)),
    "weights": (figures.weights, weights(["one"]).head(0)),
    "agreement": (figures.agreement, weights(["one"])),
    "copies": (figures.copies, distances(2).head(0)),
    "waterfall": (figures.waterfall, steps(1).head(0)),
    "epsilon_decay": (figures.epsilon_decay, needed().head(0)),
    "reasons": (figures.reasons, pandas.DataFrame({"why": [], "evaluated": []})),
    "costs": (figures.costs, pandas.DataFrame({"sync_block": [], "data_s": [], "load_s": [], "compute_s": []})),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_show_is_said_in_the_figure(name):
    draw, frame = EMPTY[name]
    ax = draw(frame)
    assert any(text.get_text() for text in ax.texts)
    ax.figure.canvas.draw()


def test_figures_go_where_they_are_asked_to_and_leave_the_style_of_others_alone():
    before = dict(matplotlib.rcParams)
    _, given = pyplot.subplots()
    assert figures.leaderboard(models(3), ax=given) is given
    assert dict(matplotlib.rcParams) == before


def test_the_order_of_the_rows_changes_nothing():
    frame = models(9)
    one = [label.get_text() for label in figures.leaderboard(frame).get_yticklabels()]
    other = [label.get_text() for label in figures.leaderboard(frame.sample(frac=1, random_state=1)).get_yticklabels()]
    assert one == other


def test_the_steps_of_a_waterfall_lead_from_one_score_to_the_other():
    frame = steps(5)
    bars = [container[0] for container in waterfall(5).containers]
    assert bars[0].get_x() == 0.4337
    assert [bar.get_width() for bar in bars] == pytest.approx(list(frame["difference"]))
    assert len({(bar.get_facecolor(), bar.get_width() > 0) for bar in bars}) == 2, "behind and ahead differ in grey"


def test_a_dollar_in_a_strangers_text_is_no_formula():
    ax = figures.reasons(pandas.DataFrame({"evaluated": [False], "why": ["malformed: '$\\frac$'"]}))
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["malformed: '$\\frac$'"]
