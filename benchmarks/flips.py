"""One flipped bit in a file of an artifact: the next step that reads it must name the file.

    python -m benchmarks.flips [Manifest|Shards|...|train|...] [--flips 200] [--seed 1] [--json]

A small phantom goes through all steps. Then one bit of one file is flipped, the next step is run, and the bit is put
back. The file is drawn first, then the bit, so a card is met as often as a large file.

Artifacts, and the record of how one was made: the step must end with 2 or 3 and one line that names the file. Where the
card names another kind of artifact it may name the directory. Checkpoints of `shard`, `train` and `promote`, which a
killed run left: the step must come to the right result and warn of the checkpoint. `ratio` is the share of flips that
were named; the others are listed.
"""

import contextlib
import io
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import faults, harness
from benchmarks.faults import ARCHIVE, STEPS, Place, Trial
from benchmarks.system_calls import KILL, Fault
from components.cli import main as cli

OUT = ("--out", "next")
RECORD, SETTINGS = "record", "settings"


class Flip(NamedTuple):
    """A bit of a file."""

    file: Path
    byte: int
    bit: int

    @classmethod
    def of(cls, folder: Path, draw: random.Random) -> "Flip":
        """Draw one of a directory, or of a file."""
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
        file = draw.choice([path for path in files if path.stat().st_size])
        return cls(file, draw.randrange(file.stat().st_size), draw.randrange(8))

    def __str__(self) -> str:
        return f"{self.file}, byte {self.byte:,}, bit {self.bit}"

    @contextlib.contextmanager
    def done(self) -> Iterator[None]:
        """The bit is the other one in the block."""
        self.do()
        try:
            yield
        finally:
            self.do()

    def do(self) -> None:
        """Flip it."""
        with self.file.open("r+b") as file:
            file.seek(self.byte)
            byte = file.read(1)[0]
            file.seek(self.byte)
            file.write(bytes([byte ^ 1 << self.bit]))


def artifact_unnamed(folder: Path, words: Sequence[object], flips: int, draw: random.Random) -> list[str]:
    """Flip bits of an artifact, each alone.

    Args:
        folder: the artifact, or a file.
        words: of the command that reads it.
        flips: how many.
        draw: decides which.

    Returns:
        Flips that the command did not name, and what it said.
    """
    unnamed = []
    for _ in range(flips):
        flip, told = Flip.of(folder, draw), io.StringIO()
        with flip.done(), contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            code = cli.run(["--quiet", *map(str, words)])
        (*others, line) = told.getvalue().splitlines() or [""]
        named = str(flip.file) in line or f"{folder}: expected" in line
        if code not in (2, 3) or others or not named:
            unnamed.append(f"{flip}: exit {code}, {told.getvalue().strip() or 'not a word'}")
    return unnamed


CHECKPOINTS = {
    "shard": r"create .*/records\.parquet",
    "train": r"create .*epoch-2\b.*",
    "promote": r"create .*/\.card\.json\.partial",
}
"""Steps that leave something to go on from, and the call at which they are killed."""


def checkpoint_unnamed(trial: Trial, flips: int, draw: random.Random) -> list[str]:
    """Flip bits of the checkpoint that a killed step left, each alone, and let the step go on.

    Args:
        trial: of the step.
        flips: how many.
        draw: decides which.

    Returns:
        Flips that the step did not name, or that changed its result.
    """
    call = next(call for call in trial.calls if re.fullmatch(CHECKPOINTS[trial.name], call))
    unnamed = []
    kept = trial.place.folder.parent / f"{trial.place.folder.name}.left"
    trial.place.restore(trial.name)
    trial.disturb(Fault(call, 0, KILL))
    trial.place.save(f"killed {trial.name}")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(trial.place.out, kept)
    for _ in range(flips):
        trial.place.restore(f"killed {trial.name}")
        shutil.copytree(kept, trial.place.out, dirs_exist_ok=True)
        (checkpoint,) = trial.place.out.glob(".*/checkpoint")
        flip = Flip.of(checkpoint, draw)
        flip.do()
        code = trial.run()
        told, wrong = trial.told(), trial.wrong(code)
        named = "checkpoint" in told or "earlier attempt" in told or flip.file.name in told
        # Who was champion before the killed promotion is known from its note alone.
        if (wrong and trial.name != "promote") or not named:
            unnamed.append(f"{flip}: {wrong or 'the right result, and a warning'}; {told or 'not a word'}")
    return unnamed


