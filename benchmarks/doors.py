"""The same studies through every door: each must give the probabilities and verdicts that `mura evaluate` wrote.

    mura fetch --out version
    python -m benchmarks.doors --version version --evaluation artifacts/evaluation/ensemble --archive data/phantom.zip

The studies are those of the test split of the evaluation from which the version was registered; the archive has their
pictures. Doors: `Predictor` in Python, `mura predict`, `mlflow.pyfunc`, `mura serve` by its form and by the open
inference protocol, `mlflow models serve`. With the first two Keras computes, and a probability may differ by 1e-5; with
the others ONNX Runtime computes, and it may differ by 1e-4. Some studies have no answer, as they are not like the
training data: each door must say so of the same ones.

The ratio is that of the largest difference to what is allowed, of the door where it is largest. Exit code 1 if a
probability differs by more, or a verdict at all.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.serving import at, running, servers
from components.predict.predictor import Predictor
from components.predict.verdicts import verdict
from components.xray import picture

CLOSE, NEAR = 1e-5, 1e-4
"""Most by which probabilities may differ: where Keras computes, where ONNX Runtime computes."""
AT_ONCE = 10
"""Studies in a request that takes several."""


class Answer(NamedTuple):
    """What a door says of a study."""

    probability: float | None
    """None of a study that is not like the training data."""
    verdict: str


class Door(NamedTuple):
    """A way to ask."""

    name: str
    within: float
    answers: list[Answer]


def main() -> int:
    """Ask, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", type=Path, required=True, help="a directory that `mura fetch` wrote")
    parser.add_argument("--evaluation", type=Path, required=True, help="the evaluation that was registered")
    parser.add_argument("--archive", type=Path, required=True, help="the zip with the pictures")
    parser.add_argument("--studies", type=int, help="so many, from all over the test split [default: all]")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    table = studies(flags)
    threshold = Predictor.read(flags.version).card.scores.threshold
    expected = [Answer(p, "abnormal" if p >= threshold else "normal") for p in table["probability"]]
    rows: list[Sequence[object]] = [("door", "studies", "unlike", "largest difference", "allowed", "other verdicts")]
    result: dict[str, Any] = {"studies": len(table), "ratio": 0.0}
    unlike: set[int] | None = None
    for door in doors(flags, table):
        silent = {number for number, each in enumerate(door.answers) if each.probability is None}
        unlike = silent if unlike is None else unlike
        pairs = [
            (found, was)
            for number, (found, was) in enumerate(zip(door.answers, expected, strict=True))
            if number not in unlike
        ]
        apart = max(abs(float(found.probability or np.nan) - float(was.probability or 0)) for found, was in pairs)
        others = sum(found.verdict != was.verdict for found, was in pairs) + len(silent ^ unlike)
        result[door.name] = {
            "apart": apart,
            "allowed": door.within,
            "other verdicts": others,
            "unlike": len(silent),
        }
        result["ratio"] = max(result["ratio"], round(apart / door.within, 3), 2.0 if others else 0.0)
        rows.append((door.name, len(pairs), len(silent), f"{apart:.1e}", f"{door.within:.0e}", others))
    harness.tell(result, "against the probabilities that `mura evaluate` wrote", rows, flags.json)
    return 0 if result["ratio"] <= 1 else 1


def studies(flags: argparse.Namespace) -> pd.DataFrame:
    """The studies, with `files`: the names and bytes of their pictures."""
    table = pd.read_parquet(flags.evaluation / "studies.parquet")
    table = table[table["split"] == "test"].reset_index(drop=True)
    if flags.studies:
        table = table.iloc[np.linspace(0, len(table) - 1, min(flags.studies, len(table))).round().astype(int)]
    names = harness.images_in(flags.archive)
    with zipfile.ZipFile(flags.archive) as archive:
        files = [[archive.read(name) for name in names if name.rpartition("/")[0] == study] for study in table["study"]]
    return table.assign(files=files)


