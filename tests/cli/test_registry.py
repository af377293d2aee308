import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from decided import ALIAS, Make, put
from servers import free_port

from components import tracking
from components.base.errors import ExitCode
from components.tracking import audit

PARAMS = Path(__file__).parents[2] / "params.yaml"
Mura = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def params_are_here(mlflow_here: Path) -> None:
    shutil.copy(PARAMS, mlflow_here)


@pytest.mark.long
def test_without_a_receipt_a_version_is_promoted_by_its_number(make_version: Make, run_mura: Mura) -> None:
    make_version(0.7)
    code, out, _ = run_mura("promote", "--candidate", "1", "--reason", "the first", "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["champion"], told["entry"]) == (0, "promoted", 1, 1)
    assert audit.read("mura")[0].why == "the first"
    make_version(0.69, "vgg19")
    code, out, _ = run_mura("promote", "--candidate", "2")
    assert (code, out.partition(":")[0]) == (0, "kept, entry 2 of mura-audit")


@pytest.mark.long
def test_a_dry_run_says_so_and_writes_nothing(make_version: Make, run_mura: Mura) -> None:
    make_version(0.7)
    code, out, _ = run_mura("promote", "--candidate", "1", "--dry-run")
    assert (code, out.partition(":")[0]) == (0, "promoted, written nowhere")
    assert audit.look("mura").last == 0


def test_a_refusal_ends_with_4(make_version: Make, run_mura: Mura) -> None:
    make_version(0.52)
    code, _, err = run_mura("promote", "--candidate", "1")
    assert code == ExitCode.GATE
    assert "promote: vgg16 is refused: " in err.splitlines()[-1]


@pytest.mark.long
def test_the_history_reads_like_a_log(make_version: Make, run_mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    assert run_mura("history")[1] == "Nothing was decided about mura yet.\n"
    put(make_version(0.7), reason="the first")
    put(make_version(0.8, "vgg19"))
    code, _, _ = run_mura("rollback", "--reason", "wrong on elbows")
    assert code == 0
    code, out, _ = run_mura("history")
    moments = [line for line in out.splitlines() if " UTC  " in line]
    assert (code, len(moments)) == (0, 3)
    assert moments[0].endswith("  1  Version 1 became the champion. By kim. Reason: the first")
    assert moments[1].endswith("  2  Version 2 became the champion in place of version 1. By kim.")
    assert moments[2].endswith(
        "  3  Taken back: version 1 is the champion again in place of version 2. By kim. Reason: wrong on elbows"
    )
    lines = json.loads(run_mura("history", "--json")[1])["entries"]
    assert [(each["who"], each["before"], each["after"]) for each in lines] == [
        ("kim", None, 1), ("kim", 1, 2), ("kim", 2, 1),
    ]  # fmt: skip


@pytest.mark.long
def test_a_broken_record_is_shown_and_ends_with_3(make_version: Make, run_mura: Mura) -> None:
    put(make_version(0.7))
    put(make_version(0.6, "vgg19"))
    put(make_version(0.8, "wide"))
    tracking.connect().delete_model_version("mura-audit", "2")
    code, out, err = run_mura("history")
    assert code == ExitCode.DATA
    assert "Version 1 became the champion" in out
    assert "entry 2 was deleted" in err


@pytest.mark.long
def test_the_champion_is_named_or_said_to_be_gone(make_version: Make, run_mura: Mura) -> None:
    assert run_mura("champion")[:2] == (0, "mura has no champion.\n")
    put(make_version(0.7))
    code, out, _ = run_mura("champion")
    assert (code, out.splitlines()[0][:48]) == (0, "mura version 1 is the champion: VGG-16, AUROC 0.")
    assert json.loads(run_mura("champion", "--json")[1])["version"] == 1
    tracking.connect().delete_registered_model_alias("mura", ALIAS)
    code, _, err = run_mura("champion")
    assert code == ExitCode.GATE
    assert "The alias champion was deleted; the record says that mura version 1 holds it." in err


@pytest.mark.long
def test_versions_are_listed_with_their_aliases(make_version: Make, run_mura: Mura) -> None:
    put(make_version(0.7))
    make_version(0.8, "vgg19")
    code, out, _ = run_mura("models")
    heading, first, second = out.splitlines()
    assert code == 0
    assert heading.split()[:2] == ["version", "candidate"]
    assert first.endswith("champion")
    assert second.split()[:2] == ["2", "vgg19"]
    assert [each["aliases"] for each in json.loads(run_mura("models", "--json")[1])] == [["champion"], []]


@pytest.mark.long
def test_two_versions_are_compared_on_tuning_unless_test_is_asked_for(make_version: Make, run_mura: Mura) -> None:
    make_version(0.7)
    make_version(0.8, "vgg19")
    code, out, _ = run_mura("compare", "2", "1")
    assert code == 0
    assert out.startswith("mura version 2 minus version 1:\n  tuning  AUROC")
    assert "test" not in out
    assert "  test    AUROC" in run_mura("compare", "2", "1", "--test")[1]
    code, _, err = run_mura("compare", "2", "7")
    assert code == ExitCode.USAGE
    assert "mura has no version 7" in err


@pytest.mark.parametrize("words", [("champion",), ("history",), ("models",), ("rollback", "--reason", "x")])
def test_a_server_that_does_not_answer_ends_with_5(
    words: tuple[str, ...], run_mura: Mura, tmp_path: Path, no_mlflow: pytest.MonkeyPatch
) -> None:
    no_mlflow.chdir(tmp_path)
    shutil.copy(PARAMS, tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert run_mura(*words)[0] == ExitCode.OUTSIDE


@pytest.mark.long
def test_verify_says_what_was_decided_about_a_version(make_version: Make, run_mura: Mura) -> None:
    put(make_version(0.7))
    make_version(0.6, "vgg19")
    assert (
        run_mura("verify", "models:/mura/1")[1]
        .splitlines()[-1]
        .startswith("ok             record      entry 1 of mura-audit")
    )
    assert "record      nothing was decided about it" in run_mura("verify", "models:/mura/2")[1]
    put(make_version(0.8, "wide"))
    tracking.connect().delete_model_version("mura-audit", "1")
    code, _, err = run_mura("verify", "models:/mura/1")
    assert (code, "the first broken link is record: mura-audit is broken" in err) == (3, True)
