import json
from pathlib import Path

import pytest
import yaml
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.shards import Shards
from components.cli import main
from components.train import input_benchmark
from components.train.input_benchmark import COMPUTE, READ, SHUFFLE, TRANSFER, Diagnosis, Stage

pytestmark = pytest.mark.long

PARAMS = Path(__file__).parents[2] / "params.yaml"


def found(where: str = "in memory", waiting: float = 0.0, **rates: float) -> Diagnosis:
    return Diagnosis(tuple(Stage(name, rate, "") for name, rate in rates.items()), 90.0, waiting, where)


CASES = {
    "compute": (found(read=500, shuffle=9000, compute=100), COMPUTE, "could come 90 times as fast"),
    "compute, but others work": (found(read=500, shuffle=9000, compute=100, waiting=0.2), COMPUTE, "unsteadily"),
    "reading once does not count": (found(read=50, shuffle=9000, compute=100), COMPUTE, "smaller network"),
    "reading each epoch does": (found("on disk", read=50, shuffle=9000, compute=100), READ, "residence: memory"),
    "shuffling": (found(read=500, shuffle=60, compute=100), SHUFFLE, "Larger batches"),
    "the way to the device": (
        found(read=500, shuffle=9000, compute=100, **{TRANSFER: 70}),
        TRANSFER,
        "Larger batches",
    ),
}


@pytest.mark.parametrize(("made", "bound", "words"), CASES.values(), ids=CASES)
def test_the_slowest_stage_on_the_way_is_the_ceiling(made: Diagnosis, bound: str, words: str) -> None:
    assert made.ceiling.name == bound
    assert words in made.told()
    assert "90 images/s, waiting" in made.told()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        place = tmp_path_factory.mktemp("packed")
        path = write_zip(place / "a.zip", archive(images(train=20, valid=6)))
        return pack(path, prove(manifest(path, place / "manifest"), place / "valid"), place / "shards").path


@pytest.mark.parametrize("residence", ["disk", "memory"])
def test_every_stage_is_measured_and_the_ceiling_marked(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    residence: str,
) -> None:
    monkeypatch.setattr(input_benchmark, "SECONDS", 0.01)
    document = yaml.safe_load(PARAMS.read_text())
    document["train"]["default"] |= {"batch_size": 4, "residence": residence}
    (tmp_path / "params.yaml").write_text(json.dumps(document))
    words = ["bench", "input", "--shards", shards, "--params", tmp_path / "params.yaml", "--steps", "2"]
    assert main.run([str(word) for word in words]) == 0
    told = capsys.readouterr().out
    for stage in ("read", "decode", "shuffle", "compute", "training", "Bound by"):
        assert stage in told
    assert told.count(" *") == 1


def test_without_training_images_there_is_nothing_to_measure(
    shards: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = Shards.read(shards)
    empty = whole.facts.splits["train"].model_copy(update={"images": 0, "files": (), "records": ()})
    facts = whole.facts.model_copy(update={"splits": whole.facts.splits | {"train": empty}})
    (tmp_path / "empty").mkdir()
    Shards.seal(tmp_path / "empty", facts)
    words = ["bench", "input", "--shards", tmp_path / "empty", "--params", PARAMS]
    assert main.run([str(word) for word in words]) == 3
    assert "expected images in train, found none" in capsys.readouterr().err