def doors(flags: argparse.Namespace, table: pd.DataFrame) -> Iterator[Door]:
    """Ask at one after the other."""
    version = flags.version.absolute()
    yield Door("Predictor", CLOSE, _in_python(version, table))
    yield Door("mura predict", CLOSE, _by_command(version, flags.archive, table))
    yield Door("mlflow.pyfunc", NEAR, _by_pyfunc(version, table))
    with tempfile.TemporaryDirectory() as folder:
        (ours, our_port), (theirs, their_port) = servers(version)
        with running(ours, our_port, Path(folder)), _client(our_port) as client:
            yield Door("mura serve, form", NEAR, [_by_form(client, row) for row in table.itertuples()])
            yield Door("mura serve, inference protocol", NEAR, _in_batches(table, lambda some: _by_v2(client, some)))
        with running(theirs, their_port, Path(folder)), _client(their_port) as client:
            yield Door("mlflow models serve", NEAR, _in_batches(table, lambda some: _by_mlflow(client, some)))


def _in_python(version: Path, table: pd.DataFrame) -> list[Answer]:
    found = Predictor.of(str(version))

    def answer(row: Any) -> Answer:
        squares = np.stack([found.fit(picture.read(each).grey) for each in row.files])
        logits, distances = found.asked(squares)
        said = found.study(logits, row.body_part, distances)
        return Answer(said.probability, verdict(said))

    return [answer(row) for row in table.itertuples()]


def _by_command(version: Path, archive: Path, table: pd.DataFrame) -> list[Answer]:
    command = [*harness.mura(), "--quiet", "predict", str(archive), "--model", str(version), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said = {each["path"].removeprefix(f"{archive}/"): each for each in map(json.loads, done.stdout.splitlines())}
    return [Answer(said[study]["probability"], said[study]["verdict"]) for study in table["study"]]


def _by_pyfunc(version: Path, table: pd.DataFrame) -> list[Answer]:
    # It takes seconds, and the other doors do without.
    import mlflow

    said = mlflow.pyfunc.load_model(str(version)).predict(
        pd.DataFrame({"study": table["study"], "part": table["body_part"], "images": table["files"]})
    )
    return [Answer(*each) for each in zip(said["probability"], said["verdict"], strict=True)]


def _by_form(client: httpx.Client, row: Any) -> Answer:
    files = [("view", ("view", file)) for file in row.files]
    said = client.post("/predict", files=files, data={"part": row.body_part}).raise_for_status().json()
    return Answer(said["probability"], said["verdict"])


def _by_v2(client: httpx.Client, some: pd.DataFrame) -> list[Answer]:
    views = [(file, row.study, row.body_part) for row in some.itertuples() for file in row.files]
    data = {
        "images": [base64.b64encode(file).decode() for file, _, _ in views],
        "study": [study for _, study, _ in views],
        "part": [part for _, _, part in views],
    }
    inputs = [{"name": name, "datatype": "BYTES", "shape": [len(views)], "data": each} for name, each in data.items()]
    said = client.post("/v2/models/mura/infer", json={"inputs": inputs}).raise_for_status().json()
    found = {each["name"]: each["data"] for each in said["outputs"]}
    by_study = {
        study: Answer(*each)
        for study, *each in zip(found["study"], found["probability"], found["verdict"], strict=True)
    }
    return [by_study[study] for study in some["study"]]


def _by_mlflow(client: httpx.Client, some: pd.DataFrame) -> list[Answer]:
    rows = [
        {"study": row.study, "part": row.body_part, "images": [base64.b64encode(file).decode() for file in row.files]}
        for row in some.itertuples()
    ]
    said = client.post("/invocations", json={"dataframe_records": rows}).raise_for_status().json()
    return [Answer(each["probability"], each["verdict"]) for each in said["predictions"]]


def _in_batches(table: pd.DataFrame, ask: Callable[[pd.DataFrame], list[Answer]]) -> list[Answer]:
    return [each for start in range(0, len(table), AT_ONCE) for each in ask(table.iloc[start : start + AT_ONCE])]


def _client(port: int) -> httpx.Client:
    return httpx.Client(base_url=at(port), timeout=60)


if __name__ == "__main__":
    sys.exit(main())
