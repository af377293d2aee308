"""Promotions at the same time, and commands that are killed: one champion, and a whole record that says how."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import hollow_predictor
from decided import ALIAS
from servers import free_port

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.promote.decision import decide
from components.tracking import audit, audit_alias, model_registry
from components.tracking.server import experiment_id
from components.tracking.version_list import versions
from infra import server

ROOT = Path(__file__).parents[2]
# It starts PostgreSQL, S3 and MLflow, on cores that other tests use too.
pytestmark = [pytest.mark.longest, pytest.mark.timeout(1200)]

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def running(no_mlflow: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own, in which one stands, and the empty server on PostgreSQL and S3 that is used there."""
    folder = Path(tempfile.mkdtemp(prefix="mura-decided-"))
    # The user of PostgreSQL passes through.
    folder.chmod(0o711)
    for name in [name for name in os.environ if name.startswith(("AWS_", "PG"))]:
        no_mlflow.delenv(name)
    no_mlflow.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    no_mlflow.chdir(folder)
    shutil.copy(ROOT / "params.yaml", folder)
    with server.serving(folder / "server", server.Ports(free_port(), free_port(), free_port())) as made:
        for name, value in made.environment("promoter").items():
            no_mlflow.setenv(name, value)
        no_mlflow.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
        no_mlflow.setenv("MURA_PATIENCE", "120")
        yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(running: Path) -> Iterator[Run]:
    """Runs commands at once: `run(["promote", "--candidate", "1"], kill=3)`."""
    command = [sys.executable, "-m", "tests.killed_commands"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with (running / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )

    def ask(*commands: list[str], kill: int = 0) -> list[dict[str, Any]]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([{"words": words, "kill": kill} for words in commands]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, (running / "log").read_text()
        return list(json.loads(line))

    yield ask
    with process:
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def words_of(
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    tmp_path: Path,
) -> Callable[[float], list[str]]:
    """The command that registers a model with an AUROC. Its signed predictor is there: kills count what follows."""

    def make(auroc: float) -> list[str]:
        name = f"net{round(auroc * 1000)}"
        model = make_model("vgg16", weights=name.encode(), candidate=name)
        evaluation = make_evaluation(model, auroc, test_digest="7e" * 32)
        client = tracking.connect()
        run_id = client.create_run(experiment_id(client)).info.run_id
        made = hollow_predictor("mura", model, evaluation, run_id, tmp_path / "signed")
        return ["register", str(model.path), str(evaluation.path), made.run_id, made.model_uri]

    return make


def held() -> dict[str, int]:
    """The aliases in the registry."""
    return {alias: number for number, names in model_registry.aliases("mura").items() for alias in names}


def check_record() -> tuple[audit.Entry, ...]:
    """The record is whole, the aliases follow it, and its questions have its answers."""
    found = audit.look("mura").whole()
    assert held()[ALIAS] == found.champion(ALIAS)
    assert not {each.number for each in found.moves(ALIAS)} & found.unmoved
    for each in found.entries:
        assert each.question is not None
        assert decide(each.question) == each.decision
    return found.entries


def test_of_twenty_promotions_at_once_the_best_holds_the_alias(
    run: Run, words_of: Callable[[float], list[str]]
) -> None:
    aurocs = [round(0.7 + 0.012 * number, 3) for number in range(20)]
    # Not in the order of their numbers.
    shuffled = aurocs[1::2] + aurocs[::2]
    for auroc in shuffled:
        run(words_of(auroc))
    number_of = {f"net{round(auroc * 1000)}": number + 1 for number, auroc in enumerate(shuffled)}
    best = number_of[f"net{round(aurocs[-1] * 1000)}"]
    found = run(*(["promote", "--candidate", str(number + 1), "--json"] for number in range(20)))
    assert {each["code"] for each in found} <= {0, 4}, found
    entries = check_record()
    assert held()[ALIAS] == best
    assert len(entries) == 20
    # Each says what the record says of it, in the record's order.
    said = {answer["entry"]: answer for answer in (json.loads(each["out"]) for each in found)}
    assert sorted(said) == [each.number for each in entries]
    champion = None
    for each in entries:
        assert (said[each.number]["outcome"], said[each.number]["champion"]) == (each.action, each.after)
        assert each.before == champion
        champion = each.after


def test_what_is_killed_between_any_two_requests_is_repaired_by_running_again(
    run: Run, words_of: Callable[[float], list[str]]
) -> None:
    (first,) = run(words_of(0.7))
    (promoted,) = run(["promote", "--candidate", "1", "--json"])
    assert (first["code"], promoted["code"]) == (0, 0), (first, promoted)
    kills = 0
    for number in range(1, 11):
        register = words_of(round(0.7 + 0.02 * number, 3))
        version = str(number + 1)
        promote = ["promote", "--candidate", version, "--json"]
        back = ["rollback", "--reason", f"try {number}", "--json"]
        for words in (register, promote, back):
            (killed,) = run(words, kill=number)
            kills += killed["code"] == -9
            (again,) = run(words)
            assert again["code"] == 0, again
        assert len(versions("mura")) == number + 1
        entries = check_record()
        assert [each.action for each in entries[-2:]] == ["promoted", "rolled back"]
        assert len(entries) == 1 + 2 * number
        assert held() == {ALIAS: 1, audit_alias.PREVIOUS: number + 1}
        assert audit_alias.standing("mura", ALIAS).gone is None
    assert kills >= 20
