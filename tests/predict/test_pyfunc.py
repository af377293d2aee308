# ruff: noqa: F401, F811 - fixtures that are imported
"""A registered version as a directory, and as a model of MLflow: tables with pictures in, verdicts out."""

import base64
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import requests
from radiographs import radiograph, written
from registered import Registered
from servers import free_port, wait_for
from test_predict import Mura, here, lines, mura

from components.artifacts import predictor
from components.artifacts.predictor import Version
from components.base.errors import DataRefused, ExitCode, UsageError
from components.predict import pyfunc
from components.predict.predictor import Predictor
from components.tracking import model_registry
from components.xray import picture

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fetched(registered: Registered) -> Path:
    """The champion, fetched."""
    from components.predict import fetching

    folder = registered.folder / "fetched"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.folder}/mlflow.db")
        assert fetching.fetch("models:/mura@champion", folder).version == 1
    return folder


@pytest.fixture(scope="module")
def table(registered: Registered) -> pd.DataFrame:
    """The studies of both splits with their pictures, and what `mura evaluate` gave."""
    studies = registered.studies.copy()
    with zipfile.ZipFile(registered.folder / "archive.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png") and "/._" not in name]
        studies["images"] = [
            [archive.read(name) for name in names if name.startswith(f"{study}/")] for study in studies["study"]
        ]
    return studies[studies["split"] == "test"].rename(columns={"body_part": "part"}).reset_index(drop=True)


def asked(table: pd.DataFrame) -> pd.DataFrame:
    return table[["study", "part", "images"]]


def as_json(table: pd.DataFrame) -> dict[str, Any]:
    rows = asked(table).to_dict("records")
    encoded = [row | {"images": [base64.b64encode(each).decode() for each in row["images"]]} for row in rows]
    return {"dataframe_records": encoded}


def check_answers(found: pd.DataFrame, table: pd.DataFrame, threshold: float, within: float) -> None:
    assert found["study"].tolist() == table["study"].tolist()
    np.testing.assert_allclose(found["probability"].astype(float), table["probability"], atol=within)
    assert found["verdict"].tolist() == ["abnormal" if p >= threshold else "normal" for p in table["probability"]]


# The directory.


def test_a_fetched_version_answers_as_it_was_evaluated(
    fetched: Path,
    table: pd.DataFrame,
    registered: Registered,
) -> None:
    found = Predictor.read(fetched)
    assert (found.named.model, found.named.version, str(found)) == ("mura", 1, "mura version 1")
    assert len(table) > 10
    for row in table.itertuples():
        squares = np.stack([found.fit(picture.read(content).grey) for content in row.images])
        logits = found.logits(squares)
        answer = found.study(logits, row.part)
        assert answer.probability == pytest.approx(row.probability, abs=1e-5)
        assert answer.abnormal == (row.probability >= registered.threshold)
        assert found.maps(squares).shape == (len(squares), 2, 2)


