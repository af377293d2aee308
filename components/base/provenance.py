"""Which code, and in what surroundings, made a result."""

import ast
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def code_revision() -> str:
    """The git commit, `+dirty` when the code that runs is not the code committed.

    An image has no repository: there MURA_CODE_REVISION says it, and without either the digest of the
    sources does.
    """
    if revision := os.environ.get("MURA_CODE_REVISION"):
        return revision
    if not (ROOT / ".git").exists():
        return f"sources-{code_digest()[:12]}"
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return f"sources-{code_digest()[:12]}"
    changed = git("status", "--porcelain", "--", "components", "requirements", "pyproject.toml")
    return commit if changed == "" else commit + "+dirty"


def code_digest(module: str | None = None) -> str:
    """sha256 over the sources that a module runs: its own and those it imports, of this project; or over all."""
    digest = hashlib.sha256()
    for path in sorted(sources(module) if module else (ROOT / "components").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def sources(module: str) -> set[Path]:
    """The project's files that importing and running a module reads: modules, their packages, theirs in turn.

    Imports for type checking only do not count; imports inside functions do.

    Args:
        module: dotted name, as `components.train`.
    """
    found: set[Path] = set()
    new = _files_of(module)
    while new:
        found |= new
        new = {file for path in new for name in _imports(path) for file in _files_of(name)} - found
    return found


def _imports(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _files_of(name: str) -> set[Path]:
    """The files that importing a dotted name of the project runs: its own and its packages'."""
    parts = name.split(".")
    if parts[0] != "components":
        return set()
    bases = [ROOT.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = {base / "__init__.py" for base in bases} | {base.with_suffix(".py") for base in bases}
    return {file for file in files if file.is_file()}


def environment() -> dict[str, str]:
    """Versions that a result may depend on. No host name, no user."""
    packages = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "mlflow", "opencv-python-headless")
    found = {name: _version(name) for name in packages}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version for name, version in found.items() if version},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git(*words: str) -> str | None:
    """What git says in this repository; None if it says no, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
