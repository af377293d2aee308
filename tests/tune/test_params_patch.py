"""The best values in params.yaml: comments stay, `git apply` takes the patch, DVC sees the change."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.base.errors import UsageError
from components.params.document import read_params
from components.tune import params_patch

ROOT = Path(__file__).parents[2]
DVC = Path(sys.executable).with_name("dvc")


def at(path: Path, *words: str, given: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT")}
    done = subprocess.run(words, cwd=path, env=environment, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("entry", "after"),
    [
        ("a: {architecture: vgg16, dropout: 0.2}", "a: {architecture: vgg16, dropout: 0.25, batch_size: 32}"),
        ("a: {architecture: vgg16}  # why", "a: {architecture: vgg16, dropout: 0.25, batch_size: 32}  # why"),
        (
            "a:\n      # first\n      architecture: vgg16\n      dropout: 0.2  # why",
            "a:\n      # first\n      batch_size: 32\n      architecture: vgg16\n      dropout: 0.25  # why",
        ),
        ("a: {\n  architecture: 'vgg16',\n  }", "a: {\n  architecture: 'vgg16', dropout: 0.25, batch_size: 32,\n  }"),
    ],
)  # fmt: skip
def test_everything_else_stays_as_it_is(entry: str, after: str) -> None:
    head, tail = "# top\ntrain:\n  default: {}\n  candidates:\n    ", "\n    b: {architecture: vgg19}\n# end"
    values = {"dropout": 0.25, "batch_size": 32}
    assert params_patch.patched(head + entry + tail, "a", values, "params.yaml") == head + after + tail


def test_a_small_number_is_read_as_a_number_again() -> None:
    text = "train: {candidates: {a: {architecture: vgg16}}}\n"
    made = params_patch.patched(text, "a", {"learning_rate": 1e-5, "flip": False, "class_weighting": "none"}, "p")
    entry = {"architecture": "vgg16", "learning_rate": 1e-5, "flip": False, "class_weighting": "none"}
    assert yaml.safe_load(made)["train"]["candidates"]["a"] == entry


@pytest.mark.parametrize("entry", ["a:", "a: *b", "a: {}"])
def test_an_entry_that_cannot_be_changed_safely_is_left_to_a_person(entry: str) -> None:
    text = f"train:\n  candidates:\n    b: &b {{architecture: vgg16}}\n    {entry}\n"
    with pytest.raises(UsageError, match=r"^params.yaml: train.candidates.a .*set by hand dropout: 0.1\.$"):
        params_patch.patched(text, "a", {"dropout": 0.1}, "params.yaml")


@pytest.mark.long
@pytest.mark.parametrize("end", ["\n", ""])
def test_git_applies_the_patch_and_dvc_sees_the_change(tmp_path: Path, end: str) -> None:
    file = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text().removesuffix("\n") + end
    file.write_text(before)
    after = params_patch.patched(before, "custom_cnn", {"dropout": 0.35, "learning_rate": 0.00025}, "params.yaml")
    at(tmp_path, "git", "init", "--quiet")
    at(tmp_path, "git", "apply", given=params_patch.patch(before, after, file))
    assert file.read_text() == after
    found = read_params(file).train.candidates["custom_cnn"]
    assert (found.dropout, found.learning_rate, found.rotation) == (0.35, 0.00025, 30.0)
    if end:
        file.write_text(before)
        at(tmp_path, str(DVC), "init", "--quiet")
        at(tmp_path, "git", "add", "-A")
        at(tmp_path, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "before")
        file.write_text(after)
        seen = json.loads(at(tmp_path, str(DVC), "params", "diff", "--targets", "params.yaml", "--json"))
        dropout, rate = (f"train.candidates.custom_cnn.{name}" for name in ("dropout", "learning_rate"))
        assert seen["params.yaml"].keys() == {dropout, rate}
