import pytest

from components.base.urls import mlflow_page, without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@host:9000/path", "http://host:9000/path"),
        ("https://token@host", "https://host"),
        ("https://me:p@ss@host/x", "https://host/x"),
        ("http://me:p/ss@host/x", "http://host/x"),
        ("postgresql+psycopg2://me:p#ss?w@host/x", "postgresql+psycopg2://host/x"),
        ("http://me:1234@host/x", "http://host/x"),
        ("//me:secret@host/x", "//host/x"),
        ("me:secret@host:9000", "host:9000"),
        ("MLFLOW_TRACKING_URI is 'me:secret@host'", "MLFLOW_TRACKING_URI is 'host'"),
        ("http://host/x?user=me&password=secret&y=1#top", "http://host/x?user=me&password=***&y=1#top"),
        ("http://host/?token=secret;x=1", "http://host/?token=***;x=1"),
        ("http://host/?key=secret", "http://host/?key=***"),
        ("http://host/#access_token=secret", "http://host/#access_token=***"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=A%2F1&X-Amz-Date=2&X-Amz-Security-Token=a/b&X-Amz-Signature=c",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Security-Token=***&X-Amz-Signature=***",
        ),
        ("https://b/k?AWSAccessKeyId=a&Signature=b&Expires=1", "https://b/k?AWSAccessKeyId=***&Signature=***&Expires=1"),
        ("https://storage/k?X-Goog-Signature=a&x=1", "https://storage/k?X-Goog-Signature=***&x=1"),
        ("https://a.blob.core.windows.net/c?sv=2024&sig=a%3D&se=1", "https://a.blob.core.windows.net/c?sv=2024&sig=***&se=1"),
        ("DefaultEndpointsProtocol=https;AccountKey=ab==;x=1", "DefaultEndpointsProtocol=https;AccountKey=***;x=1"),
        ("host=h password=secret user=me", "host=h password=*** user=me"),
        ("password='a b' x", "password=*** x"),
        ('{"password": "secret", "user": "me"}', '{"password": ***, "user": "me"}'),
        ("AWS_SECRET_ACCESS_KEY=secret", "AWS_SECRET_ACCESS_KEY=***"),
        ("Authorization: Basic bWU6c2VjcmV0", "Authorization: Basic ***"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc", "Bearer ***"),
        (
            "Could not connect to 'http://me:secret@host:9/x', asked http://you:secret@other twice",
            "Could not connect to 'http://host:9/x', asked http://other twice",
        ),
    ],
)  # fmt: skip
def test_secrets_are_removed(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b",
        "https://host:80/a@b",
        "http://[::1]:5000/a@b",
        "sqlite:///mlflow.db",
        "sqlite:////data/x:y@z.db",
        "models:/mura@champion",
        "mura:cpu-1@sha256:0123",
        "12:30, ask a@b",
        "registry.example/mura@sha256:0123",
        "http://host:5000, or ask a@b",
        "a bearer of good news",
        "KF_PIPELINES_TOKEN=$(kubectl create token ...) or KF_PIPELINES_COOKIE='name=value'",
        "--set token=... --set password=<yours>",
        "train/XR_WRIST/patient00001/study1_negative/image1.png",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_credentials(text) == text


@pytest.mark.parametrize("piece", ["a", "a.", "http://", "a://a:b", "password", "'", "x:@"])
def test_a_long_line_of_others_is_read_in_steps_as_many_as_its_length_asks_for(piece: str) -> None:
    # With the square of the length it would take minutes.
    line = piece * (60_000 // len(piece)) + " @=:"
    assert without_credentials(line) == line


@pytest.mark.parametrize(
    ("uri", "page", "address"),
    [
        ("http://mlflow:5000/", "", "http://mlflow:5000/#/?workflowType=machine_learning"),
        (
            "https://ann:secret@mlflow.example.org/team",
            "models/a model/versions/3",
            "https://mlflow.example.org/team/#/models/a%20model/versions/3?workflowType=machine_learning",
        ),
        ("sqlite:///mlflow.db", "models/mura", ""),
        ("off", "", ""),
    ],
)
def test_pages_of_mlflow_open_as_trainings(uri: str, page: str, address: str) -> None:
    assert mlflow_page(uri, page) == address
