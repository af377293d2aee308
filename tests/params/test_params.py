import copy
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from components.base.errors import UsageError
from components.params.document import Params, parse, read_params, section
from components.params.ingest import IngestParams
from components.params.section import Section
from components.params.shard import ShardParams
from components.params.stress import DISTURBANCES
from components.params.train import TrainParams
from components.params.validate import ValidateParams

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ["custom_cnn", "vgg16", "vgg19", "inception_v3"]


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return document


@pytest.fixture
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.mark.parametrize("name", ["params.yaml", "params.mura.yaml"])
def test_the_files_of_the_project_are_read(name: str) -> None:
    params = read_params(ROOT / name)
    assert list(params.train.candidates) == ARCHITECTURES
    assert [entry.architecture for entry in params.train.candidates.values()] == ARCHITECTURES


@pytest.mark.parametrize("chosen", [None, "all"])
def test_all_body_parts_are_read_unless_some_are_chosen(known: dict[str, Any], chosen: str | None) -> None:
    whole = IngestParams(tuning_fraction=0.25, body_parts=chosen)
    assert whole == IngestParams(tuning_fraction=0.25) == IngestParams.model_validate(known["ingest"])
    assert whole.chosen is None


def test_the_order_of_body_parts_has_no_meaning() -> None:
    one, other = (
        IngestParams(tuning_fraction=0.25, body_parts=parts) for parts in (["wrist", "elbow"], ["elbow", "wrist"])
    )
    assert one == other
    assert one.chosen == ("elbow", "wrist")


