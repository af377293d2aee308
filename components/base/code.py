"""Which code can change the result of a step: its files, and one digest over them.

DVC's stages depend on this digest, Kubeflow's cache compares it, and checkpoints carry it. It covers the modules that a
step imports and the templates beside them, without comments and docstrings. `NO_EFFECT` names what is left out.
"""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATES = (".html", ".j2")

ALL = "every step"
# Modules (with all below them) that cannot change a result, by the step they are left out of, and why.
# What only such a module imports is left out too.
NO_EFFECT: Mapping[str, Mapping[str, str]] = {
    ALL: {
        "components.base.code": "computes this digest",
        "components.base.errors": "texts and exit codes of errors",
        "components.base.patience": "waits for services",
        "components.base.progress": "bars and log lines",
        "components.base.provenance": "describes the run on the card",
        "components.base.space": "refuses a write that cannot fit, and says which disk is full",
        "components.base.step": "declares flags of the command line",
        "components.base.terminal": "prints",
        "components.base.console": "prints",
        "components.archive.s3": "fetches bytes; every answer is checked against the object's version",
    },
    "components.train": {
        "components.tracking": "reports to MLflow; training reads nothing back but the run's id",
        "components.kubeflow": "tells Kubeflow how far a training is",
        "components.train.meeting": "waits for the other workers",
        "components.train.termination": "ends a training between two epochs",
        "components.train.mirror": "copies checkpoints byte for byte",
    },
}


def digest(module: str) -> str:
    """sha256, hex, over everything that can change the result of a step.

    Args:
        module: dotted name of the step's package, such as `components.train`.
    """
    return _digest(files(module))


def whole_digest() -> str:
    """sha256, hex, over all modules and templates of the steps, also those that change no result."""
    found = (path for path in (ROOT / "components").rglob("*") if path.suffix in (".py", *TEMPLATES))
    return _digest({_name(path): _sha256(path.read_bytes()) for path in found})


def files(module: str) -> dict[str, str]:
    """The files behind `digest`, each with the sha256 of what counts of it.

    Imports inside functions count, imports for type checking do not.

    Args:
        module: dotted name of the step's package.

    Returns:
        By path from the project's root, ascending.
    """
    without = set(NO_EFFECT[ALL]) | set(NO_EFFECT.get(module, {}))
    found: set[Path] = set()
    new: Set[Path] = _files_of(module, without)
    while new:
        found |= new
        new = {
            file
            for path in new
            for name in _imports(path.read_text(encoding="utf-8"))
            for file in _files_of(name, without)
        } - found
    beside = {other for path in found for other in path.parent.iterdir() if other.suffix in TEMPLATES}
    return {_name(path): _content_digest(path) for path in sorted(found | beside)}


def _digest(named: Mapping[str, str]) -> str:
    return _sha256(json.dumps(sorted(named.items())).encode())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _content_digest(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return _sha256((_bare(text) if path.suffix == ".py" else text).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def _bare(source: str) -> str:
    """Python without comments, docstrings, empty lines and the descriptions of pydantic's fields."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    verbatim: set[int] = set()
    alone: set[ast.expr] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _is_text(node.value):
            # A string that stands alone: a docstring, or one below an attribute.
            alone.add(node.value)
            _blank(lines, node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
            for keyword in node.keywords:
                if keyword.arg == "description":
                    _blank(lines, keyword)
        elif isinstance(node, ast.expr) and _is_text(node) and node not in alone:
            verbatim |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = enumerate(lines, 1)
    return "\n".join(
        line if row in verbatim else line.rstrip() for row, line in numbered if line.strip() or row in verbatim
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _blank(lines: list[str], node: ast.Expr | ast.keyword) -> None:
    """Remove the text of a node; columns count bytes of UTF-8."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset :].decode()
    lines[first : last + 1] = [before] + [""] * (last - first)
    lines[last] += after


@cache
def _imports(source: str) -> frozenset[str]:
    """Dotted names that a module imports, anywhere in it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _files_of(name: str, without: set[str]) -> frozenset[Path]:
    """The files that importing a dotted name of the project runs: its own and its packages'."""
    parts = name.split(".")
    above = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return _all_files_of(ROOT, name) if parts[0] == "components" and not above & without else frozenset()


@cache
def _all_files_of(root: Path, name: str) -> frozenset[Path]:
    parts = name.split(".")
    bases = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    found = {base / "__init__.py" for base in bases} | {base.with_suffix(".py") for base in bases}
    return frozenset(file for file in found if file.is_file())
