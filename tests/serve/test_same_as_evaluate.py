"""A registered version, served: by both protocols it says what `mura evaluate` wrote."""

import base64
import zipfile
from collections.abc import Iterator

import httpx
import pandas as pd
import pytest
from registered import Registered
from serving import Served, serving

pytestmark = pytest.mark.long

WITHIN = 1e-4


@pytest.fixture(scope="module")
def served(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The champion, which the server fetches itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.folder}/mlflow.db")
        with serving(tmp_path_factory.mktemp("served"), "models:/mura@champion") as running:
            yield running


@pytest.fixture(scope="module")
def studies(registered: Registered) -> pd.DataFrame:
    """The test split, with its files."""
    table = registered.studies[registered.studies["split"] == "test"].copy()
    with zipfile.ZipFile(registered.folder / "archive.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png") and "/._" not in name]
        table["files"] = [
            [archive.read(name) for name in names if name.startswith(f"{study}/")] for study in table["study"]
        ]
    assert len(table) > 10
    return table


def verdicts(table: pd.DataFrame, threshold: float) -> list[str]:
    return ["abnormal" if probability >= threshold else "normal" for probability in table["probability"]]


def test_by_a_form(served: Served, registered: Registered, studies: pd.DataFrame) -> None:
    found = []
    for row in studies.itertuples():
        files = [("view", file) for file in row.files]
        answer = httpx.post(f"{served.url}/predict", files=files, data={"part": row.body_part}, timeout=60)
        found.append(answer.raise_for_status().json())
    assert [each["probability"] for each in found] == pytest.approx(studies["probability"].tolist(), abs=WITHIN)
    assert [each["verdict"] for each in found] == verdicts(studies, registered.threshold)
    assert {(each["model"], each["version"]) for each in found} == {("mura", "1")}


def test_by_the_open_inference_protocol(served: Served, registered: Registered, studies: pd.DataFrame) -> None:
    probability, verdict = [], []
    for start in range(0, len(studies), 10):
        some = studies.iloc[start : start + 10]
        views = [(file, row.study, row.body_part) for row in some.itertuples() for file in row.files]
        data = {
            "images": [base64.b64encode(file).decode() for file, _, _ in views],
            "study": [study for _, study, _ in views],
            "part": [part for _, _, part in views],
        }
        inputs = [{"name": n, "datatype": "BYTES", "shape": [len(views)], "data": each} for n, each in data.items()]
        answer = httpx.post(f"{served.url}/v2/models/mura/infer", json={"inputs": inputs}, timeout=60)
        outputs = {each["name"]: each["data"] for each in answer.raise_for_status().json()["outputs"]}
        assert outputs["study"] == some["study"].tolist()
        probability += outputs["probability"]
        verdict += outputs["verdict"]
    assert probability == pytest.approx(studies["probability"].tolist(), abs=WITHIN)
    assert verdict == verdicts(studies, registered.threshold)
