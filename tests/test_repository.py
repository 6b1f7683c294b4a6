"""The repository tests itself: imports point downwards, heavy libraries stay in their rooms, one name, no pickle."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("kernels", "search_space", "controllers", "evaluators", "predictors", "studies")
MAY_IMPORT = {
    "kernels": set(),
    "search_space": {"kernels"},
    "controllers": {"search_space"},
    "evaluators": {"search_space", "kernels"},
    "predictors": {"search_space"},
    "studies": set(ROOMS),
}
ONLY_IN = {
    "optuna": {"controllers"},
    "ray": {"evaluators"},
    "mlflow": {"studies"},
    "sklearn": {"predictors", "evaluators"},
    "networkx": {"search_space"},
    "click": {"studies"},
    "rich": {"studies"},
    "pandas": {"evaluators"},
}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "benchmarks" not in path.parts]


def imports_of(path):
    """(room of this package or None, top-level module) of every import in a file."""
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield None, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                yield None, module
            elif node.level == depth + 1:
                yield module.split(".")[0] or node.names[0].name, module


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downwards(room):
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == room:
            for other, _ in imports_of(path):
                assert other is None or other == room or other in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_in_their_rooms(library):
    for path in FILES:
        room = path.relative_to(ROOT).parts[0]
        names = {module.split(".")[0] for other, module in imports_of(path) if other is None}
        assert library not in names or room in ONLY_IN[library], f"{path.relative_to(ROOT)} imports {library}"


def test_nothing_imports_a_room_by_its_bare_name():
    files = [
        *FILES,
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "src").glob("archwright/*.py"),
        *(ROOT / "src/archwright/testing").glob("*.py"),
    ]
    for path in files:
        for other, module in imports_of(path):
            assert other is not None or module.split(".")[0] not in ROOMS, (
                f"{path.relative_to(ROOT)} imports {module}; write archwright.{module}"
            )


def test_no_pickle_and_no_unsafe_loading():
    forbidden = re.compile(r"\bpickle\.(load|dump|Pickler|Unpickler\b)|yaml\.load\(|allow_pickle=True|weights_only=False|\beval\(|\bexec\(")
    for path in FILES:
        text = path.read_text()
        found = [match.group() for match in forbidden.finditer(text) if not re.search(r"\.eval\(", text[match.start() - 1 : match.end()])]
        assert not found, f"{path.relative_to(ROOT)}: {found}"
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path.relative_to(ROOT)}: {call}"


def test_the_six_links_are_the_rooms():
    for room in ROOMS:
        assert (ROOT / "src" / "archwright" / room).resolve() == (ROOT / room).resolve()


def test_every_package_says_its_idea_at_the_door():
    for path in FILES:
        if path.name == "__init__.py":
            assert (ast.get_docstring(ast.parse(path.read_text())) or "").strip(), f"{path.relative_to(ROOT)} has no docstring"


def test_modules_stay_readable():
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_pins_cover_the_dependencies():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    wanted = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    names = {re.split(r"[\[<>=; ]", item)[0].lower().replace("_", "-") for item in wanted}
    assert names - pinned == set()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
