"""Whether a task is any good: planted defects are called out, a good task passes, mistakes are one sentence."""

import re

import pytest
from knowing import KEYS, LETTERS, PARTNER, known_to, save_knowing
from matplotlib import pyplot

import sn37
from sn37.errors import ConfigError, DataFault
from sn37.sample import ChoiceSample, InstructionSample, ReferenceSample, TextSample
from sn37.sources import SOURCES

DEFECTS = {
    "noise": "floor",
    "saturated": "saturation",
    "longest": "games",
    "wrong": "wrong references",
}
"""What is planted -> the aspect that must call it out."""
RULES = ({"rule": "no_commas"},)


@pytest.fixture(scope="module", autouse=True)
def source():
    @sn37.source("partners")
    def partners(rng, count: int = 240, planted: str = ""):
        """Which letter belongs to a key."""
        for number in range(count):
            key = rng.choice(known_to(0.35) if planted == "saturated" else KEYS)
            right = PARTNER[key]
            choices = [right, *rng.sample(sorted({*LETTERS} - {right}), 3)]
            rng.shuffle(choices)
            answer = right
            if planted == "noise":
                answer = rng.choice(choices)
            if planted == "wrong" and number % 20 == 0:
                answer = rng.choice([choice for choice in choices if choice != right])
            if planted == "longest":
                choices = [3 * choice if choice == right else choice for choice in choices]
                answer = 3 * right
            yield ChoiceSample(f"which of {', '.join(choices)} belongs to {key}", tuple(choices), answer, group=key)

    yield
    SOURCES._factories.pop("partners")
    pyplot.close("all")