def test_choices_are_frozen(params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.shard.image_size = 1  # type: ignore[misc]


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *folders, key = place.split(".")

    def change(document: dict[str, Any]) -> None:
        for folder in folders:
            document = document[folder]
        document[key] = value

    return change


def drop(place: str) -> Callable[[dict[str, Any]], None]:
    *folders, key = place.split(".")

    def change(document: dict[str, Any]) -> None:
        for folder in folders:
            document = document[folder]
        del document[key]

    return change


BAD: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "unknown section": ("deploy: no such choice", put("deploy", {})),
    "unknown key": (r"shard\.image_sise: no such choice", put("shard.image_sise", 64)),
    "unknown key of a candidate": (
        r"train\.candidates\.vgg16\.lr: no such choice",
        put("train.candidates.vgg16.lr", 0.1),
    ),
    "unknown key of the default": (r"train\.default\.lr: no such choice", put("train.default.lr", 0.1)),
    "wrong value of the default": (r"train\.default\.epochs: .*greater than 0", put("train.default.epochs", 0)),
    "unknown architecture": (
        r"train\.candidates\.a\.architecture: .*'resnet'",
        put("train.candidates.a", {"architecture": "resnet"}),
    ),
    "no architecture": (r"train\.candidates\.a\.architecture: is missing", put("train.candidates.a", {})),
    "an entry without content": (
        r"train\.candidates\.a\.architecture: is missing",
        put("train.candidates.a", None),
    ),
    "a name that is no directory": (
        r"train\.candidates\.A/b\.candidate: .*a letter first",
        put("train.candidates.A/b", {"architecture": "vgg16"}),
    ),
    "no candidates": (r"train\.candidates: .*at least 1", put("train.candidates", {})),
    "missing section": ("promote: is missing", drop("promote")),
    "missing key": (r"ingest\.tuning_fraction: is missing", drop("ingest.tuning_fraction")),
    "a choice nobody makes": (r"train\.candidates\.custom_cnn\.epochs: is missing", drop("train.default.epochs")),
    "a section by its attribute": (
        "validate_: no such choice; did you mean validate",
        lambda d: d.update(validate_=d.pop("validate")),
    ),
    "a word for a number": (r"shard\.image_size: .*integer.*found 'large'", put("shard.image_size", "large")),
    "a fraction for a whole number": (r"seed: .*integer.*found 1\.5", put("seed", 1.5)),
    "nothing for a number": (r"shard\.images_per_shard: .*found None", put("shard.images_per_shard", None)),
    "a list for a section": (r"ingest: .*found \[1\]", put("ingest", [1])),
    "a number for the section": ("train: .*found 3", put("train", 3)),
    "a number for the candidates": (r"train\.candidates: .*found 3", put("train.candidates", 3)),
    "a number for a candidate": (r"train\.candidates\.vgg16: .*found 3", put("train.candidates.vgg16", 3)),
    "no default": (r"train\.default: is missing", drop("train.default")),
    "a candidate that says another name": (
        "train: .*the key vgg16 names the candidate",
        put("train.candidates.vgg16.candidate", "vgg19"),
    ),
    "an unknown body part": (
        r"ingest\.body_parts: .*no body part 'lower leg': expected a name such as wrist or lower_leg",
        put("ingest.body_parts", ["wrist", "lower leg"]),
    ),
    "a body part in capitals": (r"ingest\.body_parts: .*no body part 'WRIST'", put("ingest.body_parts", ["WRIST"])),
    "a body part twice": (r"ingest\.body_parts: .*named twice", put("ingest.body_parts", ["wrist", "wrist"])),
    "no body part": (r"ingest\.body_parts: .*expected all or a list", put("ingest.body_parts", [])),
    "a word for a list of body parts": (r"ingest\.body_parts: .*a list of body", put("ingest.body_parts", "wrist")),
    "a list of lists": (
        r"ingest\.body_parts: .*no body part \[",
        put("ingest.body_parts", [["wrist"]]),
    ),
    "a head before an untrained backbone": (
        r"train: .*candidates\.vgg16: head_epochs 2 has no effect with weights none",
        put("train.candidates.vgg16.head_epochs", 2),
    ),
    "a head of the default before an untrained backbone": (
        r"train: .*candidates\.custom_cnn: head_epochs 2 has no effect with weights none",
        put("train.default.head_epochs", 2),
    ),
    "a learning rate of no epochs": (
        r"train: .*candidates\.vgg16: head_learning_rate has no effect with head_epochs 0",
        put("train.candidates.vgg16.head_learning_rate", 0.01),
    ),
    "a width of another network": (
        r"train: .*candidates\.inception_v3: width has no effect on inception_v3",
        put("train.candidates.inception_v3.width", 16),
    ),
    "a momentum of no layers": (
        r"train: .*candidates\.vgg19: batch_norm_momentum has no effect on vgg19",
        put("train.candidates.vgg19.batch_norm_momentum", 0.5),
    ),
    "too small": (r"shard\.image_size: .*greater than or equal to 32, found 8", put("shard.image_size", 8)),
    "too large": (r"ingest\.tuning_fraction: .*less than 0\.5, found 0\.5", put("ingest.tuning_fraction", 0.5)),
    "negative": ("seed: .*found -1", put("seed", -1)),
    "not a number": (
        r"train\.candidates\.vgg16\.learning_rate: .*found nan",
        put("train.candidates.vgg16.learning_rate", float("nan")),
    ),
    "none of the choices": (r"protocol\.operating_point: .*'kappa'", put("protocol.operating_point", "best")),
    "a home directory": (r"archive: .*`~` is not expanded", put("archive", "~/MURA-v1.1.zip")),
    "another's home directory": (r"labels\.overlay: .*`~` is not expanded", put("labels.overlay", "~ann/labels.csv")),
    "no name": (r"archive: .*at least 1", put("archive", "")),
    "no name of a file": (r"archive: .*no file can have this name", put("archive", "a\0.zip")),
    "a choice of earlier versions": (
        r"train\.default\.weight_decay: is shrinkage now",
        put("train.default.weight_decay", 1e-4),
    ),
    "a choice in another section now": (
        r"promote\.min_auroc: moved to the section protocol",
        put("promote.min_auroc", 0.7),
    ),
    "a stressed candidate that there is not": (
        r"stress\.candidates: no candidate wide; there are custom_cnn, ",
        put("stress.candidates", ["wide"]),
    ),
    "a strength twice": (r"stress\.jpeg: .*named twice", put("stress.jpeg", [50, 50])),
    "a picture without contrast": (r"stress: .*nothing would be left", put("stress.contrast", [1.0])),
    "nothing is disturbed": (
        r"stress: .*no disturbance has a strength",
        lambda d: d["stress"].update({name: [] for name in DISTURBANCES}),
    ),
    "empty list": (r"validate\.modes: .*at least 1", put("validate.modes", [])),
}


