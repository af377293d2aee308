"""`mura-data`: manifest and shards in parts on Kubeflow, and the run that begins with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from miniature import archive, manifest, pack, prove, use_cores, write_zip
from pod_security import violations
from test_compiling import DEMO, REAL, STORED, code, containers_of, pods, pods_of, tasks_of, with_profile

from components.artifacts.manifest import Manifest
from components.artifacts.shards import Shards
from components.base.errors import UsageError
from components.cli.main import run
from components.params.document import read_params
from components.params.ingest import IngestParams
from components.params.shard import ShardParams
from pipelines.graph.compiling import Data, compile_pipeline, compile_training
from pipelines.graph.package import Package
from pipelines.graph.run_size import MOST, RunSize, run_size

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/mura:cpu-0123456789abcdef"
KEPT = "minio://mlpipeline/v2/artifacts/mura-data/00000000-0000-0000-0000-000000000000"
DATA = Data(
    f"{KEPT}/validate/00000000-0000-0000-0000-000000000000/valid_manifest",
    "a" * 32,
    f"{KEPT}/merge-shards/00000000-0000-0000-0000-000000000000/shards",
    "b" * 32,
)


def data_package(parts: int, params: Any = DEMO, archive: str = STORED) -> Package:
    chosen = with_profile(params, image=IMAGE)
    return compile_pipeline(chosen, archive=archive, archive_name="MURA-v1.1.zip", code=code, parts=parts)


@pytest.fixture(scope="module")
def package() -> Package:
    return data_package(3)


@pytest.fixture(scope="module")
def later() -> Package:
    return compile_training(with_profile(DEMO, image=IMAGE), DATA, code=code)


def test_parts_are_tasks_of_their_own_that_wait_for_no_other_part(package: Package) -> None:
    assert package.name == "mura-data"
    ingest, shard = ([f"{step}-{number}" for number in (1, 2, 3)] for step in ("ingest", "shard"))
    waits = {name: sorted(task.get("dependentTasks", ())) for name, task in tasks_of(package).items()}
    assert waits == {
        "importer": [],
        **{name: [] for name in ingest},
        "merge-manifest": ingest,
        "validate": ["merge-manifest"],
        **{name: ["validate"] for name in shard},
        # Its digest is an input.
        "merge-shards": [*shard, "validate"],
    }
    named = {task["taskInfo"]["name"] for task in tasks_of(package).values()}
    assert {"Ingest 1/3", "Shard 3/3", "Merge manifest", "Merge shards"} <= named


def test_each_part_is_told_which_one_it_is_and_all_else_is_the_same(package: Package) -> None:
    for step in ("ingest", "shard"):
        tasks = [tasks_of(package)[f"{step}-{number}"]["inputs"] for number in (1, 2, 3)]
        own = [each["parameters"].pop("part")["runtimeValue"]["constant"] for each in tasks]
        assert own == ["1/3", "2/3", "3/3"]
        assert tasks[0] == tasks[1] == tasks[2]


def test_the_cache_knows_what_the_parts_of_a_whole_were_made_with(package: Package) -> None:
    """The digest of a part is that of its files: other facts of the whole would come from the cache."""
    tasks = tasks_of(package)
    for whole, part, not_needed in (("manifest", "ingest-1", set()), ("shards", "shard-1", {"archive"})):
        told = tasks[f"merge-{whole}"]["inputs"]["parameters"]
        made_with = tasks[part]["inputs"]["parameters"]
        assert told == {key: each for key, each in made_with.items() if key not in {"part", *not_needed}}
    assert all(task["cachingOptions"]["enableCache"] for task in tasks.values())
    digest = {"outputParameterKey": "digest", "producerTask": "validate"}
    assert tasks["shard-2"]["inputs"]["parameters"]["manifest_digest"] == {"taskOutputParameter": digest}


def test_only_what_the_data_needs_can_be_chosen(package: Package, later: Package) -> None:
    about_data = {"archive", "archive_digest", "archive_name", "overlay"}
    assert set(package.parameters) == about_data | {"seed", "ingest", "validate", "shard"}
    models = {f"train_{name}" for name in DEMO.train.candidates} | {f"ensemble_{name}" for name in DEMO.ensembles}
    assert set(later.parameters) == {*Data._fields, "seed", "protocol", "evaluate", "register", "promote", *models}
    assert {name: later.parameters[name].default for name in Data._fields} == DATA._asdict()


@pytest.mark.parametrize("params", [DEMO, REAL], ids=["demo", "mura"])
def test_every_pod_passes_the_restricted_standard_and_is_tried_again(params: Any) -> None:
    package = data_package(8, params)
    made = pods(package)
    assert len(made) == 8 + 1 + 1 + 8 + 1 + 1
    assert {name: found for name, pod in made.items() if (found := violations(pod))} == {}
    steps = [task for name, task in tasks_of(package).items() if name != "importer"]
    assert all("retryPolicy" in task for task in steps)
    # Also where the choices say that shards of a whole run lie on its volume, which ends with the run.
    assert "workspace" not in data_package(2, with_profile(params, shards="workspace")).text.decode()


def test_a_merge_has_the_keys_of_the_step_that_made_the_parts(package: Package) -> None:
    def mounted(executor: str) -> set[str]:
        pod = pods_of(package)[executor]
        return {each["mountPath"] for kind in ("secretAsVolume", "configMapAsVolume") for each in pod.get(kind, ())}

    assert mounted("exec-merge-manifest") == mounted("exec-ingest-1")
    assert mounted("exec-ingest-1") == {"/etc/mura/mura-places", "/etc/mura/mura-data"}
    assert mounted("exec-merge-shards") == mounted("exec-shard-1")
    assert containers_of(package)["exec-merge-shards"]["command"] == ["mura", "merge"]


def test_a_merge_has_resources_of_its_own(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["kubeflow"]["steps"]["merge"] = {"memory": "7Gi"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    containers = containers_of(data_package(1, read_params(path)))
    limits = {name: each["resources"]["resourceMemoryLimit"] for name, each in containers.items()}
    assert {name for name, limit in limits.items() if limit == "7Gi"} == {"exec-merge-manifest", "exec-merge-shards"}


def test_the_run_that_begins_with_shards_is_the_rest_of_the_whole_one(later: Package) -> None:
    whole = tasks_of(compile_pipeline(with_profile(DEMO, image=IMAGE), archive=STORED, code=code))
    tasks = tasks_of(later)
    assert {name for name in tasks if "importer" not in name} == set(whole) - {
        "importer",
        "ingest",
        "validate",
        "shard",
    }
    train = tasks["train-vgg16"]
    assert train["inputs"]["parameters"]["shards_digest"]["componentInputParameter"] == "pipelinechannel--shards_digest"
    # The cache compares these: what a whole run has trained is not trained again.
    assert set(train["inputs"]["parameters"]) == set(whole["train-vgg16"]["inputs"]["parameters"])
    assert set(train["inputs"]["artifacts"]) == set(whole["train-vgg16"]["inputs"]["artifacts"])
    assert later.name == "mura"


def size_of(parts: int) -> RunSize:
    return run_size(data_package(parts))


def test_a_run_in_eight_parts_can_be_started() -> None:
    """Its 19 steps take 0.6 MB without any input or output."""
    eight = size_of(8)
    assert eight.total < MOST
    assert size_of(5).total < 700_000
    assert eight.total - size_of(7).total < 90_000


def test_more_parts_than_a_run_can_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--parts 12: a run would become about 1\d{3} kB\. Take fewer"):
        data_package(12)


def test_a_run_that_begins_with_shards_is_smaller_than_a_whole_one(later: Package) -> None:
    whole = run_size(compile_pipeline(with_profile(DEMO, image=IMAGE), archive=STORED, code=code))
    assert run_size(later).total < whole.total - 60_000


class Pod(NamedTuple):
    """What a step of the pipeline is run with on this machine."""

    words: list[str]
    places: dict[str, Path]
    """Of its outputs, by name."""
    told: Path
    """The file in which it describes them."""


class Machine:
    """Runs the commands of a compiled pipeline one after the other, with what Kubeflow's driver would tell them."""

    def __init__(self, package: Package, root: Path) -> None:
        self.tasks = tasks_of(package)
        self._package, self._root = package, root
        self.pods = {name: self._pod(name) for name in self.tasks if name != "importer"}

    def words(self, name: str) -> list[str]:
        """A task's command. What it waits for must have run."""
        inputs = self.tasks[name]["inputs"]
        artifacts = {key: self._made(each["taskOutputArtifact"]) for key, each in inputs.get("artifacts", {}).items()}
        pod = self.pods[name]
        document = {
            "inputs": {
                "parameterValues": {key: self._value(each) for key, each in inputs["parameters"].items()},
                "artifacts": {key: _listed(key, place) for key, place in artifacts.items()},
            },
            "outputs": {
                "artifacts": {key: _listed(key, place) for key, place in pod.places.items()},
                "outputFile": str(pod.told),
            },
        }
        return [*pod.words, "--executor-input", json.dumps(document)]

    def _pod(self, name: str) -> Pod:
        component = self._package.spec["components"][self.tasks[name]["componentRef"]["name"]]
        mura, *words = containers_of(self._package)[component["executorLabel"]]["command"]
        assert mura == "mura"
        places = {key: self._root / name / key for key in component["outputDefinitions"]["artifacts"]}
        return Pod(words, places, self._root / name / "output_metadata.json")

    def _made(self, source: dict[str, str]) -> Path:
        return self.pods[source["producerTask"]].places[source["outputArtifactKey"]]

    def _value(self, source: dict[str, Any]) -> Any:
        if "componentInputParameter" in source:
            return self._package.parameters[source["componentInputParameter"].removeprefix("pipelinechannel--")].default
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        made = source["taskOutputParameter"]
        told = json.loads(self.pods[made["producerTask"]].told.read_text())
        return told["parameterValues"][made["outputParameterKey"]]