def commands() -> dict[str, tuple[str, tuple[str, ...]]]:
    """By kind of artifact: where it is, and the words of the command that reads it next."""
    return {
        "Manifest": ("made/ingest", ("validate", *STEPS["validate"].words, *OUT)),
        "ValidManifest": ("made/validate", ("shard", *STEPS["shard"].words, *OUT)),
        "Shards": ("made/shard", ("train", *STEPS["train"].words, *OUT)),
        "TrainedModel": ("made/train", ("evaluate", *STEPS["evaluate"].words, *OUT)),
        "Evaluation": ("made/evaluate", ("register", *STEPS["register"].words, *OUT)),
        "Registration": ("made/register", ("promote", *STEPS["promote"].words, *OUT)),
        "Promotion": ("made/promote", ("summary", "--promotion", "made/promote")),
        "ManifestPart": ("made/ingest-part", ("merge", "made/ingest-part", "--archive", ARCHIVE, *OUT)),
        "ShardsPart": ("made/shard-part", ("merge", "made/shard-part", *OUT)),
        RECORD: (
            "recorded.made.json",
            ("validate", "--settings", SETTINGS, "--manifest", "recorded", *OUT),
        ),
    }


def make_the_others(place: Place) -> None:
    """Make what no step of the usual graph makes: parts, and the record that a step of DVC leaves."""
    shard = place.words("shard", "made/shard-part")[1:]
    ingest = place.words("ingest", "made/ingest-part")[1:]
    for words in (
        [*ingest, "--part", "1/1"],
        [*shard, "--part", "1/1"],
        ["settings", "--out", SETTINGS],
        ["ingest", "--settings", SETTINGS, "--out", "recorded"],
    ):
        harness.run([*harness.mura(), "--quiet", *words], cwd=place.folder, environment=dict(place.environment))


def main() -> None:
    """Flip and print."""
    known = [*commands(), *CHECKPOINTS]
    parser = harness.parser(__doc__ or "", images=round(faults.STUDIES * harness.IMAGES_PER_STUDY))
    parser.add_argument("kind", nargs="*", choices=[*known, []], default=[], metavar="KIND", help=", ".join(known))
    parser.add_argument("--flips", type=int, default=200, help="of each kind [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="decides which bits [default: %(default)s]")
    parser.add_argument("--cores", type=int, help="of each step [default: all]")
    flags = parser.parse_args()
    unnamed: dict[str, list[str]] = {}
    with (
        harness.archive(flags) as (archive,),
        harness.folder() as folder,
        faults.places(folder, list(STEPS), ("kill",), archive, flags.cores) as made,
    ):
        place = made["files"]
        make_the_others(place)
        os.environ.update(place.environment)
        with contextlib.chdir(place.folder):
            for kind in flags.kind or known:
                draw = random.Random(f"{flags.seed} {kind}")
                if kind in CHECKPOINTS:
                    with faults.trial(place, kind) as trial:
                        found = checkpoint_unnamed(trial, flags.flips, draw)
                else:
                    path, words = commands()[kind]
                    found = artifact_unnamed(Path(path), words, flags.flips, draw)
                unnamed[kind] = found
                print(*(f"{kind}: {line}" for line in found), sep="\n", end="\n" * bool(found), file=sys.stderr)
    rows: list[tuple[object, ...]] = [("of", "flips", "named", "unnamed")]
    rows += [(kind, flags.flips, flags.flips - len(lines), len(lines)) for kind, lines in unnamed.items()]
    flips, lost = flags.flips * len(unnamed), sum(map(len, unnamed.values()))
    harness.tell({"unnamed": unnamed, "ratio": round((flips - lost) / flips, 4)}, "flipped bits", rows, flags.json)


if __name__ == "__main__":
    main()
