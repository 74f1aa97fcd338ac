"""The layers of the library: imports run downward only, between rooms and between files."""

import ast
import graphlib
import io
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PURE = (
    "errors",
    "clock",
    "competition",
    "files",
    "html",
    "ifeval",
    "incentive",
    "protocol",
    "registry",
    "sample",
    "schedule",
    "submission",
    "values",
)
"""The rooms that know nothing but the standard library and each other."""

LIBRARY = ("competitions", "documents", "data", "evaluation", "methods", "records", "sources")
"""What a notebook of a researcher needs."""

COMPOSED = (*LIBRARY, "chain", "checks", "engine", "hub", "workers")
"""What the validator and the miner put together."""

SEES = {
    **dict.fromkeys(PURE, ()),
    "documents": (),
    "scratch": (),
    "chain": (),
    "engine": (),
    "workers": ("scratch",),
    "checks": ("engine",),
    "sources": (),
    "hub": ("checks", "scratch", "workers"),
    "data": ("hub", "records", "scratch", "sources", "workers"),
    "methods": ("engine.interface",),
    "competitions": ("documents", "methods", "sources"),
    "evaluation": (*sorted({*LIBRARY} - {"evaluation"}), "analysis", "checks", "engine", "hub", "scratch", "workers"),
    "records": ("competitions", "documents"),
    "validator": (*COMPOSED, "analysis", "scratch"),
    "miner": (*COMPOSED, "analysis", "scratch"),
    "analysis": ("records",),
    "devnet": (*COMPOSED, "miner"),
    "notebook": ("scratch",),
    "supervisor": ("scratch",),
    "pipeline": ("documents", "notebook"),
    "commands": (
        *COMPOSED,
        "analysis",
        "devnet",
        "miner",
        "notebook",
        "pipeline",
        "scratch",
        "supervisor",
        "validator",
    ),
    "cli": ("commands",),
    "__main__": ("cli",),
}
"""The rooms each room may import, besides the pure ones and itself. A room is a file or folder of `sn37/`."""

ONLY_IN = {
    "bittensor": ("chain", "devnet"),
    "bittensor_core": ("chain", "devnet"),
    "huggingface_hub": ("data", "hub", "devnet"),
    "papermill": ("notebook",),
    "ray": ("workers",),
    "starlette": ("devnet",),
    "typer": ("cli", "commands"),
    "uvicorn": ("devnet",),
}
"""The clients with one door: the rooms that may import them."""


def room_of(path):
    return path.relative_to(ROOT / "sn37").with_suffix("").parts[0]


def imported(path):
    """The (line, module) of every import of a file: at the top, in functions, for types only, by name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            # `from sn37 import chain` imports sn37.chain; `from sn37.errors import X` no module of that name.
            below = [f"{module}.{alias.name}" for alias in node.names]
            found = [name for name in below if (ROOT / name.replace(".", "/")).is_dir() or module_file(name).is_file()]
            yield from ((node.lineno, name) for name in found or [module])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def module_file(name):
    return (ROOT / name.replace(".", "/")).with_suffix(".py")


def package_file(name):
    """The file that a module's name stands for: a module or a package; None for a name inside a module."""
    folder = ROOT / name.replace(".", "/")
    return next((file for file in (folder / "__init__.py", folder.with_suffix(".py")) if file.is_file()), None)


FILES = sorted((ROOT / "sn37").rglob("*.py"))


def import_graph(files):
    """file -> the files of `sn37/` it imports, inside functions and for types too.

    Importing `sn37.a.b` also runs `sn37/a/__init__.py`; that is Python's doing and no edge of its own.
    """
    graph = {}
    for path in files:
        names = [name for _, name in imported(path) if name.split(".")[0] == "sn37"]
        found = {package_file(name) or package_file(name.rpartition(".")[0]) for name in names}
        graph[path] = found - {None, path}
    return graph


def test_no_file_imports_itself_by_way_of_others():
    graph = import_graph(FILES)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


def test_no_room_sees_itself_by_way_of_others():
    rooms = {room: {seen.split(".")[0] for seen in SEES[room]} for room in SEES}
    graphlib.TopologicalSorter(rooms).prepare()


def allowed(room, target):
    """Whether a room may import the module `target`, named from `sn37.` on ("" for sn37 itself)."""
    if target == "" or target.split(".")[0] in (*PURE, room):
        return True
    return any(target == seen or target.startswith(f"{seen}.") for seen in SEES[room])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward_only(path):
    room = room_of(path)
    if room == "__init__":
        # What researchers need is imported when it is first used; types alone name it.
        assert {m.split(".")[1] for _, m in imported(path) if m.startswith("sn37.")} <= {*PURE, *LIBRARY}
        return
    assert room in SEES, f"sn37/{room} is a new room: give it a place in SEES"
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for line, module in imported(path)
        if module.split(".")[0] == "sn37" and not allowed(room, module.removeprefix("sn37").lstrip("."))
    ]
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_client_has_one_door(path):
    room = room_of(path)
    tops = {(line, module.split(".")[0]) for line, module in imported(path)}
    strays = {(line, top) for line, top in tops if room not in ONLY_IN.get(top, (room,))}
    assert not strays, f"{path.relative_to(ROOT)}: {strays}"
    if room in PURE:
        assert {top for _, top in tops} <= {"sn37", *sys.stdlib_module_names}


def test_nobody_but_the_command_line_sees_the_embedded_world():
    assert [room for room in SEES if allowed(room, "devnet.world")] == ["devnet", "commands"]


def code_lines(text):
    """The numbers of the lines that hold code: no blank lines, no comments, no docstrings."""
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_small(path):
    """A file of over 300 lines of code, or a function of over 50, asks to be split; what explains it does not count."""
    text = path.read_text(encoding="utf-8")
    code = code_lines(text)
    assert len(code) <= 300
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f.name: sum(f.lineno <= line <= f.end_lineno for line in code) for f in functions}
    assert not {name: size for name, size in sizes.items() if size > 50}


def test_a_circle_of_files_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "sn37" / "hub"
    room.mkdir(parents=True)
    (room / "__init__.py").write_text("from sn37.hub.a import A\n")
    (room / "a.py").write_text("def f():\n    from sn37.hub import b\n")
    (room / "b.py").write_text("if TYPE_CHECKING:\n    from sn37.hub.a import A\n")
    graph = import_graph(sorted(room.iterdir()))
    assert graph == {
        room / "__init__.py": {room / "a.py"},
        room / "a.py": {room / "b.py"},
        room / "b.py": {room / "a.py"},
    }
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


def test_the_walk_sees_every_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "sn37" / "engine"
    room.mkdir(parents=True)
    (room / "other.py").touch()
    path = room / "sly.py"
    path.write_text(
        """
import sn37.a, b
from sn37.c import d
from . import other
from ..hub import e
from sn37.engine import other

def f():
    import sn37.g
    importlib.import_module("sn37.h")

if TYPE_CHECKING:
    from sn37 import i
"""
    )
    assert sorted(name for _, name in imported(path)) == [
        "b",
        "sn37",
        "sn37.a",
        "sn37.c",
        "sn37.engine.other",
        "sn37.engine.other",
        "sn37.g",
        "sn37.h",
        "sn37.hub",
    ]
