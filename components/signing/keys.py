"""The key that signs here, and the keys whose signatures are believed here.

The private key never lies in the repository or in the registry. The public keys lie outside of the registry: otherwise
whoever can write there could replace them.
"""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.base.errors import UsageError, first_line

logger = logging.getLogger(__name__)

SIGNING_KEY = "MURA_SIGNING_KEY"
"""The private key: a file, or the PEM itself, as secrets of a cluster become variables."""
TRUSTED_KEYS = "MURA_TRUSTED_KEYS"
"""The public keys: a directory of `*.pub`, a file, or the PEM of one or several."""
TRUSTED = Path("trusted_keys")
"""Where they lie in a checkout, unless the environment says otherwise."""
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_PUBLIC = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_MOST = 100_000  # bytes of a file of keys
_ENCODED = re.compile(r"[A-Za-z0-9+/=\s]{100,}")  # base64, and no name of a file


class Trusted(NamedTuple):
    """A public key."""

    name: str
    """For people: its file without `.pub`, or the first digits of its fingerprint."""
    fingerprint: str
    """sha256 (hex) of its PEM; a signature names it."""
    pem: bytes


def signing_key() -> bytes:
    """The private key that signs here, PEM.

    In a checkout that trusts nobody yet, the first use makes a pair of keys.

    Raises:
        UsageError: there is none, it cannot be read, or its signatures would not be believed here.
    """
    pem = _private()
    if pem is None:
        pem = _first(default())
    public = public_of(pem, _where_private())
    if not is_said() and _in_checkout():
        _trust(public)
    _check_trusted(public)
    return pem


def own() -> Trusted | None:
    """The public key of the private key that signs here; None where there is none yet. Nothing is made.

    Raises:
        UsageError: the private key cannot be read, or its signatures would not be believed here.
    """
    pem = _private()
    if pem is None:
        return None
    public = public_of(pem, _where_private())
    if is_said():
        _check_trusted(public)
    return public


def derived(purpose: str) -> bytes:
    """32 secret bytes that belong to the key that signs here: the same for the same key and purpose.

    Args:
        purpose: what they are for. Other purposes have other bytes.

    Raises:
        UsageError: as `signing_key`.
    """
    key = serialization.load_pem_private_key(signing_key(), None)
    form = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode()).derive(form)


def trusted() -> tuple[Trusted, ...]:
    """The keys whose signatures are believed here, by name.

    Raises:
        UsageError: there is none, or one cannot be read.
    """
    given = os.environ.get(TRUSTED_KEYS, "")
    place = Path(given) if given else TRUSTED
    found: list[tuple[bytes, str | None]] = []
    if given.lstrip().startswith("-----BEGIN"):
        found = [(text.encode(), None) for text in _PUBLIC.findall(given)]
    else:
        for file in sorted(place.glob("*.pub")) if place.is_dir() else [place] if place.is_file() else []:
            text = _content(file, "It holds public keys").decode(errors="replace")
            found += [(pem.encode(), file.stem if place.is_dir() else None) for pem in _PUBLIC.findall(text)]
    if not found:
        raise UsageError(
            f"Expected the public keys of those who may register models, in {_where()}; found none. Get them from "
            f"whoever registers models, not from the registry, or set {TRUSTED_KEYS}."
        )
    return tuple(sorted(_public(pem, name) for pem, name in found))


def is_said() -> bool:
    """Whether anybody said who is trusted here."""
    return bool(os.environ.get(TRUSTED_KEYS)) or any(TRUSTED.glob("*.pub"))


def environment() -> dict[str, str]:
    """The variables that give another process the key that signs here and the keys that are believed, as PEM.

    Raises:
        UsageError: as `signing_key`.
    """
    own = signing_key().decode()
    return {SIGNING_KEY: own, TRUSTED_KEYS: "".join(key.pem.decode() for key in trusted())}


