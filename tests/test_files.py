from pathlib import Path

import pytest

from sn37.errors import ConfigError
from sn37.files import shipped, size_bytes

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", ["notebooks", "pipelines"])
def test_a_checkout_ships_its_own_folders(kind):
    assert shipped(kind) == ROOT / kind


def test_a_shipped_file_is_found_by_its_name():
    assert shipped("pipelines", "validator.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["absent.yaml", "../pyproject.toml", "/etc/passwd", "", "..", "a/b"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(name):
    told = r"no file .* among the pipelines of sn37; expected one of: .*validator\.yaml"
    with pytest.raises(ConfigError, match=told):
        shipped("pipelines", name)


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    for name, size in (("one", 3), ("inner/two", 4), ("gone", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert (size_bytes(tmp_path), size_bytes(tmp_path / "one"), size_bytes(tmp_path / "absent")) == (12, 3, 0)
    look = Path.lstat

    def lstat(path):
        (tmp_path / "gone").unlink(missing_ok=True)  # somebody is quicker
        return look(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert size_bytes(tmp_path) == 7
