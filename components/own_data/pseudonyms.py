"""Keyed hashes in place of identity: HMAC-SHA256 (RFC 2104), whose key stays outside of everything that is made.

Without the key nobody can tell whose number a pseudonym is, not even by trying all numbers of a hospital. With the same
key a later import gives the same patient the same pseudonym.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Self

from components.base import documents
from components.base.errors import UsageError
from components.base.files import settle

# Decimal digits of a number in a path: of a million patients, two have the same with a probability of 1 to 2,000.
DIGITS = 15
_SECRET_BYTES = 32


class Key:
    """The secret that makes pseudonyms."""

    def __init__(self, secret: bytes) -> None:
        """Use `of_file`."""
        self._secret = secret

    @classmethod
    def of_file(cls, path: Path, repository: Path) -> Self:
        """Read the key, or make a new one where there is no file.

        Args:
            path: 64 hexadecimal digits; only the owner may read it.
            repository: where the key must not lie: git and DVC would take it along.

        Raises:
            UsageError: it lies there, others may read it, or it is no key.
        """
        # Not `resolve`: it fails at a circle of links.
        real = Path(os.path.realpath(path))
        if real.is_relative_to(repository):
            raise UsageError("--key: the file must lie outside of this repository, where nobody commits or pushes it.")
        try:
            return cls._made(real)
        except FileExistsError:
            return cls._read(real)

    @classmethod
    def _made(cls, path: Path) -> Self:
        secret = secrets.token_bytes(_SECRET_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - a handle
            file.write(f"{secret.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        settle(path.parent)
        return cls(secret)

    @classmethod
    def _read(cls, path: Path) -> Self:
        try:
            text = documents.content(path, 1000).decode("ascii", "replace")
        except documents.TooLarge:
            text = ""
        if not (found := re.fullmatch(r"\s*([0-9a-fA-F]{64})\s*", text)):
            raise UsageError("--key: expected 64 hexadecimal digits, as this command writes them.")
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UsageError("--key: others may read the file. Whoever has it can link patients: chmod 600.")
        return cls(bytes.fromhex(found[1]))

    def hash(self, kind: str, *values: str) -> str:
        """The keyed hash of values, 64 hexadecimal digits; empty if one of the values is.

        Args:
            kind: what they are, such as `patient`: the same text of another kind has another hash.
            values: as they are written.
        """
        if not all(values):
            return ""
        text = "\0".join((kind, *values)).encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def number(hashed: str) -> str:
    """The decimal number of a keyed hash, as paths have it: its first 64 bits modulo 10^15."""
    return f"{int(hashed[:16], 16) % 10**DIGITS:0{DIGITS}}"


def same(value: str) -> str:
    """An identifier as it is compared: systems differ in spaces around it and in upper and lower case."""
    return value.strip("\0 \t").upper()
