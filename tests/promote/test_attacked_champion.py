"""A champion that was tampered with, lost or forged: promotion is refused, and the ways out stay open."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from decided import ALIAS, Make, put
from tampering import files_of

from components import tracking
from components.artifacts.evidence import STUDIES
from components.base.errors import ExitCode
from components.promote.taking_back import take_back
from components.signing.directory import SIGNATURE
from components.tracking import audit, model_registry, split_data, stored_studies

pytestmark = pytest.mark.long

Mura = Callable[..., tuple[int, str, str]]
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(autouse=True)
def params_are_here(mlflow_here: Path) -> None:
    shutil.copy(PARAMS, mlflow_here)


@pytest.fixture
def champions(make_version: Make) -> None:
    """Version 2 is champion after version 1. Version 3 is better, and waits."""
    put(make_version(0.7))
    put(make_version(0.75, "vgg19"))
    make_version(0.8, "wide")


def damage_the_evidence() -> None:
    file = files_of("mura", 2) / "evidence/version.json"
    file.write_text(file.read_text().replace("0.", "0.1", 1))


def damage_the_signature() -> None:
    (files_of("mura", 2) / SIGNATURE).write_text("{}")


def lose_the_files() -> None:
    shutil.rmtree(files_of("mura", 2))


def delete_the_logged_model() -> None:
    client = tracking.connect()
    client.delete_logged_model(client.get_model_version("mura", "2").source.removeprefix("models:/"))


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "harm",
    [
        damage_the_evidence,
        *(
            pytest.param(each, marks=pytest.mark.longest)
            for each in (damage_the_signature, lose_the_files, delete_the_logged_model)
        ),
    ],
    ids=lambda f: f.__name__,
)
def test_a_worse_version_does_not_take_the_place_of_a_harmed_champion_and_a_rollback_works(
    harm: Callable[[], None], run_mura: Mura, make_version: Make
) -> None:
    harm()
    make_version(0.72, "narrow")
    code, _, err = run_mura("promote", "--candidate", "4")
    assert (code, "is refused" in err) == (ExitCode.GATE, True), err
    assert run_mura("champion")[1].startswith("mura version 2 is the champion")
    assert run_mura("rollback", "--reason", "its files are harmed") == (
        0,
        "mura version 1 is the champion again.\n",
        "",
    )
    assert audit.champion("mura", ALIAS) == 1


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "harm",
    [damage_the_evidence, pytest.param(delete_the_logged_model, marks=pytest.mark.longest)],
    ids=lambda f: f.__name__,
)
def test_one_may_begin_anew_after_a_harmed_champion(harm: Callable[[], None], run_mura: Mura) -> None:
    harm()
    code, out, err = run_mura("promote", "--candidate", "3", "--first")
    assert (code, out.startswith("promoted, entry 3")) == (0, True), err


def test_what_is_said_of_a_champion_in_tags_does_not_outrank_the_signed_record(
    make_version: Make, run_mura: Mura, mlflow_here: Path
) -> None:
    worst = make_version(0.7)
    put(worst)
    best = make_version(0.85, "vgg19")
    put(best)
    make_version(0.78, "wide")
    # Everything that one may change without a key: the files, the tags, the metrics, the table of studies.
    client = tracking.connect()
    (files_of("mura", 2) / SIGNATURE).unlink()
    forged = best.model_copy(update={"scores": worst.scores})
    client.set_model_version_tag("mura", "2", model_registry.FACTS, forged.model_dump_json(exclude={"version"}))
    for name, text in model_registry.tags_of_version(forged).items():
        client.set_model_version_tag("mura", "2", name, text)
    for _, name, value in split_data.score_values(forged.scores):
        client.log_metric(best.run_id, name, value, step=9)
    table = pd.read_parquet(files_of("mura", 1) / STUDIES)[list(stored_studies.COLUMNS)]
    table.to_parquet("studies.parquet", index=False)
    client.log_artifact(best.run_id, "studies.parquet", stored_studies.folder(forged.evaluation_digest))
    client.set_model_version_tag("mura", "2", stored_studies.SHA256, stored_studies.sha256(table))
    code, _, err = run_mura("promote", "--candidate", "3")
    assert (code, "is refused" in err) == (ExitCode.GATE, True), err
    assert audit.champion("mura", ALIAS) == 2
    question = audit.read("mura")[-1].question
    assert question is not None
    assert question.champion == best


def test_a_network_that_was_taken_back_does_not_come_back_under_another_number(make_version: Make) -> None:
    put(make_version(0.7))
    taken = make_version(0.8, "vgg19")
    put(taken)
    take_back("mura", ALIAS, None, "wrong on elbows")
    again = make_version(0.8, "vgg19", min_gain=0.011)
    assert (again.version, again.model_digest) == (3, taken.model_digest)
    made = put(again)
    assert made.decision.outcome == "refused"
    assert "wrong on elbows" in " ".join(made.decision.reasons)
    assert put(again, candidate=3).decision.outcome == "promoted"


@pytest.mark.longest
def test_beginning_anew_with_a_version_below_its_floors_is_refused_with_the_reasons(
    make_version: Make, run_mura: Mura
) -> None:
    put(make_version(0.7))
    put(make_version(0.69, "narrow"))
    put(make_version(0.75, "vgg19"))
    make_version(0.52, "bad")
    tracking.connect().delete_model_version("mura-audit", "2")
    code, _, err = run_mura("promote", "--candidate", "4", "--first")
    assert code == ExitCode.GATE
    assert "test AUROC" in err
    assert audit.look("mura").last == 3


def test_an_entry_of_another_record_breaks_the_record_into_which_it_was_copied(make_version: Make) -> None:
    put(make_version(0.7))
    client = tracking.connect()
    entry = client.get_model_version("mura-audit", "1")
    client.create_registered_model("other-audit")
    client.create_model_version("other-audit", source=entry.source, run_id=entry.run_id, tags=dict(entry.tags))
    found = audit.look("other")
    assert (found.entries, found.broken) == ((), "entry 1 is of the record of mura")


def test_the_file_of_params_names_the_model_too(make_version: Make, run_mura: Mura) -> None:
    put(make_version(0.7))
    Path("other.yaml").write_text(Path("params.yaml").read_text().replace("  model: mura\n", "  model: other\n"))
    code, _, err = run_mura("promote", "--params", "other.yaml:promote", "--candidate", "1", "--dry-run")
    assert (code, err) == (ExitCode.USAGE, "error: promote: other has no version 1. `mura models` lists them.\n")


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("harm", "says"), [(damage_the_signature, "not believed: mura verify"), (lose_the_files, "its files are lost")]
)
def test_versions_are_listed_with_what_is_wrong_with_one(harm: Callable[[], None], says: str, run_mura: Mura) -> None:
    harm()
    code, out, _ = run_mura("models")
    assert code == 0
    assert [line.split("  ")[0].strip() for line in out.splitlines()] == ["version", "1", "2", "3"]
    assert says in out.splitlines()[2]


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", "--reason", "\udcff"),
        ("promote", "--candidate", "9" * 20),
        *(
            pytest.param(each, marks=pytest.mark.longest)
            for each in (
                ("rollback", "--reason", "two\nlines"),
                ("promote", "--candidate", "1", "--reason", "x" * 1001),
                ("promote", "--candidate", "²"),
                ("compare", "9" * 20, "1"),
                ("rollback", "--to", "9" * 20, "--reason", "x"),
            )
        ),
    ],
    ids=lambda words: ascii(" ".join(words))[:40],
)
def test_reasons_and_numbers_that_cannot_be_are_refused(
    words: tuple[str, ...], make_version: Make, run_mura: Mura
) -> None:
    put(make_version(0.7))
    put(make_version(0.8, "vgg19"))
    code, _, err = run_mura(*words)
    assert code == ExitCode.USAGE, err
    assert "Traceback" not in err
