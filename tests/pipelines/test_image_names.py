"""An image is named by what is in it, and by nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

from components.base import code, provenance
from pipelines.graph import image_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with what makes an image, and a document."""
    for name in ("components/base/errors.py", "requirements/cpu.txt", "README.md", *image_names.RECIPE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for module in (code, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.delenv("MURA_CODE_REVISION", raising=False)
    commit(tmp_path, "init", "--quiet")
    return tmp_path


def commit(folder: Path, *before: str) -> str:
    """Commit all that is there, and return the commit."""
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    if before:
        subprocess.run(["git", "-C", folder, *before], check=True)
    subprocess.run(["git", "-C", folder, "add", "--all"], check=True)
    subprocess.run(["git", "-C", folder, *who, "commit", "--quiet", "--message", "why"], check=True)
    told = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_document_makes_no_other_image(checkout: Path) -> None:
    before = image_names.tag("cpu"), image_names.revision("cpu")
    add(checkout / "README.md", "More.\n")
    add(checkout / "pyproject.toml", "\n[tool.other]\nx = 1\n")
    (checkout / "components/__pycache__").mkdir()
    (checkout / "components/__pycache__/errors.pyc").touch()
    assert image_names.tag("cpu") == before[0]
    (checkout / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    commit(checkout)
    assert (image_names.tag("cpu"), image_names.revision("cpu")) == before


@pytest.mark.parametrize(
    "file", ["components/base/errors.py", "requirements/cpu.txt", "infra/install.sh", "infra/Containerfile"]
)
def test_what_is_in_it_does(file: str, checkout: Path) -> None:
    before = image_names.tag("cpu"), image_names.revision("cpu")
    add(checkout / file, "\n# more\n")
    assert image_names.tag("cpu") != before[0]
    assert image_names.revision("cpu") == f"{before[1]}+dirty"
    assert commit(checkout) == image_names.revision("cpu") != before[1]


def test_a_dependency_that_is_asked_for_does(checkout: Path) -> None:
    before = image_names.tag("cpu")
    text = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(text.replace('"click>=8.2"', '"click>=8.3"'))
    assert image_names.tag("cpu") != before
