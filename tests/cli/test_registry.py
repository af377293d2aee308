import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from decided import ALIAS, Make, maker, put
from servers import free_port

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base.errors import ExitCode
from components.cli import main
from components.tracking import audit

PARAMS = Path(__file__).parents[2] / "params.yaml"
Mura = Callable[..., tuple[int, str, str]]


@pytest.fixture
def make(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> Make:
    shutil.copy(PARAMS, mlflow_here)
    return maker(make_model, make_evaluation, make_tracked, register_hollow)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Mura:
    """Runs a command: exit code, what it printed, what it complained."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(words)
        return code, *capsys.readouterr()

    return run


def test_without_a_receipt_a_version_is_promoted_by_its_number(make: Make, said: Mura) -> None:
    make(0.7)
    code, out, _ = said("promote", "--candidate", "1", "--reason", "the first", "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["champion"], told["entry"]) == (0, "promoted", 1, 1)
    assert audit.read("mura")[0].why == "the first"
    make(0.69, "vgg19")
    code, out, _ = said("promote", "--candidate", "2")
    assert (code, out.partition(":")[0]) == (0, "kept, entry 2 of mura-audit")


@pytest.mark.long
def test_a_dry_run_says_so_and_writes_nothing(make: Make, said: Mura) -> None:
    make(0.7)
    code, out, _ = said("promote", "--candidate", "1", "--dry-run")
    assert (code, out.partition(":")[0]) == (0, "promoted, written nowhere")
    assert audit.look("mura").last == 0


def test_a_refusal_ends_with_4(make: Make, said: Mura) -> None:
    make(0.52)
    code, _, err = said("promote", "--candidate", "1")
    assert code == ExitCode.GATE
    assert "promote: vgg16 is refused: " in err.splitlines()[-1]


def test_the_history_reads_like_a_log(make: Make, said: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    assert said("history")[1] == "Nothing was decided about mura yet.\n"
    put(make(0.7), reason="the first")
    put(make(0.8, "vgg19"))
    code, _, _ = said("rollback", "--reason", "wrong on elbows")
    assert code == 0
    code, out, _ = said("history")
    moments = [line for line in out.splitlines() if " UTC  " in line]
    assert (code, len(moments)) == (0, 3)
    assert moments[0].endswith("  1  Version 1 became the champion. By kim. Reason: the first")
    assert moments[1].endswith("  2  Version 2 became the champion in place of version 1. By kim.")
    assert moments[2].endswith(
        "  3  Taken back: version 1 is the champion again in place of version 2. By kim. Reason: wrong on elbows"
    )
    lines = json.loads(said("history", "--json")[1])["entries"]
    assert [(each["who"], each["before"], each["after"]) for each in lines] == [
        ("kim", None, 1), ("kim", 1, 2), ("kim", 2, 1),
    ]  # fmt: skip


@pytest.mark.long
def test_a_broken_record_is_shown_and_ends_with_3(make: Make, said: Mura) -> None:
    put(make(0.7))
    put(make(0.6, "vgg19"))
    put(make(0.8, "wide"))
    tracking.connect().delete_model_version("mura-audit", "2")
    code, out, err = said("history")
    assert code == ExitCode.DATA
    assert "Version 1 became the champion" in out
    assert "entry 2 was deleted" in err


def test_the_champion_is_named_or_said_to_be_gone(make: Make, said: Mura) -> None:
    assert said("champion")[:2] == (0, "mura has no champion.\n")
    put(make(0.7))
    code, out, _ = said("champion")
    assert (code, out.splitlines()[0][:48]) == (0, "mura version 1 is the champion: VGG-16, AUROC 0.")
    assert json.loads(said("champion", "--json")[1])["version"] == 1
    tracking.connect().delete_registered_model_alias("mura", ALIAS)
    code, _, err = said("champion")
    assert code == ExitCode.GATE
    assert "The alias champion was deleted; the record says that mura version 1 holds it." in err


@pytest.mark.long
def test_versions_are_listed_with_their_aliases(make: Make, said: Mura) -> None:
    put(make(0.7))
    make(0.8, "vgg19")
    code, out, _ = said("models")
    heading, first, second = out.splitlines()
    assert code == 0
    assert heading.split()[:2] == ["version", "candidate"]
    assert first.endswith("champion")
    assert second.split()[:2] == ["2", "vgg19"]
    assert [each["aliases"] for each in json.loads(said("models", "--json")[1])] == [["champion"], []]


@pytest.mark.long
def test_two_versions_are_compared_on_tuning_unless_test_is_asked_for(make: Make, said: Mura) -> None:
    make(0.7)
    make(0.8, "vgg19")
    code, out, _ = said("compare", "2", "1")
    assert code == 0
    assert out.startswith("mura version 2 minus version 1:\n  tuning  AUROC")
    assert "test" not in out
    assert "  test    AUROC" in said("compare", "2", "1", "--test")[1]
    code, _, err = said("compare", "2", "7")
    assert code == ExitCode.USAGE
    assert "mura has no version 7" in err


@pytest.mark.parametrize("words", [("champion",), ("history",), ("models",), ("rollback", "--reason", "x")])
def test_a_server_that_does_not_answer_ends_with_5(
    words: tuple[str, ...], said: Mura, tmp_path: Path, no_mlflow: pytest.MonkeyPatch
) -> None:
    no_mlflow.chdir(tmp_path)
    shutil.copy(PARAMS, tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert said(*words)[0] == ExitCode.OUTSIDE


@pytest.mark.long
def test_verify_says_what_was_decided_about_a_version(make: Make, said: Mura) -> None:
    put(make(0.7))
    make(0.6, "vgg19")
    assert (
        said("verify", "models:/mura/1")[1]
        .splitlines()[-1]
        .startswith("ok             record      entry 1 of mura-audit")
    )
    assert "record      nothing was decided about it" in said("verify", "models:/mura/2")[1]
    put(make(0.8, "wide"))
    tracking.connect().delete_model_version("mura-audit", "1")
    code, _, err = said("verify", "models:/mura/1")
    assert (code, "the first broken link is record: mura-audit is broken" in err) == (3, True)
