import hashlib
import os
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sn37.submission import (
    MAX_COMMITMENT_BYTES,
    ModelId,
    Submission,
    content_hash,
    file_digest,
    is_model_file,
    secure_hash,
)

ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
COMMIT = "0123456789abcdef" * 2 + "01234567"
HASH = b64encode(bytes(range(32))).decode()
TEXT = f"ann/model:{COMMIT}:{HASH}:4".replace("/", ":", 1)

parts = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,18}", fullmatch=True)
commits = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
hashes = st.binary(min_size=32, max_size=32).map(lambda data: b64encode(data).decode())


@st.composite
def models(draw):
    namespace, name = draw(parts), draw(parts)
    assume(
        all(p[-1] not in ".-" and "--" not in p and ".." not in p and not p.endswith(".git") for p in (namespace, name))
    )
    assume(len(namespace) + len(name) < 38)
    competition = draw(st.none() | st.integers(0, 99))
    return ModelId(namespace, name, draw(st.none() | commits), draw(st.none() | hashes), competition)


@given(models())
def test_a_commitment_survives_its_text(model):
    text = model.to_text()
    assert len(text.encode()) <= MAX_COMMITMENT_BYTES
    assert ModelId.from_text(text) == model


def test_the_longest_commitment_fits():
    model = ModelId("n" * 18, "m" * 19, COMMIT, HASH, 99)
    assert len(model.to_text().encode()) == 127
    assert ModelId.from_text(model.to_text()) == model


def test_a_commitment_by_hand():
    model = ModelId.from_text(TEXT)
    assert model == ModelId("ann", "model", COMMIT, HASH, 4)
    assert (model.repo, model.legacy) == ("ann/model", False)
    assert model.to_text() == TEXT


def test_four_parts_are_the_legacy_form():
    model = ModelId.from_text(f"ann:model:{COMMIT}:{HASH}")
    assert (model.competition_id, model.legacy) == (None, True)
    assert model.expected_hash(HASH, ALICE) == HASH


def test_none_stands_for_an_absent_part():
    model = ModelId.from_text("ann:model:None:None:3")
    assert (model.commit, model.hash) == (None, None)
    assert model.to_text() == "ann:model:None:None:3"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1 parts instead of 5"),
        ("ann:model", "2 parts instead of 5"),
        (f"{TEXT}:6", "6 parts instead of 5"),
        (f"ann:model:{COMMIT}:{HASH}:", "competition id '' is not 1 or 2 digits"),
        (f"ann:model:{COMMIT}:{HASH}:100", "competition id '100'"),
        (f"ann:model:{COMMIT}:{HASH}:-1", "competition id '-1'"),
        (f"ann:model:{COMMIT}:{HASH}:\u0663", "competition id '\u0663'"),
        (f"ann:model:{COMMIT}:{HASH}:None", "competition id 'None'"),
        (f"ann:model:{COMMIT}:{HASH}:4\n", "competition id '4.n'"),
        (f":model:{COMMIT}:{HASH}:4", "'' is no part of a hub repo name"),
        (f"..:model:{COMMIT}:{HASH}:4", "'..' is no part"),
        (f"ann:../../etc:{COMMIT}:{HASH}:4", "'../../etc' is no part"),
        (f"ann:a/b:{COMMIT}:{HASH}:4", "'a/b' is no part"),
        (f"ann:a--b:{COMMIT}:{HASH}:4", "'a--b' is no part"),
        (f"ann:model.git:{COMMIT}:{HASH}:4", "'model.git' is no part"),
        (f"ann:mod\u00e9l:{COMMIT}:{HASH}:4", "is no part"),
        (f"ann:{'m' * 35}:{COMMIT}:{HASH}:4", "is longer than 38 characters"),
        (f"ann:model:{COMMIT[:-1]}:{HASH}:4", "is no full commit: expected 40 lower-case"),
        (f"ann:model:{COMMIT.upper()}:{HASH}:4", "is no full commit"),
        (f"ann:model:main:{HASH}:4", "'main' is no full commit"),
        (f"ann:model:{COMMIT}:{HASH[:-1]}:4", "is no hash: expected base64 of 32 bytes"),
        (f"ann:model:{COMMIT}:{'g' * 44}:4", "is no hash"),
        ("x" * 129, "more than 128 bytes"),
        ("\u00e9" * 65, "more than 128 bytes"),
    ],
)
def test_a_malformed_commitment_is_refused_with_the_part_named(text, told):
    with pytest.raises(ValueError, match=told) as raised:
        ModelId.from_text(text)
    assert str(raised.value).startswith("malformed commitment: ")
    assert Submission.read(ALICE, 3, 9, text) == Submission(ALICE, 3, 9, text, None, str(raised.value))


@given(
    st.text()
    | st.lists(st.sampled_from(["ann", "..", COMMIT, HASH, "None", "4", ":", "\0", "\ud800", "/"])).map(":".join)
)
def test_hostile_text_raises_nothing_but_value_error(text):
    try:
        model = ModelId.from_text(text)
    except ValueError:
        assert Submission.read(ALICE, 3, 9, text).model is None
    else:
        assert ModelId.from_text(model.to_text()) == model