def default() -> Path:
    """Where the private key lies unless the environment says otherwise."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mura" / "signing.pem"


def make(place: Path) -> None:
    """Make a private key, for its owner alone. One that is there stays.

    Raises:
        OSError: it cannot be written.
    """
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = place.with_name(f".{place.name}.{os.getpid()}")
    with open(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - with a mode
        file.write(drawn())
    try:
        # Another process may make one at the same time: a link never replaces a file.
        place.hardlink_to(work)
    except FileExistsError:
        pass
    finally:
        work.unlink()


def drawn() -> bytes:
    """A new private key, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_of(pem: bytes, where: str) -> Trusted:
    """The public key of a private one.

    Args:
        pem: the private key.
        where: it was found, for people.

    Raises:
        UsageError: it is no private key of a kind that signs here.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{where}: expected a private key as PEM, without a password ({first_line(error)})."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise UsageError(f"{where}: expected a private key of an elliptic curve, such as `mura keys new` makes.")
    return _named(key.public_key(), None)


def _private() -> bytes | None:
    """The private key, PEM; None where the environment names none and the usual file is not there."""
    given = os.environ.get(SIGNING_KEY, "")
    if given.lstrip().startswith("-----BEGIN"):
        return given.encode()
    if "PRIVATE KEY" in given or _ENCODED.fullmatch(given):
        # The key itself, in another form: it must not be printed.
        raise UsageError(f"{SIGNING_KEY}: expected a file, or a PEM that begins with -----BEGIN, without quotes.")
    place = Path(given) if given else default()
    if given or place.exists():
        return _content(place, f"Set {SIGNING_KEY} to the private key: a file, or its PEM")
    return None


def _where_private() -> str:
    return SIGNING_KEY if os.environ.get(SIGNING_KEY) else str(default())


def _check_trusted(public: Trusted) -> None:
    if public.fingerprint not in {key.fingerprint for key in trusted()}:
        raise UsageError(
            f"The key that signs here ({public.fingerprint[:12]}, {_where_private()}) is not among the trusted keys "
            f"({_where()}): nobody here would believe its signature. Set {SIGNING_KEY} to the key of a trusted one, or "
            "have whoever keeps the trusted keys add its public key: mura keys"
        )


def _first(place: Path) -> bytes:
    """A new private key, where nobody is trusted yet."""
    if is_said() or not _in_checkout():
        raise UsageError(
            f"Expected the private key that signs what is registered, in {SIGNING_KEY} or {place}; found none. "
            "Make one with `mura keys new`, or get it from whoever registers models."
        )
    make(place)
    logger.warning("Made a key that signs what is registered, %s. Keep it, and keep it secret.", place)
    return _content(place, "It was just made")


def _in_checkout() -> bool:
    return Path("dvc.yaml").is_file()


def _trust(public: Trusted) -> None:
    """Trust the own key, where nobody is trusted yet."""
    TRUSTED.mkdir(exist_ok=True)
    file = TRUSTED / f"{os.environ.get('USER') or 'own'}.pub"
    file.write_bytes(public.pem)
    logger.warning("%s is trusted from now on. Commit it: whoever uses the models needs it.", file)


def _where() -> str:
    given = os.environ.get(TRUSTED_KEYS, "")
    return TRUSTED_KEYS if given.lstrip().startswith("-----BEGIN") else str(given or f"{TRUSTED}/")


def _content(place: Path, advice: str) -> bytes:
    try:
        if place.stat().st_size > _MOST:
            raise UsageError(f"{place}: too large for a key. {advice}.")
        return place.read_bytes()
    except OSError as error:
        raise UsageError(f"{place}: cannot be read ({error.strerror}). {advice}.") from error


def _public(pem: bytes, name: str | None) -> Trusted:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{_where()}: {name or 'a key'} is no public key ({first_line(error)}).") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise UsageError(f"{_where()}: {name or 'a key'} is not of an elliptic curve, as `mura keys new` makes them.")
    return _named(key, name)


def _named(key: ec.EllipticCurvePublicKey, name: str | None) -> Trusted:
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = hashlib.sha256(pem).hexdigest()
    return Trusted(name or fingerprint[:12], fingerprint, pem)