def test_reading_a_directory_imports_neither_tensorflow_nor_mlflow(fetched: Path) -> None:
    script = f"""
import sys
from pathlib import Path
import numpy as np
from components.predict.predictor import Predictor
found = Predictor.read(Path({str(fetched)!r}))
found.maps(np.zeros((1, found.size, found.size), np.uint8))
print({{"tensorflow", "keras", "mlflow", "pandas", "pyarrow", "onnx"}} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def spoil(folder: Path, name: Path, old: bytes, new: bytes) -> None:
    content = (folder / name).read_bytes()
    assert old in content
    (folder / name).write_bytes(content.replace(old, new, 1))


def test_a_directory_that_was_changed_is_refused(fetched: Path, tmp_path: Path) -> None:
    for number, (file, old, new, says) in enumerate(
        [
            (predictor.ONNX, b"pixels", b"pixelz", r"data/network\.onnx was changed"),
            (predictor.CARD, b'"image_size": 32', b'"image_size": 64', r"data/predictor\.json was changed"),
            (Path("MLmodel"), b"onnx", b"onny", "MLmodel was changed"),
        ]
    ):
        folder = shutil.copytree(fetched, tmp_path / str(number))
        spoil(folder, file, old, new)
        with pytest.raises(DataRefused, match=says) as refusal:
            Predictor.read(folder)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UsageError, match="a directory that `mura fetch` wrote"):
        Predictor.read(tmp_path)


def test_fetch_writes_a_directory_or_nothing(here: Path, mura: Mura) -> None:
    code, out, err = mura("fetch", "--model", "models:/mura/1", "--out", "champion")
    assert (code, out) == (ExitCode.DONE, "champion: mura version 1\n"), err
    assert predictor.read(here / "champion")[1] == Version(model="mura", version=1)
    before = {path.name for path in here.iterdir()}
    for words, says in (
        (("--out", "champion"), "champion: not an empty directory."),
        (("--out", "other", "--model", "models:/mura/9"), "mura has no version 9."),
    ):
        code, _, err = mura("fetch", *words)
        assert code == ExitCode.USAGE
        assert err.splitlines()[-1].startswith(f"error: {says}")
    assert {path.name for path in here.iterdir()} == before


# A version of an older version of this program: the network alone.


def test_a_version_of_the_network_alone_is_not_signed_and_does_not_answer(
    here: Path,
    registered: Registered,
    mura: Mura,
    no_mlflow: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    shutil.copy(registered.folder / "mlflow.db", here)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    version = client.get_model_version("mura", "1")
    facts = model_registry.facts_of(version).model_dump_json(exclude={"version"})
    experiment = client.get_run(version.run_id).info.experiment_id
    (alone,) = [each for each in client.search_logged_models([experiment]) if "onnx_sha256" not in each.tags]
    client.create_model_version(
        "mura",
        source=f"models:/{alone.model_id}",
        run_id=version.run_id,
        model_id=alone.model_id,
        tags=version.tags | {model_registry.FACTS: facts},
    )
    for command in (("predict", "archive.zip", "--json"), ("fetch", "--out", "old")):
        code, _, err = mura(*command, "--model", "models:/mura/2")
        assert code == ExitCode.DATA
        assert "mura version 2 is not believed, and nothing of it was opened: it is not signed" in err
        assert "mura register --adopt" in err


# The model of MLflow.


@pytest.fixture(scope="module")
def loaded(registered: Registered) -> Any:
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.folder}/mlflow.db")
        return mlflow.pyfunc.load_model("models:/mura@champion")


def test_the_registered_model_answers_for_studies(
    loaded: Any,
    table: pd.DataFrame,
    registered: Registered,
) -> None:
    found = loaded.predict(asked(table))
    check_answers(found, table, registered.threshold, within=1e-5)
    assert set(found["threshold"]) == {registered.threshold}
    assert set(found["operating_point"]) == {"kappa"}
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    check_answers(loaded.predict(asked(shuffled)), shuffled, registered.threshold, within=1e-5)


def test_mlflow_answers_without_tensorflow(fetched: Path) -> None:
    script = f"""
import sys
import mlflow
loaded = mlflow.pyfunc.load_model({str(fetched)!r})
loaded.predict(loaded.input_example)
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-c", script], env=surroundings, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_its_example_is_answered_and_names_nobody(loaded: Any) -> None:
    (answer,) = loaded.predict(loaded.input_example).to_dict("records")
    assert answer["study"] == "drawn"
    assert 0 < answer["probability"] < 1


def test_bytes_and_base64_say_the_same_to_the_last_byte(loaded: Any) -> None:
    """A DICOM file ends with zeros, which MLflow's own arrays of bytes would lose."""
    dark = np.zeros((48, 64), np.uint16)
    dark[:20, :30] = 4000
    content = written(radiograph(dark, 12, BodyPartExamined="WRIST"))
    assert content.endswith(b"\0\0")
    for given in (content, base64.b64encode(content).decode(), base64.encodebytes(content).decode()):
        (answer,) = loaded.predict(pd.DataFrame({"study": ["a"], "images": [[given]]})).to_dict("records")
        assert answer["notes"] == ["grey levels by no window, so the middle 99.8 % of the pixels"]


def test_too_much_is_refused_before_it_is_decoded(fetched: Path) -> None:
    from mlflow.exceptions import MlflowException

    # The same bytes again and again: nothing of this is in memory twice.
    large = [b"\0" * 60_000_000] * 5
    for images, says in (
        (large, "at most 256,000,000 bytes of pictures, got 300,000,000"),
        ([b""] * 1_001, "at most 1,000 pictures in a request, got 1,001"),
        ([b"\x89PNG" + b"\0" * 70_000_000], "more than 64,000,000 bytes"),
    ):
        with pytest.raises(MlflowException, match=says):
            pyfunc.Model(Predictor.read(fetched)).predict(pd.DataFrame({"study": ["a"], "images": [images]}))


def test_mlflow_itself_loads_both_networks(loaded: Any, fetched: Path) -> None:
    import mlflow
    import onnx

    network = mlflow.keras.load_model(str(fetched))
    assert network.input.shape == (None, 32, 32, 1)
    assert isinstance(mlflow.onnx.load_model(str(fetched)), onnx.ModelProto)


