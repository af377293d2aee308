"""A server with users: who may not write is told so in one line, and a promoter needs no administrator."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from before_the_gate import register_as_before
from decided import ALIAS, put
from servers import free_port, wait_for

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ExitCode, ServiceRefused, UsageError
from components.params.register import RegisterParams
from components.promote.taking_back import take_back
from components.register import register
from components.register.adoption import adopt
from components.tracking import audit, model_registry, run
from components.tracking.run import Description
from infra import users

# A server with two processes, on cores that other tests use too.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
PARAMS = RegisterParams(model="mura")
PASSWORD = "only-for-these-tests"
DESCRIPTION = Description("small", "custom_cnn", {"epochs": 1}, {})
As = Callable[[str], None]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's server with logins, as `make server` starts it, on SQLite."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    database = f"sqlite:///{folder}/mlflow.db"
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # As infra/server.py has it: without, the server spends its time on passwords.
        "auth_cache_ttl_seconds = 60\n"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", database]
    command += ["--artifacts-destination", f"{folder}/artifacts"]
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": f"{folder}/auth.ini",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", server, 600)
        logins = [users.Login(user, PASSWORD) for user in ("reader", "promoter")]
        users.ensure(address, users.Login("admin", PASSWORD), logins)
        # Again: what is there stays.
        users.ensure(address, users.Login("admin", PASSWORD), logins)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(120)


@pytest.fixture
def log_in(guarded: str, no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> As:
    """Be another user of that server from now on."""
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", guarded)
    # The server shares the cores with other tests.
    no_mlflow.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    no_mlflow.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    (tmp_path / "out").mkdir()
    return lambda user: no_mlflow.setenv("MLFLOW_TRACKING_USERNAME", user)


def refused(doing: str) -> "pytest.RaisesExc[ServiceRefused]":
    return pytest.raises(
        ServiceRefused,
        match=rf"^MLflow at http://\S+ does not let the user reader do this: {doing}\. Ask whoever .* EDIT.*$",
    )


def test_a_reader_who_registers_is_told_who_he_is_and_whom_to_ask(
    log_in: As, tmp_path: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    log_in("reader")
    model = make_model("vgg16")
    with refused("writing to the experiment") as told:
        register([model], [make_evaluation(model)], PARAMS, tmp_path / "out")
    assert told.value.exit_code == ExitCode.OUTSIDE
    assert "\n" not in str(told.value)


def test_a_reader_does_not_begin_a_training(log_in: As) -> None:
    log_in("reader")
    with refused("writing to the experiment"), run.training_run(DESCRIPTION):
        pass


def test_a_reader_reads_and_moves_no_alias_and_a_promoter_does(
    log_in: As,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    log_in("promoter")
    model = make_model("vgg16", run=make_tracked())
    (version,) = register([model], [make_evaluation(model)], PARAMS, tmp_path / "out").facts.versions
    model_registry.set_alias(version, "first")
    log_in("reader")
    with refused(f"giving the alias first to mura version {version.version}"):
        model_registry.set_alias(version, "first")
    assert model_registry.champion("mura", "first") == version


def test_a_reader_neither_promotes_nor_takes_back_and_a_promoter_does(
    log_in: As,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    def held() -> int | None:
        found = model_registry.champion("mura", ALIAS)
        return found.version if found else None

    log_in("promoter")
    versions = []
    for auroc in (0.8, 0.9):
        model = make_model("vgg16", weights=str(auroc).encode())
        evaluation = make_evaluation(model, auroc, test_digest="7e" * 32)
        versions.append(register_hollow("mura", model, evaluation, make_tracked()))
    # The reader has a key that everybody trusts: what stops him is the server.
    log_in("reader")
    with refused("writing into mura-audit"):
        put(versions[0])
    assert held() is None
    assert not audit.look("mura").last
    log_in("promoter")
    for version in versions:
        assert put(version).decision.outcome == "promoted"
    log_in("reader")
    for command in (lambda: put(versions[0]), lambda: take_back("mura", ALIAS, None, "not good")):
        with refused("writing into mura-audit"):
            command()
    assert held() == versions[1].version
    log_in("promoter")
    taken = take_back("mura", ALIAS, None, "wrong on elbows")
    assert (taken.entry is not None and taken.entry.who) == "promoter"
    assert held() == versions[0].version
    assert [each.action for each in audit.look("mura").whole().entries] == ["promoted", "promoted", "rolled back"]


def test_a_reader_adopts_nothing(
    log_in: As,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    log_in("promoter")
    model = make_model("vgg16", run=make_tracked())
    evaluation = make_evaluation(model)
    number = register_as_before(model, evaluation)
    log_in("reader")
    with refused("registering vgg16"):
        adopt(f"models:/mura/{number}", [model.path], [evaluation.path])


@pytest.mark.longest
def test_a_promoter_registers_a_model_that_another_server_knows(
    log_in: As,
    tmp_path: Path,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
) -> None:
    log_in("promoter")
    assert trained.facts.run.run_id
    (version,) = register([trained], [make_evaluation(trained)], PARAMS, tmp_path / "out").facts.versions
    assert model_registry.fault(version) is None
    assert version.run_id != trained.facts.run.run_id


def test_a_training_that_another_server_knows_goes_on_in_a_new_run(log_in: As) -> None:
    log_in("promoter")
    with run.training_run(DESCRIPTION, run_id="0" * 32) as begun:
        assert begun.run_id not in ("", "0" * 32)


def test_what_there_is_not_is_no_error(log_in: As) -> None:
    log_in("reader")
    assert model_registry.version("nothing", 1) is None
    assert model_registry.version("mura", 999) is None
    assert model_registry.champion("nothing", "champion") is None


def test_a_parent_that_is_not_shown_is_told(log_in: As, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in("promoter")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(UsageError, match="has no such run for this user"), run.training_run(DESCRIPTION):
        pass


def test_a_wrong_password_is_told_and_not_repeated(log_in: As, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in("promoter")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
    with pytest.raises(ServiceRefused, match=r"denied access.*MLFLOW_TRACKING_PASSWORD") as told:
        tracking.connect()
    assert "another" not in str(told.value)
