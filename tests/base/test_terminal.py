"""What others wrote is printed so that the terminal does not obey it, and without secrets."""

import io
import logging
import sys

import pytest
from rich.table import Table

from components.base.console import Console
from components.base.terminal import Formatter, harmless, tell

# A colour, a window's title, a link that shows other words, the same with C1, a bell, a cursor, right to left, a line
# that is written over another, a surrogate.
OBEYED = (
    "\x1b[31m \x1b]0;owned\x07 \x1b]8;;http://evil\x1b\\x \x9b31m \x9d0;x\x9c \x08 \x7f \u202e \u2066 \r \x0b \ud800"
)
SECRET = "c0rrect-horse"


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def test_a_terminal_obeys_nothing_of_it_and_nothing_is_lost() -> None:
    told = harmless(f"a\t{OBEYED}\nb")
    assert is_harmless(told)
    assert told.startswith("a\t\\x1b[31m \\x1b]0;owned\\x07 ")
    assert "\\u202e" in told
    assert told.endswith("\nb")
    assert harmless("骨 é ☃ 'x' [bold]") == "骨 é ☃ 'x' [bold]"


def test_what_is_printed_and_logged_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    tell(OBEYED)
    tell(OBEYED, err=True, bold=True)
    out, err = capsys.readouterr()
    assert is_harmless(out)
    assert is_harmless(err)
    assert "owned" in out
    assert "owned" in err
    record = logging.LogRecord("x", logging.INFO, "", 1, "%s\nsecond", (OBEYED,), None)
    assert is_harmless(Formatter("%(levelname)s %(message)s").format(record))


def test_a_traceback_is_harmless_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    try:
        raise ValueError(f"{OBEYED} {SECRET}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "m", (), sys.exc_info())
    told = Formatter().format(record)
    assert is_harmless(told)
    assert "ValueError" in told
    assert SECRET not in told


@pytest.mark.parametrize("name", ["artifacts/[red]x[/red]", "[/]", "a[b", ":bone:", f"x{OBEYED}"])
def test_a_table_shows_every_name_as_it_is(name: str) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200)
    table = Table(title=name)
    table.add_column("step")
    table.add_row(name)
    console.print(table)
    console.print(name, style="bold")
    said = file.getvalue()
    assert is_harmless(said)
    assert said.count(harmless(name)) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("MURA_WEBHOOK_URL", f"https://hooks.example/{SECRET}"),
        ("KF_PIPELINES_TOKEN", SECRET),
        ("MLFLOW_TRACKING_URI", f"https://me:{SECRET}@host"),
        ("MLFLOW_TRACKING_URI", f"postgresql://me:{SECRET.replace('-', '%2D')}@host/db"),
    ],
)
def test_secrets_of_the_environment_are_not_told_whoever_names_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    told = harmless(f"the server says: {value} and {value.rpartition('@')[0].rpartition(':')[2] or value}, twice")
    assert SECRET not in told
    assert "***" in told
    assert "the server says" in told
    if "%2D" in value:
        assert SECRET not in harmless(f"no user has the password {SECRET}")


def test_a_short_word_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "mlflow")
    assert harmless("mlflow works") == "mlflow works"
