"""Which code, and in what surroundings, made a result."""

import os
import platform
import subprocess
from importlib import metadata

from components.base import code
from components.base.code import ROOT
from components.base.variables import CODE_REVISION


def code_revision() -> str:
    """The git commit, `+dirty` when the code that runs is not the code committed.

    An image has no repository: there MURA_CODE_REVISION says it, and without either the digest of the
    sources does.
    """
    if revision := os.environ.get(CODE_REVISION):
        return revision
    if not (ROOT / ".git").exists():
        return f"sources-{code.whole_digest()[:12]}"
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return f"sources-{code.whole_digest()[:12]}"
    changed = git("status", "--porcelain", "--", "components", "requirements", "pyproject.toml")
    return commit if changed == "" else commit + "+dirty"


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
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, encoding="utf-8", errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