def _listed(name: str, place: Path) -> dict[str, Any]:
    return {"artifacts": [{"name": name, "uri": str(place)}]}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    use_cores(1, monkeypatch)
    zip_file = write_zip(tmp_path / "a.zip", archive())
    small = {
        "ingest": IngestParams(tuning_fraction=0.25),
        "shard": ShardParams(image_size=32, images_per_shard=10),
        "seed": 1,
    }
    return Machine(data_package(3, DEMO.model_copy(update=small), str(zip_file)), tmp_path / "run")


def validated(machine: Machine) -> None:
    """Stands for `validate`: a miniature is no data set that its gates accept."""
    pod = machine.pods["validate"]
    made = Manifest.read(machine.pods["merge-manifest"].places["manifest"])
    pod.places["valid_manifest"].parent.mkdir(parents=True)
    valid = prove(made, pod.places["valid_manifest"])
    pod.told.write_text(json.dumps({"parameterValues": {"digest": valid.digest[:32]}}))


def until(machine: Machine, last: str) -> int:
    """Run the tasks in their order, until one of them; how it ended."""
    for name in sorted(machine.pods, key=_order):
        if name == "validate":
            validated(machine)
        else:
            code = run(machine.words(name))
            if name == last:
                return code
            assert code == 0, name
    raise AssertionError(f"no task {last}")


