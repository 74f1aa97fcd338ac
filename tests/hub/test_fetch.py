"""Fetching a model by commit: every reason to refuse, every trouble that is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable

from sn37.competition import Constraints
from sn37.hub import Hub
from sn37.submission import ModelId, content_hash, secure_hash

Connect = Callable[..., Hub]
Upload = Callable[..., ModelId]
Allowing = Callable[..., Constraints]


def test_a_model_arrives_with_its_hash_and_figures(
    connect: Connect, upload: Upload, constraints: Allowing, hotkey: str
) -> None:
    model = upload({"README.md": b"not the model's", "notes/readme.txt": b"neither"})
    with connect().fetch_model(model, hotkey, constraints()) as fetched:
        assert secure_hash(fetched.content_hash, hotkey) == model.hash
        assert content_hash(fetched.folder) == fetched.content_hash
        assert sorted(p.name for p in fetched.folder.iterdir()) == sorted(fetched.files)
        assert "README.md" not in fetched.files
        assert fetched.report.parameters == 8 * 16 + 16
        assert fetched.report.architecture == "LlamaForCausalLM"
        assert fetched.bytes == sum(p.stat().st_size for p in fetched.folder.iterdir())