# MLflow's scoring server.


@pytest.fixture(scope="module")
def served(registered: Registered) -> Iterator[str]:
    """The address of `mlflow models serve`."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", "models:/mura@champion", "--env-manager", "local"]
    surroundings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{registered.folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(ROOT),
    }
    with (registered.folder / "served.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | surroundings,
            cwd=registered.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def test_it_is_served_by_mlflow_with_the_same_verdicts(
    served: str,
    table: pd.DataFrame,
    registered: Registered,
) -> None:
    answer = requests.post(served, json=as_json(table), timeout=60)
    assert answer.status_code == 200
    check_answers(pd.DataFrame(answer.json()["predictions"]), table, registered.threshold, within=1e-4)


def malformed(png: bytes) -> Iterator[Any]:
    """Bodies of requests that are none: what to send as JSON, or bytes."""
    good = base64.b64encode(png).decode()
    for key in ("inputs", "instances"):
        for squares in (
            np.random.default_rng(0).random((1, 32, 32, 1)), np.zeros((1, 32, 32, 1), int), np.zeros((2, 16, 16, 3))
        ):  # fmt: skip
            yield {key: squares.tolist()}
    yield {"inputs": {"study": ["a"], "images": [[good]]}}
    yield {"instances": [{"study": "a", "images": [good]}]}
    yield from ({}, [], [1], 5, "text", None, {"messages": []}, {"prompt": "x"}, {"dataframe_records": "x"})
    yield from ({"dataframe_records": []}, {"dataframe_split": {}}, {"dataframe_split": [1]})
    yield from (b"", b"{", b"\xff\xfe", b"[" * 500, b"\0" * 1000)
    row = {"study": "a", "images": [good]}
    yield from ({"dataframe_records": [{name: row[name]}]} for name in row)
    wrong: list[Any] = [5, 1.5, True, None, "", "../../etc/passwd", [], [[good]], [[1, 2], [3, 4]], {"a": 1}, good]
    for each in wrong:
        yield {"dataframe_records": [row | {"images": each}]}
        if each != good:
            yield {"dataframe_records": [row | {"images": [good, each]}]}
            yield {"dataframe_records": [row, row | {"images": [each]}]}
        if not isinstance(each, str) or not each:
            yield {"dataframe_records": [row | {"study": each}]}
        if not isinstance(each, str) and each is not None:
            yield {"dataframe_records": [row | {"part": each}]}
    # Half a character.
    yield from ({"dataframe_records": [row | {name: "\ud800"}]} for name in ("study", "part"))
    for content in pictures_that_are_none(png):
        yield {"dataframe_records": [row | {"images": [base64.b64encode(content).decode()]}]}
    yield {"dataframe_records": [row | {"images": [good] * 1_001}]}
    yield {"dataframe_split": {"columns": ["study", "images"], "data": [["a", [good], 1]]}}


def pictures_that_are_none(png: bytes) -> Iterator[bytes]:
    colour = np.zeros((40, 60, 3), np.uint8)
    colour[..., 2] = 255
    for suffix in (".png", ".jpg"):
        yield cv2.imencode(suffix, colour)[1].tobytes()
    yield from (b"", b"<html>", b"GIF89a", b"PK\3\4", b"../../etc/passwd", b"\0" * 500, png[:50], png[:-20], png[8:])
    for position in range(16, len(png), max(1, len(png) // 12)):
        yield png[:position] + bytes([png[position] ^ 0x55]) + png[position + 1 :]
    # A bomb: a header that claims 30,000 x 30,000 pixels.
    yield png[:16] + (30_000).to_bytes(4, "big") * 2 + png[24:]
    ct = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    yield written(radiograph(ct, 12, Modality="CT"))
    yield written(radiograph(ct, 12))[:-700]


def test_a_hundred_malformed_requests_are_refused_with_a_reason(
    served: str,
    table: pd.DataFrame,
    registered: Registered,
) -> None:
    bodies = list(malformed(table["images"][0][0]))
    assert len(bodies) >= 100
    for body in bodies:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = requests.post(served, data=content, headers={"Content-Type": "application/json"}, timeout=60)
        assert 400 <= answer.status_code < 500, (content[:200], answer.text[:500])
        assert answer.json()["message"], content[:200]
    answer = requests.post(served, json=as_json(table[:1]), timeout=60)
    assert answer.status_code == 200, "and it still answers"
