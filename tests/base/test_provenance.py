import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.base import code, provenance


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, with our module in it, under git."""
    (tmp_path / "components" / "inner").mkdir(parents=True)
    (tmp_path / "components" / "base").mkdir()
    for module in (code, provenance):
        shutil.copy(module.__file__, tmp_path / "components" / "base")
    (tmp_path / "components" / "__init__.py").write_text("")
    (tmp_path / "components" / "inner" / "step.py").write_text("STEP = 1\n")
    (tmp_path / "README.md").write_text("read\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    git(tmp_path, *who, "commit", "--quiet", "--message=first")
    return tmp_path


def git(project: Path, *words: str) -> str:
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(project), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True, env=surroundings)
    return done.stdout.strip()


def ask(project: Path, function: str = "provenance.code_revision", **environment: str) -> str:
    """What the project's own copy of the module answers."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(project), "PYTHONPATH": str(project)} | environment
    words = [sys.executable, "-c", f"from components.base import code, provenance; print({function}())"]
    done = subprocess.run(words, cwd="/", check=True, capture_output=True, text=True, env=surroundings)
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_revision_is_the_commit(project: Path) -> None:
    assert ask(project) == git(project, "rev-parse", "HEAD")


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda project: (project / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        (write("components/inner/step.py", "STEP = 2\n"), True),
        (write("components/new.py", ""), True),
        (write("pyproject.toml", ""), True),
        (lambda project: (project / "components" / "inner" / "step.py").unlink(), True),
        (write("README.md", "other\n"), False),
        (write("params.yaml", "seed: 2\n"), False),
    ],
    ids=["changed", "new", "project file", "deleted", "read me", "parameters"],
)
def test_code_that_is_not_committed_is_dirty_and_nothing_else_is(
    project: Path, change: Callable[[Path], object], dirty: bool
) -> None:
    change(project)
    assert ask(project) == git(project, "rev-parse", "HEAD") + ("+dirty" if dirty else "")


def test_an_image_says_its_revision_itself(project: Path) -> None:
    assert ask(project, MURA_CODE_REVISION="abc123") == "abc123"


@pytest.mark.parametrize("lacking", ["repository", "git", "commit"])
def test_without_a_commit_the_sources_speak(project: Path, tmp_path: Path, lacking: str) -> None:
    if lacking != "git":
        shutil.rmtree(project / ".git")
    if lacking == "commit":
        git(project, "init", "--quiet")
    said = ask(project, PATH="/nowhere") if lacking == "git" else ask(project)
    assert re.fullmatch("sources-[0-9a-f]{12}", said)
    assert said == f"sources-{ask(project, 'code.whole_digest')[:12]}"


def test_the_digest_of_the_sources_is_that_of_names_and_contents(project: Path) -> None:
    step = project / "components" / "inner" / "step.py"
    digests = [ask(project, "code.whole_digest")]
    (project / "README.md").write_text("other")
    assert ask(project, "code.whole_digest") == digests[0]
    step.write_text("STEP = 3\n")
    digests.append(ask(project, "code.whole_digest"))
    step.rename(step.with_name("other.py"))
    digests.append(ask(project, "code.whole_digest"))
    assert len(set(digests)) == 3


def test_the_environment_names_versions_but_neither_host_nor_user() -> None:
    said = provenance.environment()
    assert said["python"] == platform.python_version()
    assert {"keras", "numpy", "mlflow", "machine"} <= set(said)
    assert all(said.values())
    private = {socket.gethostname(), platform.node(), str(Path.home())}
    assert not private & set(said.values())