def partners(planted="", **more):
    return sn37.task(
        "PARTNERS", source="partners", method="choice_likelihood", unit="bits_per_byte", planted=planted, **more
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("knowing")
    return {
        name: save_knowing(root / name, share) for name, share in (("weak", 0.35), ("middle", 0.65), ("strong", 0.97))
    }


@pytest.fixture(scope="module")
def good(models):
    words = sn37.task("WORDS", source="word_sorting", method="reference_loss", count=4, weight=0.5)
    return sn37.judge_task(partners(weight=0.5), models, 7, beside=[words], dtype="float32", device="cpu")


def test_a_good_task_passes(good):
    assert good.verdict == "fit with care"
    assert {finding.aspect for finding in good.of("warning")} == {"noise"}, "no 240 samples show a hundredth"
    told = {finding.aspect for finding in good.of("good")}
    assert {*DEFECTS.values(), "gold answers", "separation", "opened politely", "choices reordered", "time"} <= told
    assert good.evidence.ranked == ["strong", "middle", "weak"]


@pytest.mark.parametrize("planted", DEFECTS)
def test_a_planted_defect_is_called_out(planted, models):
    judged = sn37.judge_task(partners(planted), models, 7, wordings={}, dtype="float32", device="cpu")
    assert judged.verdict == "not fit"
    assert DEFECTS[planted] in {finding.aspect for finding in judged.of("defect")}
    others = {"saturation", "games", "wrong references"} - {DEFECTS[planted]}
    assert not others & {finding.aspect for finding in judged.of("defect")}, "and nothing that is not there"
    if planted == "wrong":
        (finding,) = (one for one in judged.of("defect") if one.aspect == "wrong references")
        assert len(finding.samples) >= 5 and {place % 20 for place in finding.samples} == {0}


def test_it_shows_itself_with_a_figure_for_every_claim(good):
    text, page = repr(good), good._repr_html_()
    assert text.startswith("PARTNERS is fit to decide a competition, with care: noise.")
    assert re.search(r"noise: 240 samples show a difference of 0\.\d+ in 8 of 10 draws; epsilon asks for 0\.\d+", text)
    assert all(one.aspect in page and one.aspect in text for one in good.findings)
    assert all(re.search(r"\d", one.text) for one in good.findings)


def test_its_figures_and_frames(good):
    for plot in (good.plot_scores, good.plot_noise, good.plot_samples, good.plot_changes, good.plot_weights):
        ax = plot()
        assert ax.get_title("left") and ax.get_xlabel() and ax.has_data()
    e = good.evidence
    assert repr(e).startswith("evidence on PARTNERS: 240 samples, 3 models, 7 games; data frames: scores")
    assert set(e.scores["kind"]) == {"model", "game", "gold"} and e.scores["score"].min() == 0
    assert (
        list(e.spread.columns[:3]) == ["spread", "prompt", "reference"] and e.spread["spread"].is_monotonic_decreasing
    )
    assert e.noise["smallest"].is_monotonic_decreasing


def test_a_weight_changes_the_order(good):
    """The weak model sorts words as badly as all; by that task alone the order is another one."""
    alone, none = good.evidence.ranking(1.0), good.evidence.ranking(1e-9)
    assert list(alone["model"]) == good.evidence.ranked
    by_words = sorted(good.evidence.models, key=lambda name: good.evidence.others["WORDS"][name].score)
    assert list(none["model"]) == by_words


def test_models_given_the_wrong_way_round_are_told(models):
    turned = dict(reversed(models.items()))
    judged = sn37.judge_task(partners(count=160), turned, 7, wordings={}, dtype="float32", device="cpu")
    (found,) = (one for one in judged.findings if one.aspect == "order of the models")
    assert "strong before weak" in found.text


def test_without_models_only_what_needs_none_is_looked_at():
    judged = sn37.judge_task(partners(), seed=7)
    assert judged.verdict == "open" and "without models" in judged.summary
    assert "only what needs no model was looked at" in repr(judged)
    assert {"gold answers", "games", "samples never seen"} <= {finding.aspect for finding in judged.findings}
    assert sn37.judge_task(partners("longest"), seed=7).verdict == "not fit"
    assert judged.plot_scores().has_data() and not judged.plot_noise().lines


@pytest.mark.parametrize(
    ("samples", "method", "aspect", "told"),
    [
        ([ChoiceSample("a or b?", ("a", "b"), "c"), ChoiceSample("c or d?", ("c", "d"), "c")], "multiple_choice",
         "gold answers", "score 0.5000; expected 0: sample 0 cannot be won"),
        ([ReferenceSample("Say it.", f"it {n}") for n in range(4)], "reference_loss",
         "contradicting references", "samples 0, 1, 2, 3 ask the same and expect different answers"),
    ],
)  # fmt: skip
def test_references_that_cannot_be_right_are_told(samples, method, aspect, told):
    judged = sn37.judge_task(sn37.task("T", source="word_sorting", method=method), samples=samples)
    (found,) = (one for one in judged.of("defect") if one.aspect == aspect)
    assert told in found.text


@pytest.mark.parametrize(
    ("samples", "method", "gold"),
    [
        ([ReferenceSample(f"Say {n}.", f"it is {n}") for n in range(4)], "reference_loss", 0.0),
        ([TextSample("The river rose in the night."), TextSample("Nobody knew why she left.")], "text_loss", 0.0),
        ([ChoiceSample(f"Is {n} even?", ("yes", "no"), "no") for n in (1, 3, 5)], "multiple_choice", 0.0),
        ([InstructionSample((f"Tell of {n}.", "Tell."), (RULES, RULES)) for n in range(2)], "if_eval", None),
    ],
)  # fmt: skip
def test_gold_passes_every_method(samples, method, gold):
    judged = sn37.judge_task(sn37.task("T", source="word_sorting", method=method), samples=samples)
    outcome = judged.evidence.gold.outcome
    assert (outcome and outcome.score) == gold


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ({"samples": []}, DataFault, "task T: there are no samples; expected one or more"),
        ({"samples": [TextSample("a")]}, ConfigError, "reference_loss got a TextSample; expected only ReferenceSample"),
        ({"wordings": {"odd": "no place"}}, ConfigError, "expected '{prompt}' in each"),
        ({"seed": "7"}, ConfigError, "seed is '7'; expected a whole number"),
        ({"models": ["nowhere"]}, ConfigError, "nowhere is no model"),
    ],
)
def test_bad_input_is_one_sentence(given, kind, told):
    task = sn37.task("T", source="word_sorting", method="reference_loss", count=3)
    with pytest.raises(kind, match=re.escape(told)):
        sn37.judge_task(task, **given)


def test_what_a_model_is_called_is_text_on_the_page(models):
    """With a model that fails, and one alone."""
    named = {"<b>bad</b>": models["weak"].parent, "strong": models["strong"]}
    (named["<b>bad</b>"] / "config.json").write_text("{}")
    judged = sn37.judge_task(partners(count=60), named, 7, wordings={}, dtype="float32", device="cpu")
    assert judged.verdict == "open" and "with one model" in judged.summary
    assert "&lt;b&gt;bad&lt;/b&gt; has no score" in judged._repr_html_() and "<b>bad" not in judged._repr_html_()
    assert [plot().get_title("left") for plot in (judged.plot_scores, judged.plot_samples, judged.plot_changes)]