@pytest.mark.parametrize(("reason", "change"), BAD.values(), ids=BAD)
def test_a_bad_choice_is_told_in_one_line_that_names_its_place(
    tmp_path: Path, known: dict[str, Any], reason: str, change: Callable[[dict[str, Any]], None]
) -> None:
    document = copy.deepcopy(known)
    change(document)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match=rf"params\.yaml: {reason}") as error:
        read_params(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


TOLD_FIRST: dict[str, tuple[type[Section], dict[str, Any], str]] = {
    "a misspelt name": (
        IngestParams,
        {"tuning_fracton": 0.2},
        "tuning_fracton: no such choice; did you mean tuning_fraction? (and 1 more).",
    ),
    "a wrong value": (
        IngestParams,
        {"body_parts": ["Knee"]},
        "body_parts: no body part 'Knee': expected a name such as wrist or lower_leg (and 1 more).",
    ),
    "a decimal comma": (
        IngestParams,
        {"tuning_fraction": "0,25"},
        "tuning_fraction: should be a valid number, found '0,25': write 0.25.",
    ),
    "nothing": (IngestParams, {}, "tuning_fraction: is missing; add it."),
}


@pytest.mark.parametrize(("kind", "document", "told"), TOLD_FIRST.values(), ids=TOLD_FIRST)
def test_the_cause_is_told_first(kind: type[Section], document: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(kind, document, "--params")
    assert str(error.value) == f"--params: {told}"


NEAR: dict[str, tuple[str, str]] = {
    "a section": ("promot", "promote"),
    "of the default": ("train.default.epoch", "epochs"),
    "of a candidate": ("train.candidates.vgg16.epoch", "epochs"),
    "of a step's profile": ("kubeflow.steps.train.gpu", "gpus"),
    "of an expectation": ("validate.expectations.mode.severty", "severity"),
}


@pytest.mark.parametrize(("place", "meant"), NEAR.values(), ids=NEAR)
def test_a_misspelt_name_is_told_with_the_right_one(
    tmp_path: Path, known: dict[str, Any], place: str, meant: str
) -> None:
    document = copy.deepcopy(known)
    *outer, name = place.split(".")
    at = document
    for key in outer:
        at[key] = at.get(key) or {}
        at = at[key]
    at[name] = 1
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match=re.escape(f"{place}: no such choice; did you mean {meant}?")):
        read_params(path)


def test_a_fault_that_candidates_inherit_counts_once(tmp_path: Path, known: dict[str, Any]) -> None:
    document = copy.deepcopy(known)
    document["train"]["default"]["epochs"] = "ten"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match=r"train\.default\.epochs: should be a valid integer, found 'ten'\.$"):
        read_params(path)


def test_broken_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\ningest:\n  tuning_fraction: 0.1\n   body_parts: all\n")
    with pytest.raises(UsageError, match=r"params\.yaml: not readable as YAML \(line 4: .*; look at the indentation"):
        read_params(path)


def test_further_errors_are_counted(tmp_path: Path, known: dict[str, Any]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(known | {"seed": -1, "archive": 3, "deploy": 1}))
    with pytest.raises(UsageError, match=r"\(and 2 more\)"):
        read_params(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the document: .*found None"),
        (b"- a\n- b\n", "the document: "),
        (b"seed: [1\narchive: }", "not readable as YAML"),
        (b"seed: \xff", "not readable as YAML"),
        (b"seed: !!python/object/apply:os.getcwd []", "not readable as YAML"),
    ],
    ids=["empty", "a list", "no YAML", "no UTF-8", "an object"],
)
def test_a_file_that_is_no_document_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"params\.yaml: {reason}") as error:
        read_params(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such file; run in the project's directory"):
        read_params(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="not readable as YAML"):
        read_params(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ingest", IngestParams),
        ("validate", ValidateParams),
        ("shard", ShardParams),
        ("train.vgg19", TrainParams),
        ("train.candidates.vgg19", TrainParams),
    ],
)
def test_a_section_is_found_by_its_name(params: Params, name: str, kind: type) -> None:
    assert isinstance(section(params, name, Path("params.yaml")), kind)


