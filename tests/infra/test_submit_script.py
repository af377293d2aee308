"""The script that starts a Slurm array, with a program in the place of sbatch."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra/slurm/submit.sh"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    settings = tmp_path / "artifacts" / "settings" / "train"
    settings.mkdir(parents=True)
    (settings / "vgg16.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho submitted\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    return tmp_path


def submit(here: Path) -> None:
    path = f"{here / 'bin'}:/usr/bin:/bin"
    command = [str(SCRIPT), "runs/first"]
    done = subprocess.run(command, cwd=here, env={"PATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "submitted\n"), done.stderr


def stamps(folder: Path) -> list[tuple[str, int, int]]:
    found = [folder, *sorted(folder.rglob("*"))]
    return [(path.name, path.stat().st_ino, path.stat().st_ctime_ns) for path in found]


def test_settings_that_tasks_at_work_compare_are_left_alone_if_they_are_the_same(here: Path) -> None:
    submit(here)
    before = stamps(here / "runs/first/settings")
    submit(here)
    assert stamps(here / "runs/first/settings") == before


def test_other_settings_are_taken_and_nothing_else_is_left(here: Path) -> None:
    submit(here)
    file = here / "artifacts/settings/train/vgg16.json"
    file.write_text('{"other": 1}')
    (here / "runs/first/.settings.partial").mkdir()
    submit(here)
    assert (here / "runs/first/settings/train/vgg16.json").read_text() == file.read_text()
    assert sorted(path.name for path in (here / "runs/first").iterdir()) == ["logs", "settings"]
