import pytest

from components.base.urls import without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@host:9000/path", "http://host:9000/path"),
        ("https://token@host", "https://host"),
        ("https://me:p@ss@host/x", "https://host/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("", ""),
    ],
)
def test_credentials_are_removed_and_nothing_else(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
