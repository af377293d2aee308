"""A model counts as stored if its files can be fetched and are those that were stored."""

import shutil
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components import tracking
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.tracking import stored_model


def other_network(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, '{"another": "network"}')


def packed(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, "0" * 1_000_000)


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    # In the content of the first member, after its header.
    content[31 + len("config.json")] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "everything gone": (shutil.rmtree, "MLmodel is missing"),
    "no network": (lambda folder: (folder / "data/model.keras").unlink(), "data/model.keras is missing"),
    "no MLmodel": (lambda folder: (folder / "MLmodel").unlink(), "MLmodel is missing"),
    "a torn network": (lambda folder: (folder / "data/model.keras").write_bytes(b"PK"), "damaged"),
    "an empty network": (lambda folder: (folder / "data/model.keras").write_bytes(b""), "damaged"),
    "a rotten network": (lambda folder: flip_a_byte(folder / "data/model.keras"), "damaged"),
    "a packed network": (lambda folder: packed(folder / "data/model.keras"), "claims more than it holds"),
    "a nested MLmodel": (lambda folder: (folder / "MLmodel").write_text("[" * 20_000), "damaged"),
    "a torn MLmodel": (lambda folder: (folder / "MLmodel").write_text("flavors: ["), "damaged"),
    "another kind of model": (lambda folder: (folder / "MLmodel").write_text("flavors: {}"), "names no Keras model"),
}


@pytest.mark.long
@pytest.mark.parametrize("where", ["mlflow_here", "mlflow_server"])
@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE)
def test_damage_to_the_files_is_found(
    where: str,
    damage: Callable[[Path], object],
    told: str,
    request: pytest.FixtureRequest,
    no_mlflow: pytest.MonkeyPatch,
    make_tracked: Callable[[], TrackedRun],
) -> None:
    place = request.getfixturevalue(where)
    if where == "mlflow_server":
        no_mlflow.setenv("MLFLOW_TRACKING_URI", place)
        root = request.getfixturevalue("mlflow_server_files")
    else:
        root = place / "mlruns"
    name = make_tracked().model_uri.removeprefix("models:/")
    client = tracking.connect()
    assert stored_model.fault(client, name) is None
    (folder,) = root.rglob(f"{name}/artifacts")
    damage(folder)
    fault = stored_model.fault(client, name) or ""
    assert told in fault
    assert name in fault


@pytest.mark.parametrize("deleted", ["model", "run"])
def test_what_mlflow_has_deleted_is_not_there(
    deleted: str, mlflow_here: Path, make_tracked: Callable[[], TrackedRun]
) -> None:
    run, client = make_tracked(), tracking.connect()
    name = run.model_uri.removeprefix("models:/")
    if deleted == "model":
        client.delete_logged_model(name)
    else:
        client.delete_run(run.run_id)
    assert "deleted" in (stored_model.fault(client, name) or "")


def test_a_model_that_was_not_stored_to_the_end_is_not_there(mlflow_here: Path) -> None:
    client = tracking.connect()
    run = client.create_run(client.create_experiment(uuid.uuid4().hex))
    logged = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
    assert stored_model.fault(client, logged.model_id) == "it was not stored to the end"


@pytest.mark.long
def test_another_network_in_its_place_is_found(mlflow_here: Path, trained: TrainedModel) -> None:
    client, run = tracking.connect(), tracking.ensure_model(trained)
    (file,) = (mlflow_here / "mlruns").rglob("model.keras")
    other_network(file)
    fault = stored_model.fault(client, run.model_uri.removeprefix("models:/")) or ""
    assert "is not the file that was stored" in fault
    assert tracking.ensure_model(trained) != run


@pytest.mark.long
def test_a_card_that_names_the_logged_model_of_another_network_gets_its_own(
    mlflow_here: Path, trained: TrainedModel, make_model: Callable[..., TrainedModel]
) -> None:
    other = tracking.ensure_model(trained)
    # Another digest, and the run and the address of the network that is there.
    facts = trained.facts.model_copy(update={"seed": 2, "run": other})
    mine = TrainedModel.seal(trained.path, facts)
    assert tracking.ensure_model(mine).model_uri != other.model_uri


def test_a_logged_model_with_other_weights_than_the_card_is_another(
    mlflow_here: Path, make_tracked: Callable[[], TrackedRun]
) -> None:
    client = tracking.connect()
    name = make_tracked().model_uri.removeprefix("models:/")
    mine, other = ({stored_model.WEIGHTS_FILE_SHA256: digits * 32} for digits in ("aa", "bb"))
    client.set_logged_model_tags(name, mine)
    assert stored_model.fault(client, name, known=mine) is None
    assert "another network" in (stored_model.fault(client, name, known=other) or "")
