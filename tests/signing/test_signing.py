"""Signatures of directories, and the keys that make them and are believed."""

import json
import os
import shutil
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from components.base.errors import DataRefused, UsageError
from components.signing import directory, keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that the key of the tests signed."""
    made = tmp_path / "version"
    (made / "data").mkdir(parents=True)
    (made / "MLmodel").write_text("flavors: {}")
    (made / "data" / "network.onnx").write_bytes(bytes(range(256)))
    directory.sign(made)
    return made


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that trusts nobody yet, of somebody without a key."""
    place = tmp_path / "checkout"
    place.mkdir()
    (place / "dvc.yaml").touch()
    monkeypatch.chdir(place)
    monkeypatch.delenv(keys.SIGNING_KEY)
    monkeypatch.delenv(keys.TRUSTED_KEYS)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return place


def test_a_signed_directory_tells_who_signed_it(folder: Path) -> None:
    signed = directory.verify(folder)
    assert signed.fingerprint == keys.public_of(os.environ[keys.SIGNING_KEY].encode(), "").fingerprint
    assert signed.name == signed.fingerprint[:12]


def test_what_mlflow_writes_when_it_loads_a_version_does_not_count(folder: Path) -> None:
    (folder / "registered_model_meta").write_text("model_name: mura")
    directory.verify(folder)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _code(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "loader.py").write_text("raise SystemExit(9)")


def _git(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "hook").touch()


def _link(folder: Path) -> None:
    (folder / "MLmodel").rename(folder.parent / "MLmodel")
    (folder / "MLmodel").symlink_to(folder.parent / "MLmodel")


def _bundle(change: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def tamper(folder: Path) -> None:
        file = folder / directory.SIGNATURE
        bundle = json.loads(file.read_text())
        change(bundle)
        file.write_text(json.dumps(bundle))

    return tamper


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda folder: _flip(folder / "data" / "network.onnx"), "data/network.onnx was changed"),
        (lambda folder: _flip(folder / "MLmodel"), "MLmodel was changed"),
        (lambda folder: (folder / "MLmodel").unlink(), "MLmodel is missing"),
        (lambda folder: shutil.rmtree(folder / "data"), "data/network.onnx is missing"),
        (_code, "code/loader.py was added"),
        (_git, ".git/hook was added"),
        (_link, "MLmodel is a link"),
        (lambda folder: (folder / directory.SIGNATURE).unlink(), "not signed"),
        (lambda folder: (folder / directory.SIGNATURE).write_text("{}"), "is no signature by a key"),
        (lambda folder: (folder / directory.SIGNATURE).write_text("[" * 100_000), "is no signature by a key"),
        (lambda folder: (folder / directory.SIGNATURE).write_bytes(b"\xff" * 100), "is no signature by a key"),
        (_bundle(lambda bundle: bundle["dsseEnvelope"].update(payload="e30=")), "is not by the key"),
        (_bundle(lambda bundle: bundle["dsseEnvelope"].update(signatures=[])), "model.sig is damaged"),
        (_bundle(lambda bundle: bundle.pop("dsseEnvelope")), "model.sig is damaged"),
    ],
)
def test_a_changed_directory_is_refused(folder: Path, tamper: Callable[[Path], None], says: str) -> None:
    tamper(folder)
    with pytest.raises(DataRefused, match=says.replace(".", r"\.")):
        directory.verify(folder)


def test_the_signature_of_a_stranger_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = keys.drawn()
    with monkeypatch.context() as patch:
        patch.setenv(keys.SIGNING_KEY, stranger.decode())
        patch.setenv(keys.TRUSTED_KEYS, keys.public_of(stranger, "").pem.decode())
        directory.sign(folder)
    with pytest.raises(DataRefused, match="which is not trusted here"):
        directory.verify(folder)


def test_a_stranger_who_names_a_trusted_key_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = directory.verify(folder).fingerprint
    stranger = keys.drawn()
    with monkeypatch.context() as patch:
        patch.setenv(keys.SIGNING_KEY, stranger.decode())
        patch.setenv(keys.TRUSTED_KEYS, keys.public_of(stranger, "").pem.decode())
        theirs = directory.sign(folder).fingerprint
    file = folder / directory.SIGNATURE
    file.write_text(file.read_text().replace(theirs, ours))
    with pytest.raises(DataRefused, match="is not by the key"):
        directory.verify(folder)


def test_the_first_use_in_a_checkout_makes_a_key_and_trusts_it(folder: Path, checkout: Path) -> None:
    directory.sign(folder)
    (public,) = (checkout / keys.TRUSTED).iterdir()
    assert public.suffix == ".pub"
    assert stat.S_IMODE(keys.default().stat().st_mode) == 0o600
    assert directory.verify(folder).name == public.stem
    # The second use takes the same key, in another checkout too.
    shutil.rmtree(checkout / keys.TRUSTED)
    again = directory.sign(folder)
    assert again.name == public.stem
    assert public.is_file()


def test_no_key_is_made_where_others_are_trusted_already(checkout: Path) -> None:
    (checkout / keys.TRUSTED).mkdir()
    (checkout / keys.TRUSTED / "anna.pub").write_bytes(keys.public_of(keys.drawn(), "").pem)
    with pytest.raises(UsageError, match=r"found none\. Make one with `mura keys new`"):
        keys.signing_key()


