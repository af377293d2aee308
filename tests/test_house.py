"""The plan of the house: which room may import which, what names mean, how long a function may be."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from components.base.step import ANALYSES, STEPS

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("components", "pipelines")
    for path in (ROOT / package).rglob("*.py")
}
EVERY = (*STEPS, *ANALYSES)
# From the ground up: a room imports rooms of its own floor and below.
FLOORS = (
    ("base",),
    ("params", "artifacts", "signing"),
    ("archive", "xray", "phantom", "network", "scores", "pages", "golden", "tracking", "kubeflow"),
    # Brings the floor below together: an archive of somebody's own files.
    ("own_data",),
    EVERY,
    # Commands of their own: one trains as `train` does, the other answers as `evaluate` does. They are no steps.
    ("tune", "predict"),
    # It asks as `predict` does, and measures as `evaluate` does.
    ("external",),
    # Answers as `predict` does, over HTTP.
    ("serve",),
    ("cli",),
)
# What may be imported in one room only.
LIBRARIES = {
    "mlflow": "tracking",
    "great_expectations": "validate",
    "kfp": "pipelines",
    "optuna": "tune",
    "pydicom": "xray",
    "fastapi": "serve",
    "uvicorn": "serve",
    "model_signing": "signing",
    "cryptography": "signing",
}
# The same name in several rooms, with one meaning: the page of a step, a step or tool and its section of params.yaml, a
# predictor and its card.
SHARED_NAMES = {"page", *EVERY, "kubeflow", "phantom", "predictor", "tune"}
LONGEST, MOST_PARAMETERS = 60, 6


@cache
def imported(path: Path) -> set[str]:
    """Dotted names that a module imports when it runs, anywhere in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return names


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    return "pipelines" if package == "pipelines" else rest.partition(".")[0]


def floor(name: str) -> int:
    if name == "pipelines":
        return len(FLOORS)
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


EDGES = {
    (room(module), room(other))
    for module, path in MODULES.items()
    for other in imported(path) & set(MODULES)
    if room(module) and room(other) and room(module) != room(other)
}


def test_every_room_has_its_floor_and_is_explained() -> None:
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            assert room(module) == "" or floor(room(module)) >= 0
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert len(text) > 20, f"{module}: its docstring does not say what is in it"


def test_rooms_import_downwards() -> None:
    for one, other in EDGES:
        assert floor(other) <= floor(one), f"{one} imports {other}"
        assert not (one in EVERY and other in EVERY), f"step {one} imports step {other}"


def test_no_room_imports_itself_by_way_of_others() -> None:
    below = defaultdict(set)
    for one, other in EDGES:
        below[one].add(other)

    def reach(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        for other in below[name]:
            reach(other, (*way, name))

    for name in list(below):
        reach(name, ())


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_a_constant_has_one_value(path: Path) -> None:
    """ruff passes over a second one."""
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [each for node in assigned for each in getattr(node, "targets", None) or [getattr(node, "target", None)]]
    names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


@pytest.mark.parametrize(("library", "only"), LIBRARIES.items())
def test_a_library_is_imported_in_its_room_only(library: str, only: str) -> None:
    rooms = {room(m) for m, path in MODULES.items() if any(n.partition(".")[0] == library for n in imported(path))}
    assert rooms == {only}


def test_everything_is_printed_harmless() -> None:
    """Names and answers of others do not reach the terminal as they are."""
    # Bars have words of our own only.
    excepted = {f"components.base.{name}" for name in ("terminal", "console", "progress")}
    printing = re.compile(
        r"^ *(?:print|click\.s?echo|sys\.std(?:out|err)\.write)\(.*|from rich\.(?:console|markup) .*", re.M
    )
    for module, path in MODULES.items():
        found = printing.findall(path.read_text().partition("__main__")[0]) if module not in excepted else []
        # YAML, for a file.
        assert [line.strip() for line in found if "click.echo(text, nl=False)" not in line] == [], module


def test_a_name_means_one_thing() -> None:
    places = defaultdict(list)
    for module in MODULES:
        above, _, name = module.rpartition(".")
        # The main module of a room may have the name of the room.
        if above.rpartition(".")[2] != name:
            places[name].append(module)
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED_NAMES}
    assert not twice


@cache
def functions() -> list[tuple[str, ast.FunctionDef, str]]:
    return list(_functions())


def _functions() -> Iterator[tuple[str, ast.FunctionDef, str]]:
    for module, path in MODULES.items():
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield f"{module}.{node.name}", node, lines[node.lineno - 2] + lines[node.lineno - 1]


def test_functions_fit_the_eye_or_say_why_not() -> None:
    for name, node, around in functions():
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= LONGEST or "# Long:" in around, f"{name} has {length} lines"


def test_functions_take_few_parameters_or_say_why_not() -> None:
    for name, node, around in functions():
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(each.arg not in ("self", "cls") for each in given)
        assert count <= MOST_PARAMETERS or "# Parameters:" in around, f"{name} takes {count} parameters"


def test_tests_mirror_the_rooms() -> None:
    rooms = {room(module) for module in MODULES} - {""}
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert tested - {"browser", "container", "fuzz", "infra", "slurm"} <= rooms
    assert rooms - {"base"} <= tested | {"base"}


def test_no_test_is_skipped() -> None:
    skips = {"skip", "skipif", "importorskip", "xfail"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in skips and ast.unparse(node).startswith("pytest.")
    ]
    assert not found
