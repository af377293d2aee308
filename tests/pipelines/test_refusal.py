"""What goes wrong between us and Kubeflow Pipelines, told in one line; and who we say we are."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certificates
import pytest
from kubeflow_api import Fault, KubeflowApi, Mura, serve
from servers import free_port

SECRET = "eyJhbGciOi.c2VjcmV0.signature"
LOGIN = b"<!doctype html><title>Dex</title><form action=/login>"


def json_error(message: str) -> bytes:
    return json.dumps({"error": message, "code": 13, "message": message, "details": []}).encode()


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (
            Fault("healthz", 401, b"Jwt is missing", "text/plain"),
            5,
            "does not accept our login while asking for its version",
        ),
        (Fault("healthz", 403, b"RBAC: access denied", "text/plain"), 5, "does not allow asking for its version (403)"),
        (
            Fault("healthz", 404, b"<html>nginx</html>", "text/html"),
            5,
            "has nothing at /apis/v2beta1 (404). Is this the",
        ),
        (Fault("healthz", 200, LOGIN, "text/html"), 5, "answered with a login page instead of JSON"),
        (Fault("healthz", 302, b"", headers={"location": "/dex/auth"}), 5, "(404). Is this the address of the API?"),
        (Fault("healthz", 200, b"ok", "text/plain"), 5, "content of type text/plain instead of JSON"),
        (
            Fault("healthz", 200, b'{"status": "ok"}'),
            5,
            "but is not the API of Kubeflow Pipelines: expected `multi_user`",
        ),
        (Fault("healthz", 200, b'{"apiServerReady": false}'), 5, "the API behind it does not answer"),
        (Fault("healthz", 200, b'["x"]'), 5, "but is not the API of Kubeflow Pipelines"),
        (Fault("healthz", 400, b"Client sent an HTTP request to an HTTPS server.", "text/plain"), 5, "write https://"),
        (Fault("healthz", 500, b"\xff\xfe", "text/plain"), 5, "an answer that kfp's client does not understand"),
        (
            Fault("healthz", 503, b"no healthy upstream", "text/plain"),
            5,
            "is not ready while asking for its version (503)",
        ),
        (Fault("healthz", 429, b"slow down", "text/plain"), 5, "is not ready while asking for its version (429)"),
        (Fault("runs", 500, json_error("Internal Server Error")), 5, "(500): Internal Server Error. Its log: kubectl"),
        (
            Fault("runs", 500, json_error("Internal error: Unauthenticated: no user identity header")),
            5,
            "accept our login",
        ),
        (Fault("runs", 500, json_error('namespaces "radiolgy" not found')), 2, "has no namespace radiolgy"),
        (Fault("runs", 403, json_error("User 'ada' is not authorized")), 5, "does not allow listing runs (403): User"),
        (
            Fault("runs", 403, json_error("User 'system:serviceaccount:a:default-editor' is not authorized")),
            5,
            "role kubeflow-edit",
        ),
        (
            Fault("runs", 403, json_error('Service account "mura-runner" is not in the allowed list')),
            5,
            "does not allow listing runs with this service account (403): Service account",
        ),
        (
            Fault("runs", 403, json_error("User 'ada' is not authorized: Verb:use,Resource:serviceaccounts,")),
            5,
            "has to list the account and let you use it",
        ),
        (Fault("runs", 404, json_error("Namespace not found.")), 2, "found nothing while listing runs (404)"),
        (Fault("runs", 409, json_error("The name already exist")), 2, "it exists already (409)"),
        (
            Fault("runs", 400, json_error("Invalid input error: page token")),
            2,
            "refused listing runs (400): Invalid input",
        ),
        (Fault("runs", 418, b"", "text/plain"), 2, "refused listing runs (418)"),
    ],
)
def test_every_refusal_has_one_line_and_its_exit_code(
    api: KubeflowApi, mura: Mura, fault: Fault, code: int, words: str
) -> None:
    api.faults.append(fault)
    found, out, err = mura("watch", "anything")
    assert (found, out) == (code, ""), err
    assert words in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert api.url in err


def test_the_user_interface_passes_questions_on(api: KubeflowApi, mura: Mura) -> None:
    said = b'{"apiServerMultiUser": false, "apiServerTagName": "2.17.0", "apiServerReady": true, "multi_user": false}'
    api.faults.append(Fault("healthz", 200, said))
    assert "No run whose name or id begins with anything" in mura("watch", "anything")[2]


def test_a_proxy_is_used_where_one_is_set(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    # The server of these tests does what a proxy would: it answers requests for another host.
    monkeypatch.setenv("http_proxy", api.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    words = ("watch", "anything", "--host", "http://kubeflow.invalid")
    assert "No run whose name or id begins with anything" in mura(*words)[2]
    assert api.requests[0] == ("GET", "http://kubeflow.invalid/apis/v2beta1/healthz")
    monkeypatch.setenv("no_proxy", "kubeflow.invalid")
    assert "is not known" in mura(*words)[2]
    assert "No run whose name" in mura("watch", "anything")[2]


def test_a_server_that_is_slow(api: KubeflowApi, mura: Mura) -> None:
    api.faults.append(Fault("healthz", 0, seconds=0.4))
    code, _, err = mura("watch", "anything", "--timeout", "0.05")
    assert code == 5
    assert "no answer in 0.05 s, asked four times" in err


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("http://127.0.0.1:{port}", "connection refused. Check the port."),
        ("http://no-such-host.invalid", "the name no-such-host.invalid is not known"),
    ],
)
def test_nobody_there(mura: Mura, host: str, words: str) -> None:
    code, _, err = mura("watch", "anything", "--host", host.format(port=free_port()))
    assert code == 5
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_connection_that_breaks_off(mura: Mura) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            for _ in range(4):
                listening.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        code, _, err = mura("watch", "anything", "--host", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert code == 5
    assert "closed the connection while asking for its version" in err


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "Where is Kubeflow Pipelines? Name it with --host or KF_PIPELINES_ENDPOINT"),
        ("localhost:8888", "--host localhost:8888: expected http://... or https://..."),
        ("ftp://x", "expected http://... or https://..."),
        ("http://ada:hunter22@kubeflow", "--host http://kubeflow: a user name or password in the address is not sent"),
    ],
)
def test_an_address_that_is_none(mura: Mura, monkeypatch: pytest.MonkeyPatch, host: str, words: str) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
    code, _, err = mura("watch", "anything")
    assert code == 2
    assert words in err
    assert "hunter22" not in err


def test_many_users_need_a_namespace(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    api.multi_user = True
    code, _, err = mura("watch", "anything")
    assert code == 2
    assert "has a namespace for each user: name yours with --namespace or KF_PIPELINES_NAMESPACE" in err
    code, _, err = mura("watch", "anything", "--namespace", "cardiology")
    assert code == 5
    assert "role kubeflow-edit in the namespace cardiology; a namespace that does not exist is refused" in err
    monkeypatch.setenv("KF_PIPELINES_NAMESPACE", "radiology")
    code, _, err = mura("watch", "anything")
    assert code == 2
    assert "No run in radiology whose name or id begins with anything" in err


@contextmanager
def tls(folder: Path) -> Iterator[tuple[KubeflowApi, Path]]:
    """A server with a certificate of its own making, and the certificate."""
    public, private = certificates.make(folder / "server.pem", folder / "server.key")
    with serve(KubeflowApi(), (public, private)) as running:
        yield running, public


def test_a_certificate_has_to_be_trusted(mura: Mura, tmp_path: Path) -> None:
    with tls(tmp_path) as (api, certificate):
        code, _, err = mura("watch", "anything", "--host", api.url)
        assert code == 5
        assert "its certificate is not trusted (self-signed certificate)" in err
        assert "--ca FILE" in err
        for trusting in (("--ca", str(certificate)), ("--insecure",)):
            code, _, err = mura("watch", "anything", "--host", api.url, *trusting)
            assert "No run whose name or id begins with anything" in err
        code, _, err = mura("watch", "anything", "--host", api.url, "--ca", str(tmp_path / "none.pem"))
        assert code == 2


def test_plain_http_where_tls_was_expected(api: KubeflowApi, mura: Mura) -> None:
    code, _, err = mura("watch", "anything", "--host", api.url.replace("http://", "https://"))
    assert code == 5
    assert "speaks plain HTTP: write http:// instead of https://" in err


@pytest.mark.parametrize("auth", [(), ("--auth", "token")])
def test_a_token_is_sent(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch, auth: tuple[str, ...]) -> None:
    api.token = SECRET
    assert mura("watch", "anything")[0] == 5
    monkeypatch.setenv("KF_PIPELINES_TOKEN", SECRET)
    assert "No run whose name" in mura("watch", "anything", *auth)[2]


def test_a_cookie_is_sent(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    api.cookie = f"oauth2_proxy_kubeflow={SECRET}"
    monkeypatch.setenv("KF_PIPELINES_COOKIE", api.cookie)
    assert "No run whose name" in mura("watch", "anything")[2]
    assert mura("watch", "anything", "--auth", "none")[0] == 5


def test_a_service_account_s_token_is_read_anew_for_each_request(
    api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    code, _, err = mura("watch", "anything", "--auth", "service-account")
    assert (code, "no token at" in err) == (2, True)
    token.write_text("first\n")
    api.token = "second"
    run = api.run("mura-1", ("RUNNING", {}), ("SUCCEEDED", {}))
    answer = api.answer

    def renewed(*request: object) -> object:
        token.write_text("second")
        return answer(*request)  # type: ignore[arg-type]

    assert mura("watch", run)[0] == 5
    monkeypatch.setattr(api, "answer", renewed)
    assert mura("watch", run)[0] == 5
    assert mura("watch", run, "--interval", "0")[0] == 0


@pytest.mark.parametrize(
    ("surroundings", "flags", "words"),
    [
        ({"KF_PIPELINES_TOKEN": "a", "KF_PIPELINES_COOKIE": "b"}, (), "choose one with --auth"),
        ({}, ("--auth", "token"), "KF_PIPELINES_TOKEN is not set"),
        ({}, ("--auth", "cookie"), "KF_PIPELINES_COOKIE is not set"),
        ({"KF_PIPELINES_TOKEN": "a\nb"}, (), "KF_PIPELINES_TOKEN: expected one line of ASCII"),
    ],
)
def test_who_we_are_has_to_be_clear(
    mura: Mura, monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], flags: tuple[str, ...], words: str
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    code, _, err = mura("watch", "anything", *flags)
    assert code == 2
    assert words in err


@pytest.mark.parametrize("way", ["token", "cookie", "service-account"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 500, 503])
def test_no_secret_is_ever_shown(
    api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, status: int
) -> None:
    (tmp_path / "token").write_text(SECRET)
    variable, value = {
        "token": ("KF_PIPELINES_TOKEN", SECRET),
        "cookie": ("KF_PIPELINES_COOKIE", f"a=b; session={SECRET}"),
        "service-account": ("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token")),
    }[way]
    monkeypatch.setenv(variable, value)
    # A server that repeats what it was told, and hands out a session.
    body = json_error(f"invalid token {SECRET} of ada")
    headers = {"set-cookie": "session=fresh-and-secret", "location": f"/login?token={SECRET}"}
    api.faults.append(Fault("healthz", status, body, headers=headers))
    for debug in ((), ("--debug",)):
        code, out, err = mura(*debug, "watch", "anything")
        assert code in (2, 5)
        for secret in (SECRET, "fresh-and-secret", base64.b64encode(SECRET.encode()).decode()):
            assert secret not in out + err
        assert ("Traceback" in err) == bool(debug)
