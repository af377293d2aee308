"""Sign a directory, and verify one: OpenSSF Model Signing, with a key of an elliptic curve.

The signature is a file in the directory: a bundle of sigstore that lists every other file with its sha256. It is read
and compared before anything else opens a file of the directory.
"""

import ast
import base64
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

from components.base import documents
from components.base.errors import DataRefused, system_error
from components.base.files import file_sha256
from components.signing import keys
from components.signing.keys import Trusted

SIGNATURE = "model.sig"
"""The file with the signature."""
IGNORED = ("registered_model_meta",)
"""MLflow writes this file into the directory of a version when it loads one."""
_MISMATCH = "Signature mismatch: "
_DIFFERENCES = (
    (re.compile(r"Hash mismatch for '(.*)': Expected"), "was changed", "were changed"),
    (re.compile(r"Missing files in model '[^']*': (.*)"), "is missing", "are missing"),
    (re.compile(r"Extra files found in model '[^']*': (.*)"), "was added", "were added"),
)
"""How the library tells what differs."""
_PAYLOAD = "application/vnd.in-toto+json"
_PREDICATE = "https://model_signing/signature/v1.0"
_HASHES: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
"""By the bits of the key."""


class Signed(NamedTuple):
    """Who signed a directory."""

    name: str
    """Of the key."""
    fingerprint: str
    """Of the key: sha256 (hex) of its PEM."""


def sign(folder: Path) -> Signed:
    """Sign all files of a directory with the key of `keys.signing_key`. A signature that is there is replaced.

    Raises:
        UsageError: there is no key, or its signatures would not be believed here.
    """
    pem = keys.signing_key()
    with TemporaryDirectory() as place:
        file = Path(place) / "key.pem"
        file.touch(0o600)
        file.write_bytes(pem)
        config = signing.Config().use_elliptic_key_signer(private_key=file)
        config.set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)
    return verify(folder)


def verify(folder: Path) -> Signed:
    """Check that a directory is as somebody signed it who is trusted here. Nothing of it but the signature is parsed.

    Returns:
        Who signed it.

    Raises:
        DataRefused: it is not; the message says which file was changed, added or is missing, or whose key signed.
        UsageError: nobody is trusted here.
    """
    key = _key(folder)
    _verify(folder, key)
    return Signed(key.name, key.fingerprint)


def verify_part(folder: Path) -> Signed:
    """Check some files of a directory that was signed: those that are here are as they were signed.

    A few small files can be read so without fetching the large ones. Whoever loads a model verifies all of it.

    Raises:
        DataRefused, UsageError: as `verify`; a missing file is no fault.
    """
    key = _key(folder)
    signed = _listed(folder, key)
    for file in sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = file.relative_to(folder).as_posix()
        if name in (SIGNATURE, *IGNORED):
            continue
        if file.is_symlink():
            raise DataRefused(f"{folder}: not as {key.name} signed it: {name} is a link.")
        if name not in signed:
            raise DataRefused(f"{folder}: not as {key.name} signed it: {name} was added.")
        if file_sha256(file) != signed[name]:
            raise DataRefused(f"{folder}: not as {key.name} signed it: {name} was changed.")
    return Signed(key.name, key.fingerprint)


def _key(folder: Path) -> Trusted:
    """The trusted key that a signature names.

    Raises:
        DataRefused, UsageError: as `verify`.
    """
    known = {key.fingerprint: key for key in keys.trusted()}
    file = folder / SIGNATURE
    if file.is_symlink() or not file.is_file():
        raise DataRefused(f"{folder}: not signed: {SIGNATURE} is missing.")
    if not (by := _signer(file)):
        raise DataRefused(f"{folder}: {SIGNATURE} is no signature by a key.")
    if (key := known.get(by)) is None:
        names = ", ".join(sorted(each.name for each in known.values()))
        raise DataRefused(f"{folder}: signed by the key {by[:12]}, which is not trusted here (trusted: {names}).")
    return key


def _listed(folder: Path, key: Trusted) -> dict[str, str]:
    """The files that a signature lists, and the sha256 of each.

    Raises:
        DataRefused: it is not by this key, or is damaged.
    """
    public = serialization.load_pem_public_key(key.pem)
    assert isinstance(public, ec.EllipticCurvePublicKey), "keys.trusted has no others"
    try:
        envelope: Any = documents.json_of(documents.content(folder / SIGNATURE))["dsseEnvelope"]
        content = base64.b64decode(envelope["payload"], validate=True)
        # What is signed: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
        said = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(content), content)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        public.verify(signature, said, ec.ECDSA(_HASHES[public.curve.key_size]))
        statement: Any = documents.json_of(content)
        if (envelope["payloadType"], statement["predicateType"]) != (_PAYLOAD, _PREDICATE):
            raise ValueError("a statement of another kind")
        files = statement["predicate"]["resources"]
        return {each["name"]: each["digest"] for each in files if each["algorithm"] == "sha256"}
    except InvalidSignature as error:
        raise DataRefused(f"{folder}: {SIGNATURE} is not by the key {key.name} that it names.") from error
    except (documents.TooLarge, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise DataRefused(f"{folder}: not as {key.name} signed it: {SIGNATURE} is damaged.") from error


def _signer(file: Path) -> str:
    """The fingerprint of the key that a signature names; empty if it names none."""
    try:
        bundle: Any = documents.json_of(documents.content(file))
        hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    except (documents.TooLarge, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return hint if isinstance(hint, str) else ""


def _verify(folder: Path, key: Trusted) -> None:
    if links := [path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink()]:
        raise DataRefused(f"{folder}: not as {key.name} signed it: {links[0]} is a link.")
    with TemporaryDirectory() as place:
        public = Path(place) / "key.pub"
        public.write_bytes(key.pem)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(_hashing())
        try:
            config.verify(folder, folder / SIGNATURE)
        except InvalidSignature as error:
            raise DataRefused(f"{folder}: {SIGNATURE} is not by the key {key.name} that it names.") from error
        # What the library's parsers raise for a damaged bundle is not documented. Whatever it is, nothing is verified.
        except Exception as error:
            if system_error(error):
                raise
            raise DataRefused(f"{folder}: not as {key.name} signed it: {_difference(str(error))}.") from error


def _difference(message: str) -> str:
    """What of a directory differs, in words, of the library's message."""
    if not message.startswith(_MISMATCH):
        return f"{SIGNATURE} is damaged"
    told = ast.literal_eval(message.removeprefix(_MISMATCH))
    found = []
    for pattern, one, several in _DIFFERENCES:
        names = [name for text in told if (match := pattern.match(text)) for name in match[1].split(", ")]
        if names:
            shown = f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
            found.append(f"{shown} {one if len(names) == 1 else several}")
    return "; ".join(found)


def _hashing() -> hashing.Config:
    # Files of git count: a directory of a model has none.
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[SIGNATURE, *IGNORED], ignore_git_paths=False)