def test_a_submission_keeps_where_it_came_from():
    assert Submission.read(ALICE, 3, 9, TEXT) == Submission(ALICE, 3, 9, TEXT, ModelId.from_text(TEXT), "")


@pytest.mark.parametrize("fields", [{"competition_id": 100}, {"competition_id": -1}, {"commit": "main"}, {"hash": "x"}])
def test_a_model_id_is_checked_when_made(fields):
    with pytest.raises(ValueError, match=r"is not in|is no"):
        ModelId(**{"namespace": "a", "name": "b", "commit": COMMIT, "hash": HASH, "competition_id": 1, **fields})


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("sub/chat_template.jinja", True),
        ("model.safetensors", True),
        ("tokenizer.model", True),
        ("CONFIG.JSON", False),
        ("model.safetensors.bak", False),
        ("xmodel.safetensors", False),
        ("pytorch_model.bin", False),
        ("modeling_own.py", False),
        ("README.md", False),
        ("config.json/other", False),
    ],
)
def test_only_the_protocols_files_count(name, counted):
    assert is_model_file(name) is counted


FILES = {
    "config.json": "{}",
    "model.safetensors": "weights",
    "model-00001-of-00002.safetensors": "part",
    "tokenizer.json": "x",
    "sub/vocab.txt": "sub",
    "sub/deeper/config.json": "deep",
    "b/merges.txt": "b",
    "README.md": "no",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_content_hash_is_what_openssl_says(tmp_path):
    """The golden value was made with openssl and base64, one file after the other."""
    content = content_hash(write(tmp_path, FILES))
    assert content == "PK+5Dp+FBWfRCnlGBdf0vX/BotFNSDFKTMCu9a90/Ts="
    assert secure_hash(content, ALICE) == "WWHmW8iIy9VrTq8EwnsZPKpANYoUmJ8RKb7p/GZVUZE="
    assert ModelId("a", "b", None, None, 4).expected_hash(content, ALICE) == secure_hash(content, ALICE)


def independent(folder):
    digests = ""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if is_model_file(name):
                digests += b64encode(hashlib.sha256(Path(root, name).read_bytes()).digest()).decode()
    return b64encode(hashlib.sha256(digests.encode()).digest()).decode()


names = st.sampled_from(
    ["config.json", "vocab.json", "merges.txt", "model.safetensors", "README.md", "model-1-of-2.safetensors"]
)
folders = st.lists(st.sampled_from(["a", "b", "B", "a.b", "a-b", "_", "config.jsonx"]), max_size=3).map("/".join)
trees = st.dictionaries(
    st.tuples(folders, names).map(lambda p: "/".join(filter(None, p))), st.text(max_size=5), max_size=12
)


@settings(max_examples=30)
@given(trees)
def test_the_walk_is_that_of_the_standard_library(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("model")
    forward = write(folder / "f", tree) if tree else folder
    backward = write(folder / "b", dict(reversed(tree.items()))) if tree else folder
    assert content_hash(forward) == content_hash(backward) == independent(forward)
    shutil.rmtree(folder)


@pytest.mark.parametrize("change", ["config.json", "sub/deeper/config.json"])
def test_any_changed_byte_changes_the_hash(tmp_path, change):
    before = content_hash(write(tmp_path, FILES))
    (tmp_path / change).write_text("other")
    assert content_hash(tmp_path) != before


def test_other_files_and_linked_folders_do_not_count(tmp_path):
    model = write(tmp_path / "model", FILES)
    before = content_hash(model)
    write(model, {"training_args.bin": "pickle", "logs/events": "x"})
    (model / "linked").symlink_to(write(tmp_path / "elsewhere", {"config.json": "other"}))
    (model / "around").symlink_to(model)
    assert content_hash(model) == before


def test_no_depth_of_folders_stops_the_hash(tmp_path):
    deep = tmp_path.joinpath(*(["d"] * 1500))
    if subprocess.run(["mkdir", "-p", str(deep)], capture_output=True).returncode:
        pytest.skip("this file system does not take so long a path")
    (deep / "config.json").write_text("{}")
    digest = file_digest(deep / "config.json")
    assert content_hash(tmp_path) == b64encode(hashlib.sha256(digest.encode()).digest()).decode()
    # Python's own rmtree would not get to the bottom of it.
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_known_digests_are_used_instead_of_reading_again(tmp_path):
    model = write(tmp_path, {"config.json": "{}", "sub/vocab.txt": "v"})
    digests = {path: file_digest(path) for path in (model / "config.json", model / "sub/vocab.txt")}
    expected = content_hash(model)
    (model / "config.json").write_text("changed since")
    assert content_hash(model, digests) == expected


def test_a_copied_hash_is_worthless_to_another_hotkey():
    assert secure_hash(HASH, ALICE) != secure_hash(HASH, ALICE[::-1])