def _order(name: str) -> tuple[int, str]:
    step = name if name.startswith("merge") else name.partition("-")[0]
    return ["ingest", "merge-manifest", "validate", "shard", "merge-shards"].index(step), name


def test_the_parts_of_a_run_make_what_one_run_of_each_step_makes(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert until(machine, "merge-shards") == 0
    # What the next run is given.
    *_, last = caplog.messages
    one = manifest(tmp_path / "a.zip", tmp_path / "one")
    made = Manifest.read(machine.pods["merge-manifest"].places["manifest"])
    assert made.digest == one.digest
    assert (made.facts.archive, made.facts.archive_md5) == ("MURA-v1.1.zip", one.facts.archive_md5)
    shards = Shards.read(machine.pods["merge-shards"].places["shards"])
    assert shards.digest == pack(tmp_path / "a.zip", prove(one, tmp_path / "valid"), tmp_path / "packed").digest
    assert last.endswith(f"--shards '{machine.pods['merge-shards'].places['shards']}#{shards.digest}'")
    assert json.loads(machine.pods["merge-shards"].told.read_text())["parameterValues"] == {
        "digest": shards.digest[:32]
    }
    # The server knows no output `digest` of a part.
    assert json.loads(machine.pods["shard-2"].told.read_text())["parameterValues"] == {}


def replaced(machine: Machine) -> str:
    """Parts of shards that another manifest was made for."""
    told = machine.pods["validate"].told
    told.write_text(json.dumps({"parameterValues": {"digest": "f" * 32}}))
    return "made from the manifest of digest"


def gone(machine: Machine) -> str:
    (machine.pods["shard-2"].places["shards_part"] / "card.json").unlink()
    return "part_2: the cache's artifact is gone"


def changed(machine: Machine) -> str:
    (machine.pods["shard-2"].places["shards_part"] / "records.parquet").write_bytes(b"")
    return "records.parquet: changed"


@pytest.mark.parametrize(("fault", "code"), [(replaced, 3), (gone, 5), (changed, 3)])
def test_parts_that_were_replaced_are_not_merged(
    machine: Machine, fault: Callable[[Machine], str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert until(machine, "shard-3") == 0
    why = fault(machine)
    capfd.readouterr()
    assert run(machine.words("merge-shards")) == code
    assert why in capfd.readouterr().err


def test_a_merge_that_is_told_too_little_says_so(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert until(machine, "ingest-3") == 0
    words = machine.words("merge-manifest")
    for part, key, why in (
        ("inputs", "artifacts", "names no part"),
        ("inputs", "parameterValues", "need --archive"),
        ("outputs", "artifacts", "has no place for the Manifest"),
    ):
        document = json.loads(words[-1])
        del document[part][key]
        capfd.readouterr()
        assert run([*words[:-1], json.dumps(document)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert why in line


def test_shards_of_another_digest_than_the_run_was_given_are_refused(
    later: Package, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    zip_file = write_zip(tmp_path / "a.zip", archive())
    valid = prove(manifest(zip_file, tmp_path / "manifest"), tmp_path / "valid")
    pack(zip_file, valid, tmp_path / "shards")
    parameters = {"params": later.parameters["train_custom_cnn"].default, "seed": 1, "shards_digest": "b" * 32}
    document = {
        "inputs": {"parameterValues": parameters, "artifacts": {"shards": _listed("shards", tmp_path / "shards")}},
        "outputs": {
            "artifacts": {"trained_model": _listed("trained_model", tmp_path / "model")},
            "outputFile": str(tmp_path / "told.json"),
        },
    }
    assert run(["train", "--executor-input", json.dumps(document)]) == 3
    assert "expected the Shards of digest bbbbbbbbbbbb" in capfd.readouterr().err


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


GIVEN = ["--manifest", f"{DATA.manifest}#{DATA.manifest_digest}", "--shards", f"{DATA.shards}#{DATA.shards_digest}"]


@pytest.mark.usefixtures("at_root")
def test_the_command_compiles_either(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "p.yaml")
    assert run(["pipeline", "compile", "--archive", STORED, "--parts", "2", "--out", out]) == 0
    assert "pipeline mura-data," in capfd.readouterr().err
    assert {"ingest-2", "shard-2"} <= set(tasks_of(Package.read(Path(out))))
    assert run(["pipeline", "compile", *GIVEN, "--out", out]) == 0
    inputs = next(yaml.safe_load_all(Path(out).read_text()))["root"]["inputDefinitions"]["parameters"]
    assert inputs["shards"]["defaultValue"] == DATA.shards
    # The whole digest of a log is shortened to what Kubeflow is told, so that its cache finds it.
    assert run(["pipeline", "compile", *GIVEN[:2], "--shards", f"{DATA.shards}#{'b' * 64}", "--out", out]) == 0
    assert Package.read(Path(out)).parameters["shards_digest"].default == "b" * 32


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (GIVEN[:2], "--manifest and --shards belong together"),
        (GIVEN[2:], "--manifest and --shards belong together"),
        ([*GIVEN, "--parts", "2"], "--parts: leave it out"),
        ([*GIVEN, "--archive", STORED], "--archive: leave it out"),
        ([*GIVEN[:2], "--shards", DATA.shards], "expected URI#DIGEST"),
        ([*GIVEN[:2], "--shards", f"{DATA.shards}#abc"], "expected URI#DIGEST"),
        ([*GIVEN[:2], "--shards", f"artifacts/shards#{'b' * 32}"], "expected URI#DIGEST"),
        (["--parts", "0"], "--parts"),
    ],
)
@pytest.mark.parametrize("command", [["compile"], ["submit", "--dry-run"]])
def test_flags_that_make_no_sense_are_refused(
    command: list[str], words: list[str], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["pipeline", *command, *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert why in err


@pytest.mark.usefixtures("at_root")
def test_a_submission_says_what_it_begins_with(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["pipeline", "submit", "--dry-run", *GIVEN]) == 0
    out = capfd.readouterr().out
    assert f'argument    shards = "{DATA.shards}"' in out
    assert f'argument    shards_digest = "{DATA.shards_digest}"' in out
    assert "archive" not in out
    assert run(["pipeline", "submit", "--dry-run", "--archive", STORED, "--parts", "2"]) == 0
    out = capfd.readouterr().out
    assert "pipeline    mura-data, 9 steps" in out
    assert "run         mura-data-" in out
    words = ["--cron", "0 0 3 * * *", "--archive", STORED, "--parts", "2"]
    assert run(["pipeline", "schedule", "--dry-run", *words]) == 0
    assert "schedule    mura-data, " in capfd.readouterr().out
    assert run(["pipeline", "submit", "--dry-run", "--package", "p.yaml", "--parts", "2"]) == 2
    assert "--package: a compiled pipeline knows what it does" in capfd.readouterr().err
