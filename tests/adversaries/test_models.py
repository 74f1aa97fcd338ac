"""Models made to hurt, in one epoch with honest ones: each costs its miner the epoch, and nobody else anything."""

import json
import struct

import pytest

from sn37.submission import content_hash


def config(files, **changes):
    return {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **changes}).encode()}


def head(files, **changes):
    """The weights with entries of their head replaced."""
    raw = files["model.safetensors"]
    (length,) = struct.unpack("<Q", raw[:8])
    text = json.dumps({**json.loads(raw[8 : 8 + length]), **changes}).encode()
    return {**files, "model.safetensors": struct.pack("<Q", len(text)) + text + raw[8 + length :]}


def weights(small, change, **fields):
    """The files of a model whose parameters are changed."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(small.model(0.5), **fields)
    change(model)
    folder = small.root / "changed"
    model.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def nan(model):
    model.lm_head.weight.data[3, 3] = float("nan")


def huge(model):
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1e6)


def overflowing(model):
    """Finite weights of modest norms, and no finite logits."""
    model.lm_head.weight.data.fill_(3e38)


def away(model):
    """One tensor less than the architecture has."""
    model.model.norm = None


def without(files, name):
    return {path: data for path, data in files.items() if path != name}


def in_shards(files, weight_map):
    """The weights as their only shard, beside an index of that map."""
    made = {**without(files, "model.safetensors"), "model-00001-of-00001.safetensors": files["model.safetensors"]}
    if weight_map is not None:
        made["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return made


def integers(files):
    from safetensors.torch import load, save

    return save({name: tensor.to(int) for name, tensor in load(files["model.safetensors"]).items()})


def names(files):
    from safetensors.torch import load

    return list(load(files["model.safetensors"]))


TRICKS = {
    "swells": (lambda s, f: config(f, num_hidden_layers=10**7), "num_hidden_layers is 10000000; expected"),
    "swells-wide": (lambda s, f: config(f, hidden_size=10**9), "hidden_size is 1000000000; expected"),
    "swells-within-range": (lambda s, f: config(f, hidden_size=2**20), "tensors of other shapes"),
    "divides-by-zero": (lambda s, f: config(f, num_attention_heads=0), "num_attention_heads is 0; expected"),
    "not-a-number": (lambda s, f: weights(s, nan), "not all finite"),
    "overflows": (lambda s, f: weights(s, overflowing), "finite"),
    "huge-norms": (lambda s, f: weights(s, huge), "norm"),
    "another-kind": (lambda s, f: config(f, architectures=["GPT2LMHeadModel"]), "'GPT2LMHeadModel' is not allowed"),
    "disguised": (lambda s, f: config(f, model_type="gpt2"), "has the model_type 'gpt2'"),
    "brings-code": (lambda s, f: config(f, auto_map={"AutoModelForCausalLM": "x/evil--m.M"}), "code of its own"),
    "brings-kernels": (lambda s, f: config(f, attn_implementation="someone/kernels"), "code from elsewhere"),
    "quantized": (lambda s, f: config(f, quantization_config={"quant_method": "fp8"}), "quantized"),
    "infinite-head": (lambda s, f: {**f, "model.safetensors": struct.pack("<Q", 1 << 60) + b"{}"}, "header too large"),
    "endless-json": (lambda s, f: {**f, "config.json": b"[" * 100_000}, "config.json is no JSON"),
    "leaves-its-folder": (lambda s, f: in_shards(f, {"lm_head.weight": "../../../../etc/passwd"}), "which is missing"),
    "unprintable": (
        lambda s, f: {**f, "config.json": f["config.json"].replace(b'"Llama', b'"\\ud800\\u202e\\u001b[2J<b>Llama')},
        "is not allowed",
    ),
    "unprintable-tensor": (
        lambda s, f: in_shards(f, dict.fromkeys([*names(f), "\x1b[2J<script>"], "model-00001-of-00001.safetensors")),
        "script",
    ),
    "folder-as-file": (lambda s, f: {**f, "added_tokens.json/vocab.txt": b"x"}, "is called as a file of the model"),
    "deep-down": (lambda s, f: {**f, "/".join("abcdefghijklmnopq") + "/vocab.txt": b"x"}, "is no plain path"),
    "pickled": (lambda s, f: {**f, "pytorch_model.bin": b"\x80\x04N."}, "only safetensors are allowed"),
    "pickled-below": (lambda s, f: {**f, "a/optimizer.PT": b"\x80\x04N."}, "only safetensors are allowed"),
    "python": (lambda s, f: {**f, "modeling_llama.py": b"raise SystemExit"}, "is code"),
    "no-config": (lambda s, f: without(f, "config.json"), "there is no config.json"),
    "no-weights": (lambda s, f: without(f, "model.safetensors"), "there are no safetensors weights"),
    "weights-below": (
        lambda s, f: {**without(f, "model.safetensors"), "a/model.safetensors": f["model.safetensors"]},
        "no safetensors weights at the top",
    ),
    "two-models": (
        lambda s, f: {**f, "model-00001-of-00001.safetensors": s.files(0.4)["model.safetensors"]},
        "which of them is the model is unclear",
    ),
    "no-index": (lambda s, f: in_shards(f, None), "there is no model.safetensors.index.json"),
    "index-of-nothing": (lambda s, f: in_shards(f, {}), "has no weight_map"),
    "index-of-numbers": (lambda s, f: in_shards(f, {"lm_head.weight": 3}), "has no weight_map"),
    "index-elsewhere": (lambda s, f: in_shards(f, {"lm_head.weight": "model.bin"}), "'model.bin', which is missing"),
    "index-forgets": (
        lambda s, f: in_shards(f, {"lm_head.weight": "model-00001-of-00001.safetensors"}),
        "does not place the tensor",
    ),
    "empty-weights": (lambda s, f: {**f, "model.safetensors": b""}, "header too small"),
    "cut-weights": (lambda s, f: {**f, "model.safetensors": f["model.safetensors"][:-3]}, "not fully covered"),
    "longer-weights": (lambda s, f: {**f, "model.safetensors": f["model.safetensors"] + b"xyz"}, "not fully covered"),
    "head-of-text": (lambda s, f: {**f, "model.safetensors": struct.pack("<Q", 4) + b"nope"}, "invalid JSON in header"),
    "head-in-head": (lambda s, f: head(f, a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}), "invalid offset"),
    "no-floats": (lambda s, f: {**f, "model.safetensors": integers(f)}, "expected a float"),
    "two-architectures": (
        lambda s, f: config(f, architectures=["LlamaForCausalLM", "PhiForCausalLM"]),
        "does not name exactly one architecture",
    ),
    "config-of-numbers": (lambda s, f: {**f, "config.json": b"[1, 2]"}, "does not name exactly one architecture"),
    "not-text": (lambda s, f: {**f, "generation_config.json": b"\xff\xfe\x00"}, "generation_config.json is no JSON"),
    "generates-with-code": (
        lambda s, f: {**f, "generation_config.json": b'{"custom_generate": "x/y"}'},
        "generation_config.json asks for code of its own",
    ),
    "too-large": (lambda s, f: {**f, "vocab.txt": b"x" * 1_000_000}, "bytes"),
    "few-words": (lambda s, f: few_words(s), "the tokenizer has 257 tokens; the model knows 100"),
}


def few_words(small):
    from small import save_model

    folder = save_model(small.root / "few-words", 0.5, vocabulary=100)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def epoch(module_small, tmp_path_factory):
    small = module_small
    small.submit("best", 0.0)
    small.submit("second", 0.5)
    honest = small.files(0.5)
    for name, (make, _) in TRICKS.items():
        small.submit(name, make(small, honest))
    small.submit("copy", 0.0)
    small.submit("near-copy", 1e-4)
    small.next_epoch()
    return small.epoch(tmp_path_factory.mktemp("home"), limits={"beyond": 80})


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_costs_its_miner_the_epoch_with_the_reason(epoch, module_small, trick):
    reason = epoch.faults[module_small.hotkey(trick)]
    assert TRICKS[trick][1] in reason
    assert reason.isprintable()


def test_nobody_else_pays_for_it(epoch, module_small):
    losses = {name: epoch.losses.get(module_small.hotkey(name)) for name in ("best", "second", "copy", "near-copy")}
    assert losses["best"] == losses["copy"] == pytest.approx(5.549, abs=1e-3)
    assert losses["second"] > 6
    assert set(epoch.losses) == {module_small.hotkey(name) for name in losses}
    assert epoch.decision.winner == module_small.hotkey("best")
    assert epoch.publication.weights == {module_small.hotkey("best"): 1.0}


def test_a_copy_and_a_near_copy_never_reign(epoch, module_small):
    best, second = module_small.hotkey("best"), module_small.hotkey("second")
    # The second is later and worse: it could not win either.
    assert [turn.hotkey for turn in epoch.decision.reign if turn.succeeds] == [best]
    assert epoch.decision.win_rate[best] == 1.0
    assert second in epoch.losses


def test_what_they_wrote_is_shown_as_text_never_as_markup(epoch):
    page = epoch.decided._repr_html_()
    assert "<script>" not in page and "<b>Llama" not in page
    json.dumps(page, ensure_ascii=False).encode()


def test_a_failed_model_is_tried_once_more_and_then_left_alone(epoch, module_small, tmp_path_factory):
    reasons = []
    for _ in range(2):
        module_small.next_epoch()
        again = module_small.epoch(epoch.home, limits={"beyond": 80})
        picks = {pick.submission.hotkey: pick for pick in again.plan.picks}
        reasons.append(picks[module_small.hotkey("few-words")].why)
        assert again.decision.winner == epoch.decision.winner
    assert reasons[0] == "again"
    assert reasons[1].startswith("failed twice")


def test_the_hash_covers_what_is_loaded(epoch, module_small):
    """A commitment holds for one content: the files a miner changes later are another commit, which nobody fetches."""
    before = epoch.decided.epoch.results[module_small.hotkey("best")].content_hash
    assert before == content_hash(module_small.model(0.0))
