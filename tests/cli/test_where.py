"""The place where `mura` runs: its settings, its paths, its disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import locales
import miniature
import pytest

from components.cli import main

ROOT = Path(__file__).parents[2]


def mura(*words: str | Path, cwd: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `mura` in a process of its own, with these variables and no others."""
    command = [sys.executable, "-c", "from components.cli.main import main; main()", *map(str, words)]
    named = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=named | settings, capture_output=True, encoding="utf-8", timeout=200)


def digest(out: Path) -> str:
    return str(json.loads((out / "card.json").read_text(encoding="utf-8"))["digest"])


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {
            "PYTHONHASHSEED": "7",
            "PYTHONWARNINGS": "error",
            "TZ": "Pacific/Auckland",
            "NPY_DISABLE_CPU_FEATURES": "AVX2",
        },
        {**locales.ASCII_ONLY, "OPENCV_CPU_DISABLE": "AVX2"},
    ],
)
def test_settings_from_outside_change_no_manifest(settings: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "é #2 (1)"
    folder.mkdir()
    archive = miniature.write_zip(folder / "MURA é.zip", miniature.archive(miniature.images(14, 7)))
    expected = miniature.manifest(archive, tmp_path / "here")
    words = ("ingest", "--archive", archive, "--params", '{"tuning_fraction": 0.25}', "--seed", "1", "--out", "out")
    done = mura(*words, cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    assert digest(folder / "out") == expected.digest


def test_the_list_of_commands_is_whole_and_imports_no_choices(tmp_path: Path) -> None:
    look = "import sys; from components.cli import main; main.run(['--help']); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    told = " ".join(done.stdout.split())
    for name in main.mura.list_commands(click.Context(main.mura)):
        command = main.mura.get_command(click.Context(main.mura), name)
        assert command is not None
        assert f" {name} {' '.join((command.help or '').split(chr(10) * 2)[0].split())}" in told
    assert done.stdout.splitlines()[-1] == "False"
