"""`mura keys` lists who is trusted, and makes keys."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from components.base.errors import ExitCode
from components.signing import keys

Mura = Callable[..., tuple[int, str, str]]


def test_keys_that_are_made_sign_what_whoever_has_the_public_one_believes(
    tmp_path: Path, run_mura: Mura, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = tmp_path / "secret" / "key.pem", tmp_path / "trusted" / "ward.pub"
    words = ("keys", "new", "--private", str(private), "--public", str(public))
    code, out, err = run_mura(*words)
    assert code == ExitCode.DONE, err
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PRIVATE" not in out
    monkeypatch.setenv(keys.SIGNING_KEY, str(private))
    monkeypatch.setenv(keys.TRUSTED_KEYS, str(public.parent))
    assert keys.signing_key() == private.read_bytes()
    ((name, fingerprint, _),) = keys.trusted()
    assert name == "ward"
    assert run_mura("keys") == (ExitCode.DONE, f"{fingerprint}  ward\n", "")
    assert json.loads(run_mura("keys", "--json")[1]) == [{"name": "ward", "fingerprint": fingerprint}]
    before = private.read_bytes()
    code, _, err = run_mura(*words)
    assert (code, private.read_bytes()) == (ExitCode.USAGE, before)
    assert "is there already" in err


def test_where_nobody_is_trusted_it_says_so(tmp_path: Path, run_mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(keys.TRUSTED_KEYS)
    code, _, err = run_mura("keys")
    assert code == ExitCode.USAGE
    assert "Expected the public keys" in err
