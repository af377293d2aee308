"""A directory that a step made: written whole or not at all, and checked when read."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from components.artifacts.content import Unreadable, content_sha256
from components.base import documents
from components.base.errors import DataRefused, MuraError, UsageError, first_line
from components.base.files import CHECKPOINT, file_sha256, json_sha256, write_text
from components.base.words import with_article

FORMAT: Literal[3] = 3
"""Of every card. Raised when an older or newer version cannot read the artifact rightly."""
# Files hashed at once: hashing lets other threads run, and a disk has more than one request at a time.
HASHERS = 4
_PROVENANCE = object()

T = TypeVar("T")
Provenance = Annotated[T, _PROVENANCE]
"""The type of a fact that says how a result came about: when, where, by which run. The digest does not cover it."""


class Facts(BaseModel):
    """What an artifact says of itself. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def deciding(self) -> dict[str, Any]:
        """The facts that the digest covers, at any depth: all that are not provenance."""
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            # What a card leaves out decides nothing: a new fact does not change the digests of artifacts without it.
            if _PROVENANCE not in field.metadata and not (field.exclude_if and field.exclude_if(value)):
                found[name] = _deciding(value)
        return found


def _deciding(value: Any) -> Any:
    if isinstance(value, Facts):
        return value.deciding()
    if isinstance(value, Mapping):
        return {key: _deciding(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_deciding(each) for each in value]
    return value


F = TypeVar("F", bound=Facts)


class File(Facts):
    """A file of an artifact, as its card has it."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file that lies there now."""
        return cls(bytes=path.stat().st_size, sha256=file_sha256(path))


class OtherFormat(DataRefused):
    """The artifact was written in another format than this version reads."""


class _Card(Facts):
    """What `card.json` holds."""

    kind: str
    format: Literal[3]
    digest: str
    facts: dict[str, Any]
    files: dict[str, File]
    checksum: str
    """sha256 of all above: a card that rotted must not be believed either."""

    def computed_checksum(self) -> str:
        """What `checksum` is if nothing has changed."""
        return json_sha256(self.model_dump(exclude={"checksum"}))

    def text(self) -> str:
        """The file. A card is believed only in this form: another one of the same meaning is a changed card, too."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n"


class Artifact(Generic[F]):
    """A sealed directory.

    <path>/
        card.json    kind, digest, facts, the size and sha256 of every other file, and a checksum of all that
        ...          the files

    The digest is the artifact's identity: a sha256 over the kind, the facts that are not `Provenance`, and what the
    files say that make it what it is (`CONTENT`). Two artifacts of the same digest are interchangeable. The checksum
    covers the provenance and the pages for people too.
    """

    CARD: ClassVar[str] = "card.json"
    METAVAR: ClassVar[str] = "PATH"
    BY_VALUE: ClassVar[bool] = False
    WITH_DIGEST: ClassVar[bool] = True
    CONTENT: ClassVar[tuple[str, ...]] = ("*",)
    FACTS: ClassVar[type[Facts]]
    STEP: ClassVar[str]
    """The step that makes it: `mura <step>`."""

    def __init__(self, path: Path, facts: F, digest: str) -> None:
        """Use `read` or `seal`."""
        self.path = path
        self.facts = facts
        self.digest = digest

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.digest[:12]})"

    @classmethod
    def seal(cls, path: Path, facts: F, written: Mapping[str, File] | None = None) -> Self:
        """Write the card of a directory whose other files are complete.

        Args:
            path: the directory; all files below it, `checkpoint/` and the card excepted, belong to the artifact.
            facts: what the artifact says of itself.
            written: files by name whose size and sha256 are known from writing them, and need not be read again.
        """
        known = written or {}
        files = {name: known.get(name) or File.of(path / name) for name in _file_names(path, cls.CARD)}
        said = facts.model_dump(mode="json")
        card = _Card(
            kind=cls.__name__,
            format=FORMAT,
            # Of the facts as `read` will find them.
            digest=cls._digest(path, cls.FACTS.model_validate(said), files),
            facts=said,
            files=files,
            checksum="",
        )
        card = card.model_copy(update={"checksum": card.computed_checksum()})
        write_text(path / cls.CARD, card.text())
        return cls(path, facts, card.digest)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a sealed directory and check every file against its card.

        Raises:
            UsageError: there is no such artifact at `path`.
            DataRefused: a file is missing, extra or changed.
        """
        card = cls._card(path)
        found = cls(path, cls._facts(path, card), card.digest)
        for fault in cls._faults(path, card):
            raise DataRefused(f"{fault} Run `mura {found.step}` again, or `dvc checkout -f` brings back DVC's copy.")
        return found

    @classmethod
    def peek(cls, path: Path) -> Self:
        """Open a sealed directory as its card tells of it; its files are not looked at.

        Raises:
            UsageError: there is no such artifact at `path`.
            DataRefused: the card itself cannot be believed.
        """
        card = cls._card(path)
        return cls(path, cls._facts(path, card), card.digest)

    @classmethod
    def faults(cls, path: Path) -> list[str]:
        """Everything that is wrong with the files of a sealed directory, each named; nothing if all is well.

        Raises:
            UsageError: there is no such artifact at `path`.
            DataRefused: the card itself cannot be believed.
        """
        return list(cls._faults(path, cls._card(path)))

    @property
    def location(self) -> str:
        """The directory."""
        return str(self.path)

    @property
    def identity(self) -> str:
        """The digest."""
        return self.digest

    @property
    def step(self) -> str:
        """The step that made it."""
        return self.STEP

    def verdict(self) -> MuraError | None:
        """What the step has to say against its own result, once that is safely written."""
        return None

    @classmethod
    def _card(cls, path: Path) -> _Card:
        """The card, as it was written."""
        card_path = path / cls.CARD
        if not card_path.is_file():
            raise UsageError(
                f"{path}: expected {with_article(cls.__name__)} with {with_article(cls.CARD)}, found "
                f"{'none in the directory' if path.is_dir() else 'no such directory'}. "
                f"Run `mura {cls.STEP}`, or `dvc repro`."
            )
        try:
            content = documents.content(card_path)
            cls._check_format(card_path, content)
            card = _Card.model_validate_json(content)
        except documents.TooLarge as error:
            raise DataRefused(_unreadable(card_path, str(error))) from error
        except ValidationError as error:
            raise DataRefused(_unreadable(card_path, _first(error))) from error
        if card.kind != cls.__name__:
            raise UsageError(
                f"{path}: expected {with_article(cls.__name__)}, found {with_article(card.kind)}. "
                f"Name another directory, or run `mura {cls.STEP}`."
            )
        cls._facts(path, card)
        if card.checksum != card.computed_checksum() or card.text().encode() != content:
            raise DataRefused(
                f"{card_path}: changed since its step wrote it (its checksum or its form differs). "
                f"Delete the directory and run `mura {cls.STEP}` again, or `dvc checkout -f` brings back DVC's copy."
            )
        return card

    @classmethod
    def _check_format(cls, card: Path, content: bytes) -> None:
        """Refuse a card of another format, whatever else it holds. What is no card is left to the caller."""
        try:
            found = documents.json_of(content)["format"]
        except (ValueError, KeyError, TypeError):
            return
        if found != FORMAT:
            raise OtherFormat(
                f"{card}: expected format {FORMAT}, found {found}: another version of this program wrote it. "
                f"Run `mura {cls.STEP}` again, or `dvc repro`."
            )

    @classmethod
    def _facts(cls, path: Path, card: _Card) -> F:
        try:
            return cls.FACTS.model_validate(card.facts)  # type: ignore[return-value]
        except ValidationError as error:
            raise DataRefused(_unreadable(path / cls.CARD, _first(error))) from error

    @classmethod
    def _faults(cls, path: Path, card: _Card) -> Iterator[str]:
        damaged = False
        for fault in _file_faults(path, cls.CARD, card.files):
            damaged = True
            yield fault
        if damaged:
            return
        try:
            digest = cls._digest(path, cls._facts(path, card), card.files)
        except DataRefused as error:
            yield str(error)
            return
        if card.digest != digest:
            yield f"{path / cls.CARD}: its digest does not belong to its facts and files, which were changed."

    @classmethod
    def _digest(cls, path: Path, facts: Facts, files: Mapping[str, File]) -> str:
        decisive = [name for name in files if any(fnmatch(name, pattern) for pattern in cls.CONTENT)]
        content = {name: _content(path / name) or files[name].sha256 for name in decisive}
        return json_sha256({"kind": cls.__name__, "facts": facts.deciding(), "content": content})


def _content(file: Path) -> str | None:
    try:
        return content_sha256(file)
    except Unreadable as error:
        raise DataRefused(f"{file}: not the table or JSON of its name ({first_line(error)}).") from error


def _file_faults(path: Path, card: str, files: Mapping[str, File]) -> Iterator[str]:
    """What is missing, extra or changed, the first as soon as it is found."""
    found = set(_file_names(path, card))
    for name in sorted(found ^ set(files)):
        what = "is missing" if name in files else "is not on the card"
        yield f"{path / name}: {what}; the artifact is not as its step left it."
    common = sorted(found & set(files))
    hashers = ThreadPoolExecutor(HASHERS)
    try:
        as_written = hashers.map(lambda name: _as_card_says(path / name, files[name]), common)
        for name, same in zip(common, as_written, strict=True):
            if not same:
                yield f"{path / name}: changed since its step wrote it (sha256 differs)."
    finally:
        # One fault is enough for most who ask; the other files need not be hashed for them.
        hashers.shutdown(cancel_futures=True)


def _as_card_says(path: Path, entry: File) -> bool:
    return path.stat().st_size == entry.bytes and file_sha256(path) == entry.sha256


def _unreadable(card: Path, why: str) -> str:
    return (
        f"{card}: not a card this version can read ({why}). Delete the directory and make it again, "
        "or `dvc checkout -f` brings back DVC's copy."
    )


def _file_names(path: Path, card: str) -> list[str]:
    # Dot files are the directory's own business (`.gitignore` of DVC, `.DS_Store`), never an artifact's.
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if name.as_posix() != card
        and name.parts[0] != CHECKPOINT
        and not any(part.startswith(".") for part in name.parts)
    )


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")