def test_no_key_is_made_outside_of_a_checkout(checkout: Path) -> None:
    (checkout / "dvc.yaml").unlink()
    with pytest.raises(UsageError, match="found none"):
        keys.signing_key()


def test_outside_of_a_checkout_nobody_is_trusted_by_himself(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "dvc.yaml").unlink()
    monkeypatch.setenv(keys.SIGNING_KEY, keys.drawn().decode())
    with pytest.raises(UsageError, match="Expected the public keys"):
        keys.signing_key()
    assert not (checkout / keys.TRUSTED).exists()


@pytest.mark.parametrize("write", [lambda pem: b64encode(pem.encode()).decode(), lambda pem: f'"{pem}"', str.strip])
def test_a_key_in_another_form_is_never_printed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[str], str]
) -> None:
    pem = keys.drawn().decode()
    monkeypatch.setenv(keys.SIGNING_KEY, given := write(pem))
    if given == pem.strip():
        assert keys.signing_key() == given.encode()
        return
    with pytest.raises(UsageError, match=f"{keys.SIGNING_KEY}: expected a file, or a PEM") as refusal:
        keys.signing_key()
    assert given[20:60] not in str(refusal.value)


def test_a_key_that_nobody_trusts_does_not_sign(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / keys.TRUSTED).mkdir()
    (checkout / keys.TRUSTED / "anna.pub").write_bytes(keys.public_of(keys.drawn(), "").pem)
    monkeypatch.setenv(keys.SIGNING_KEY, keys.drawn().decode())
    with pytest.raises(UsageError, match="is not among the trusted keys"):
        keys.signing_key()


def test_a_key_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    place = tmp_path / "keys" / "signing.pem"
    keys.make(place)
    before = place.read_bytes()
    keys.make(place)
    assert place.read_bytes() == before
    assert [file.name for file in place.parent.iterdir()] == ["signing.pem"]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (keys.SIGNING_KEY, "-----BEGIN PRIVATE KEY-----\nnone\n-----END PRIVATE KEY-----"),
        (keys.SIGNING_KEY, "/no/such/file"),
        (keys.TRUSTED_KEYS, "/no/such/file"),
        (keys.TRUSTED_KEYS, "-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----"),
    ],
)
def test_a_wrong_setting_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=text if text.startswith("/") else "key"):
        directory.sign(folder)


# Some files of a directory.


@pytest.fixture
def part(folder: Path, tmp_path: Path) -> Path:
    """Some files of a directory that was signed: the network is not among them."""
    made = tmp_path / "part"
    made.mkdir()
    for name in ("MLmodel", directory.SIGNATURE):
        shutil.copy(folder / name, made)
    return made


def test_some_files_of_a_directory_are_verified_without_the_others(part: Path) -> None:
    (part / "registered_model_meta").write_text("model_name: mura")
    assert directory.verify_part(part).name == keys.trusted()[0].name
    with pytest.raises(DataRefused, match=r"network\.onnx is missing"):
        directory.verify(part)


def _rename_payload(part: Path) -> None:
    said = json.loads((part / directory.SIGNATURE).read_text())
    said["dsseEnvelope"]["payload"] = said["dsseEnvelope"]["payload"][:-8] + "AAAAAAA="
    (part / directory.SIGNATURE).write_text(json.dumps(said))


def _sign_by_another(part: Path) -> None:
    pem = keys.drawn()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.SIGNING_KEY, pem.decode())
        patch.setenv(keys.TRUSTED_KEYS, keys.public_of(pem, "").pem.decode())
        directory.sign(part)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda part: _flip(part / "MLmodel"), "MLmodel was changed"),
        (_code, r"code/loader\.py was added"),
        (lambda part: (part / "link").symlink_to("MLmodel"), "link is a link"),
        (lambda part: (part / directory.SIGNATURE).unlink(), "is missing"),
        (_rename_payload, "is not by the key|is damaged"),
        (_sign_by_another, "is not trusted here"),
    ],
)
def test_some_files_that_were_changed_are_refused(part: Path, change: Callable[[Path], object], says: str) -> None:
    change(part)
    with pytest.raises(DataRefused, match=says):
        directory.verify_part(part)


def test_secrets_of_a_key_are_its_own_and_of_one_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    one = keys.derived("ids")
    assert (len(one), keys.derived("ids"), keys.derived("others") == one) == (32, one, False)
    monkeypatch.setenv(keys.SIGNING_KEY, (pem := keys.drawn()).decode())
    monkeypatch.setenv(keys.TRUSTED_KEYS, keys.public_of(pem, "").pem.decode())
    assert keys.derived("ids") != one


def test_another_process_signs_and_believes_as_this_one(folder: Path, checkout: Path) -> None:
    directory.sign(folder)
    given = keys.environment()
    shutil.rmtree(checkout)
    words = f"from pathlib import Path; from components.signing import directory; directory.sign(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", words], env=os.environ | given, check=True, cwd=folder)
    (file,) = folder.parent.glob("config/mura/signing.pem")
    assert keys.public_of(file.read_bytes(), "").pem.decode() == given[keys.TRUSTED_KEYS]