def test_a_candidate_is_the_default_and_what_it_changes(tmp_path: Path, known: dict[str, Any]) -> None:
    document = copy.deepcopy(known)
    document["stress"]["candidates"] = []
    document["ensembles"] = {}
    document["train"]["candidates"] = {
        "wide": {"architecture": "vgg16", "epochs": 3},
        "plain": {"architecture": "vgg16"},
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    wide, plain = read_params(path).train.candidates.values()
    assert (wide.candidate, wide.architecture, wide.epochs) == ("wide", "vgg16", 3)
    assert plain == wide.model_copy(update={"candidate": "plain", "epochs": document["train"]["default"]["epochs"]})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("deploy", "it has archive, seed, phantom, labels, ingest, validate"),
        ("validate_", "it has archive"),
        ("", "it has archive"),
        ("seed", "it has archive"),
        ("shard.image_size", "it has archive"),
        ("model_fields", "it has archive"),
        ("train", r"it has train\.custom_cnn, train\.vgg16"),
        ("train.resnet", r"it has train\.custom_cnn, train\.vgg16"),
        ("train.vgg16.epochs", r"it has train\.custom_cnn"),
    ],
)
def test_an_unknown_section_is_told_with_those_there_are(params: Params, name: str, known: str) -> None:
    with pytest.raises(UsageError, match=rf"params\.yaml: no section {name}; {known}") as error:
        section(params, name, Path("params.yaml"))
    assert "\n" not in str(error.value)


def test_a_section_from_json_is_checked_in_the_same_way() -> None:
    parsed = parse(ShardParams, {"image_size": 64, "images_per_shard": 5}, "--params")
    assert parsed == ShardParams(image_size=64, images_per_shard=5)
    with pytest.raises(UsageError, match=r"--params: seed: no such choice; remove it \(and 1 more\)"):
        parse(ShardParams, {"image_size": 64, "seed": 1}, "--params")
    with pytest.raises(UsageError, match="--params: the document: "):
        parse(ShardParams, [1], "--params")


def test_what_is_written_as_json_is_read_again(params: Params) -> None:
    for part in (params.ingest, params.validate_, params.shard, params.evaluate, *params.train.candidates.values()):
        assert parse(type(part), part.model_dump(mode="json"), "--params") == part


@pytest.mark.parametrize("name", ["params.yaml", "params.mura.yaml"])
@pytest.mark.parametrize(
    "change", ["seed=7", "archive=data/MURA-v1.1.zip", "train.default.epochs=30", "protocol.operating_point=half"]
)
def test_trying_a_change_with_dvc_leaves_every_other_line_as_it_is(tmp_path: Path, name: str, change: str) -> None:
    path = Path(shutil.copy(ROOT / name, tmp_path))
    before = path.read_text().splitlines()
    # What `dvc exp run --set-param` does to the file.
    apply_overrides(path, [change])
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    key, _, value = change.partition("=")
    assert all(key.rpartition(".")[2] in old and value in new for old, new in changed)


@pytest.mark.parametrize(
    "archive", ["~x.zip", "./~/x.zip", "data/~/x.zip", "-rf.zip", "a\nb.zip", "骨.zip", "s3://b/~"]
)
def test_a_place_may_have_any_other_name(tmp_path: Path, known: dict[str, Any], archive: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(known | {"archive": archive}))
    assert read_params(path).archive == archive


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.write_text("[" * 9999)],
    ids=["a pipe", "a device", "nested"],
)
def test_what_is_no_file_of_choices_is_not_waited_for(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "params.yaml")
    with pytest.raises(UsageError, match=r"params\.yaml: not readable as YAML"):
        read_params(tmp_path / "params.yaml")
