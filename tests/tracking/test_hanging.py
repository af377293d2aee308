"""Files of a real server behind something that hangs: nothing of ours waits for them longer than its patience."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMIT
from mlflow_way import FILES, Way, open_way

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel, Registration, RegistrationFacts
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ServiceUnreachable
from components.cli import doctor_mlflow
from components.tracking import mlflow_settings

pytestmark = pytest.mark.long

MURA = Path(sys.executable).with_name("mura")
MULTIPART = ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")


@pytest.fixture
def way(mlflow_server: str, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Iterator[Way]:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MURA_PATIENCE", "1")
    # Longer than the test may take: our patience ends it, not MLflow's.
    no_mlflow.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    for name in MULTIPART:
        no_mlflow.delenv(name, raising=False)
    with open_way(mlflow_server) as way:
        no_mlflow.setenv("MLFLOW_TRACKING_URI", way.address)
        yield way


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/bucket/key"


def training() -> Any:
    return tracking.training_run(tracking.Description("wide", "vgg16", {}, {"code_revision": COMMIT}))


def problem() -> str:
    (found,) = (check for check in doctor_mlflow.examine() if check.subject == "MLflow")
    assert found.problem is not None
    assert found.problem.exit_code == 5
    return found.found


@pytest.mark.parametrize(("request_", "doing"), [("PUT", "storing"), ("GET", "fetching")])
def test_the_doctor_says_what_hangs(way: Way, request_: str, doing: str) -> None:
    way.hangs = re.compile(rf"^{request_} .*{FILES}")
    assert f"hangs while {doing} a small file: nothing moved for 1 s" in problem()


def test_a_store_that_never_deletes_is_no_problem(way: Way) -> None:
    way.hangs = re.compile(rf"^DELETE .*{FILES}")
    (found,) = doctor_mlflow.examine()
    assert found.problem is None


def test_a_training_does_not_begin_where_files_hang(way: Way) -> None:
    way.hangs = re.compile(rf"^GET .*{FILES}")
    with pytest.raises(ServiceUnreachable, match="hangs while fetching a small file"), training():
        pytest.fail("the training began")


def test_a_file_that_the_server_never_takes_is_told(way: Way, tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("epoch\n")
    with training() as run:
        way.hangs = re.compile(rf"^PUT .*{FILES}")
        with pytest.raises(ServiceUnreachable, match=r"hangs while storing curves\.csv"):
            run.log_file(tmp_path / "curves.csv")


def test_a_model_that_never_arrives_is_told(
    way: Way, make_model: Callable[..., TrainedModel], make_tracked: Callable[[], TrackedRun]
) -> None:
    model = make_model(run=make_tracked())
    way.hangs = re.compile(rf"^GET .*{FILES}.*model\.keras")
    with pytest.raises(ServiceUnreachable, match="hangs while fetching the model"):
        tracking.ensure_model(model)


def test_a_report_that_the_server_never_takes_is_told(
    way: Way,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
    make_evaluation: Callable[..., Evaluation],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    model, run = make_model(), make_tracked()
    # The one beside the run, not that in the signed predictor.
    way.hangs = re.compile(rf"^PUT .*{FILES}.*/{run.run_id}/.*report\.html")
    with pytest.raises(ServiceUnreachable, match="hangs while storing the report"):
        register_hollow("hung", model, make_evaluation(model), run)


def test_a_step_that_gave_up_ends_at_once(
    way: Way,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_tracked: Callable[[], TrackedRun],
    make_evaluation: Callable[..., Evaluation],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    """MLflow's own threads would wait for ten minutes."""
    model = make_model()
    version = register_hollow("hung-promotion", model, make_evaluation(model), make_tracked())
    (tmp_path / "registration").mkdir()
    Registration.seal(tmp_path / "registration", RegistrationFacts(versions=(version,)))
    way.hangs = re.compile(rf"^GET .*{FILES}.*model\.keras")
    words = ["promote", "--registration", "registration", "--params", json.dumps(PROMOTE), "--out", "promotion"]
    done = subprocess.run([MURA, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 5, done.stderr
    assert "hangs while fetching the model" in done.stderr


PROMOTE = {"alias": "champion"}


# Addresses of the store, offered in place of files.


def test_an_offer_of_the_store_s_own_address_is_not_taken(way: Way, nowhere: str, tmp_path: Path) -> None:
    way.offers = nowhere
    (found,) = doctor_mlflow.examine()
    assert found.problem is None
    assert way.offered == []


def test_who_wants_the_offer_is_told_that_it_hangs(way: Way, nowhere: str, no_mlflow: pytest.MonkeyPatch) -> None:
    way.offers = nowhere
    no_mlflow.setenv(MULTIPART[0], "true")
    told = problem()
    assert "hangs while fetching a small file" in told
    assert f"{MULTIPART[0]}=false" in told


@pytest.mark.parametrize("name", MULTIPART)
def test_the_user_s_own_word_on_offers_is_kept(name: str, no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv(name, "true")
    mlflow_settings.apply()
    with pytest.MonkeyPatch.context() as patch:
        assert os.environ[name] == "true"
        patch.delenv(name)
        mlflow_settings.apply()
        assert os.environ[name] == "false"
