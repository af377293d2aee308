"""Commands that are no steps."""

import logging
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from components.base import code
from components.base.errors import DataRefused, UsageError, printable
from components.base.files import check_place, write_text
from components.base.terminal import tell
from components.base.variables import TRACKING_URI, TUNE_STORAGE
from components.base.words import count, in_words
from components.cli import trust
from components.cli.group import SETTINGS
from components.cli.merge import merge
from components.params import DEFAULT
from components.phantom.plan import DIFFICULTIES, DIFFICULTY, STUDIES

if TYPE_CHECKING:
    from components.archive.importing import Imported
    from components.cli.settings import Used
    from components.own_data.own_import import Chosen

logger = logging.getLogger(__name__)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The zip to write.")
@click.option("--studies", type=click.IntRange(min=14), default=STUDIES, show_default=True, help="MURA has 14,656.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--difficulty",
    type=click.FloatRange(*DIFFICULTIES),
    default=DIFFICULTY,
    show_default=True,
    help="How hard abnormalities are to see: 0 is at a glance; below, they are coarse.",
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes. [default: one per core]")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Also draw a contact sheet, a PNG.")
@click.option(
    SETTINGS,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="What `mura settings` wrote, in place of --studies, --seed and --difficulty.",
)
def phantom(out: Path, workers: int | None, sheet: Path | None, settings: Path | None, **chosen: Any) -> None:
    """Draw an archive with MURA's layout.

    MURA may not be redistributed. This zip has the same directories, CSVs and oddities, X-ray-like pictures of seven
    body parts, and visible abnormalities: fractures, dislocations, lesions, worn joints, plates and screws. With
    `--studies 14656` it has MURA's exact size. A CSV beside it, .truth.csv, has a box around each finding on each view.
    """
    from components.base.progress import Bar
    from components.phantom import writing

    used = _used_for_drawing(settings, list(chosen)) if settings else None
    started = time.monotonic()
    bar: Bar | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = Bar(total, "phantom: images").__enter__()
        bar.advance_to(done)

    out.parent.mkdir(parents=True, exist_ok=True)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        check_place(sheet)
    try:
        drawn = {**chosen, **(used.inputs if used else {})}
        made = writing.write_phantom(out, workers=workers, progress=progress, **drawn)
    except ValueError as error:
        raise UsageError(f"phantom: {error}") from error
    finally:
        if bar is not None:
            bar.__exit__()
    if used is not None:
        used.check_unchanged()
    logger.info(
        "phantom: %s images of %s studies -> %s, %.1f MB, %.0f s",
        f"{made.images:,}",
        f"{made.studies:,}",
        out,
        made.bytes / 1e6,
        time.monotonic() - started,
    )
    if sheet is not None:
        from components.phantom.sheet import contact_sheet

        contact_sheet(out, sheet)
        logger.info("phantom: contact sheet -> %s", sheet)


def _used_for_drawing(folder: Path, flags: Sequence[str]) -> "Used":
    """The settings of the stage that draws the archive; the flags that they stand for may not be given."""
    from components.cli import settings

    context = click.get_current_context()
    for flag in flags:
        if context.get_parameter_source(flag) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{flag} is in {SETTINGS}: leave one of them out.", context)
    used = settings.read(folder, settings.PHANTOM)
    used.check_code(code.digest(settings.PHANTOM_MODULE))
    return used


@click.command("import")
@click.argument("place", metavar="[PATH|s3://BUCKET/KEY]", required=False)
@click.option("--dicom", type=click.Path(path_type=Path), metavar="DIR", help="DICOM files of your own.")
@click.option("--pictures", type=click.Path(path_type=Path), metavar="DIR", help="PNG and JPEG files of your own.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="CSV: what is known of them.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Secret of pseudonyms; made if absent.")
@click.option("--parts", type=click.Path(path_type=Path), metavar="FILE", help="YAML: names of body parts by words.")
@click.option("--keep", metavar="NAME,...", default="", help="Some of view_position, manufacturer, sex, age.")
@click.option(
    "--longest-side",
    type=click.IntRange(min=0),
    default=512,
    show_default=True,
    help="Larger pictures are made so small, pixels; 0: none is.",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the patients, where the CSV has no split.",
)
@click.option("--without-burned-in", is_flag=True, help="Leave out what says that it may show the patient's name.")
@click.option("--force", is_flag=True, help="Also take single frames of fluoroscopy and angiography.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the zip goes. [default: data/NAME]")
@click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The file in which `archive` is set.",
)
def import_(place: str | None, out: Path | None, params: Path, **own: Any) -> None:
    """Put an archive under DVC as one file, and name it in params.yaml.

    PATH is MURA-v1.1.zip, another zip with its layout, or a directory, of which a zip is made. A zip inside the
    repository stays where it is. An archive on S3 is downloaded. To read it from S3 instead, set `archive: s3://...` in
    params.yaml.

    `--dicom DIR --labels CSV --key FILE` makes an archive of your own files first, without identity; `--pictures DIR`
    makes it of PNG and JPEG files. The CSV has a header. For DICOM it has `study` (StudyInstanceUID or AccessionNumber)
    or `file`, and `label` (0 or 1); `part`, `patient` and `split` (train or test) may be there. For pictures it has
    `patient`, `study`, `part`, `label` and `file`; `split` may be there. The key makes pseudonyms: it lies outside of
    the repository, and must be kept. docs/own-data.md tells more.
    """
    from components.archive import importing

    chosen = _own(place, own)
    if chosen is not None:
        _import_own(chosen, out, params)
        return
    assert place is not None
    made = importing.import_archive(place, out, params)
    where = os.path.relpath(made.path)
    tell(printable(f"{where}: {made.what}"))
    _tell_imported(made, params)


def _tell_imported(made: "Imported", params: Path) -> None:
    tell(f"{made.bytes:,} bytes, md5 {made.md5}; `archive` of {params} names it")
    added = ["git", "add", "--", f"{os.path.relpath(made.path)}.dvc", str(params)]
    tell(printable(f"next: {shlex.join(added)} && dvc repro"))


def _own(place: str | None, own: dict[str, Any]) -> "Chosen | None":
    """What is to be made of files of one's own; None if an archive is named."""
    from components.artifacts.manifest import KEPT
    from components.own_data.own_import import Chosen

    context = click.get_current_context()
    forms = [each for each in (place, own["dicom"], own["pictures"]) if each is not None]
    if len(forms) != 1:
        raise click.UsageError("Name one of PATH, --dicom DIR and --pictures DIR.", context)
    if place is not None:
        if given := [name for name in own if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for --dicom and --pictures.", context)
        return None
    for name in ("labels", "key"):
        if own[name] is None:
            raise click.UsageError(f"--{name} is missing.", context)
    keep = {each.strip() for each in own["keep"].split(",")} - {""}
    if unknown := sorted(keep - set(KEPT)):
        raise click.UsageError(f"--keep: {unknown[0]} is not one of {', '.join(KEPT)}.", context)
    own["keep"] = tuple(name for name in KEPT if name in keep)
    own["longest_side"] = own["longest_side"] or None
    folders = own.pop("dicom"), own.pop("pictures")
    return Chosen(folder=folders[0] or folders[1], pictures=folders[0] is None, **own)


def _import_own(chosen: "Chosen", out: Path | None, params: Path) -> None:
    from components.own_data import own_import

    made = own_import.import_own(chosen, out, params)
    for line in made.told:
        tell(line)
    tell(f"{os.path.relpath(made.table)}: every row and file that was left out, by number and keyed hash")
    tell("Keep the key: without it later imports have other pseudonyms. Whoever has it can link patients.")
    for line in made.to_do:
        tell(f"{params}: {line}")
    _tell_imported(made.imported, params)


@click.command()
@click.argument("url", metavar="s3://BUCKET[/PREFIX]")
@click.option("--endpoint", envvar="AWS_ENDPOINT_URL", help="Another server than Amazon's. [default: AWS_ENDPOINT_URL]")
@click.option("--name", default="storage", show_default=True, help="The name of the remote in DVC.")
@click.option("--shared", is_flag=True, help="Write to .dvc/config, which git tracks, instead of .dvc/config.local.")
def remote(url: str, endpoint: str | None, name: str, shared: bool) -> None:
    """Set the S3 bucket that `dvc push` and `dvc pull` use.

    The server is asked first; nothing is written if it refuses. DVC takes the credentials from the environment. No
    credentials are written to a file.
    """
    from components.archive import dvc

    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    written = dvc.set_remote(name, url, endpoint, shared=shared)
    tell(f"{os.path.relpath(written)}: {name} is {url}, and the default. next: dvc push")
    if endpoint:
        tell("If the server refuses uploads: AWS_REQUEST_CHECKSUM_CALCULATION=when_required dvc push")


@click.group()
def shards() -> None:
    """Print what is in shards, and check them."""


@shards.command("show")
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw a contact sheet, a PNG; + is abnormal.",
)
@click.option("--records", type=click.IntRange(min=1), default=40, show_default=True, help="Images on the sheet.")
def show_shards(path: Path, sheet: Path | None, records: int) -> None:
    """Print counts by split, body part and label, sizes and digests.

    This reads the index and the table of records only. `mura shards verify` reads everything.
    """
    from components.artifacts.shards import Shards
    from components.shard import show

    found = Shards.peek(path)
    show.show(found)
    if sheet is not None:
        show.sheet(found, records, sheet)
        logger.info("shards: contact sheet -> %s", sheet)


@shards.command("verify")
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, file_okay=False),
    help="A ValidManifest. Also check that the shards were made from it.",
)
def verify_shards(path: Path, manifest: Path | None) -> None:
    """Check every file and every record against the index, and name every fault.

    The exit code is 3 if there is one.
    """
    from components.artifacts.manifest import ValidManifest
    from components.shard import verify

    faults = verify.faults(path, ValidManifest.read(manifest) if manifest else None)
    for fault in faults:
        tell(fault)
    if faults:
        things = "1 thing is" if len(faults) == 1 else f"{len(faults)} things are"
        raise DataRefused(f"{path}: {things} wrong. Run `mura shard` again.")
    tell(f"{path}: every file and every record is as `mura shard` left it.")


@click.group()
def bench() -> None:
    """Find out what limits the speed of this machine."""


@bench.command("input")
@click.option(
    "--shards",
    "path",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/shards"),
    show_default=True,
    help="Shards with the training images.",
)
@click.option("--candidate", default="custom_cnn", show_default=True, help="Name of the candidate that is tried.")
@click.option("--params", "file", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=20, show_default=True, help="Training steps; done twice.")
def bench_input(path: Path, candidate: str, file: Path, steps: int) -> None:
    """Find out what limits a training: reading, shuffling, copying to the device, or the network itself.

    Each stage is measured alone, then all together. The slowest stage is the limit.
    """
    from components.artifacts.shards import Shards
    from components.params.document import read_params, section
    from components.params.train import TrainParams
    from components.train import input_benchmark

    params = read_params(file)
    chosen = section(params, f"train.{candidate}", file)
    assert isinstance(chosen, TrainParams), "entries of `train` are"
    input_benchmark.show(input_benchmark.diagnose(Shards.read(path), chosen, params.seed, steps))


@click.command()
@click.argument("candidate")
@click.option("--trials", type=click.IntRange(min=1), required=True, help="Finished trials, over all workers.")
@click.option(
    "--shards",
    "path",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/shards"),
    show_default=True,
    help="Shards with the training images.",
)
@click.option("--params", "file", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
@click.option(
    "--storage",
    envvar=TUNE_STORAGE,
    metavar="URL",
    help=f"Database of the study. [default: {TUNE_STORAGE}, else artifacts/tune/CANDIDATE.db]",
)
@click.option("--study", help="Name of the study in it. [default: CANDIDATE]")
@click.option("--write", is_flag=True, help="Write the best values into params.yaml, instead of printing a patch.")
# Parameters: they are flags.
def tune(
    candidate: str, trials: int, path: Path, file: Path, storage: str | None, study: str | None, write: bool
) -> None:
    """Search better parameters of a candidate, on folds of the training split.

    The section `tune` of params.yaml says what is searched. A trial trains the candidate as `mura train` does, once for
    each fold of the training patients, and is measured on the patients of that fold: the mean study-level AUROC counts.
    Neither the tuning nor the test split is read. Trials that fall behind the median are pruned. Trial 0 has the values
    of now.

    The result is a patch on stdout, for `git apply`, or is written with --write. Then `dvc repro` trains with it.

    A killed search goes on with the same command: finished trials stay, the one that ran begins again. To share a study
    among several processes, start the same command in each, with CUDA_VISIBLE_DEVICES=0, 1, ... on a machine with
    several GPUs. On several machines they need a database server: set MURA_TUNE_STORAGE to an address such as
    postgresql+psycopg://user:password@host/optuna. All workers end when the study has its trials.

    This needs Optuna: pip install 'mura-pipeline[tune]'. `make setup` has it.
    """
    from importlib.util import find_spec

    from components.artifacts.shards import Shards

    if find_spec("optuna") is None:
        raise UsageError("tune: Optuna is not installed here. Install it: pip install 'mura-pipeline[tune]'.")
    from components.tune import command

    place = storage or f"sqlite:///artifacts/tune/{candidate}.db"
    changed = command.search(Shards.read(path), file, candidate, command.Place(place, study or candidate, trials))
    if changed is None:
        return
    if write:
        changed.write()
        logger.info("tune: %s -> %s", candidate, file)
    else:
        text = changed.patch
        click.echo(text, nl=False)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--model",
    default="models:/mura@champion",
    show_default=True,
    metavar="URI|DIR",
    help="Or models:/NAME/VERSION, or a directory that `mura fetch` wrote.",
)
@click.option("--part", default="", metavar="NAME", help="Body part of all studies, such as wrist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each study.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a CSV too.")
@click.option(
    "--explain", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Draw what the network used."
)
@click.option("--force", is_flag=True, help="Also take single frames of fluoroscopy and angiography.")
# Parameters: they are flags.
def predict(
    paths: tuple[str, ...],
    model: str,
    part: str,
    as_json: bool,
    csv_file: Path | None,
    explain: Path | None,
    force: bool,
) -> None:
    """Say of pictures whether their studies are abnormal, by a registered version.

    PATH is a picture (PNG, JPEG or DICOM), or a directory, a zip or s3://BUCKET/PREFIX/ with pictures. A picture alone
    is a study of one view. The pictures of one directory are one study; DICOM files are grouped by StudyInstanceUID.

    The probability of a study is calibrated, and its body part counts: MURA's directories and most DICOM files name it,
    otherwise give --part. Pictures are decoded and fitted as in training. A file that is no radiograph, or a PATH that
    cannot be read, is named, the others are answered, and the exit code is 3.

    MLFLOW_TRACKING_URI says where the registry is; a directory that `mura fetch` wrote needs none. Research only: not a
    medical device.
    """
    from components.predict import asking, verdicts

    if csv_file is not None:
        check_place(csv_file)
    asked = asking.Asked(model, part.strip().lower(), force, explain)
    found, predictor = asking.predict(paths, asked)
    if csv_file is not None:
        write_text(csv_file, verdicts.as_csv(found, predictor))
        logger.info("predict: %s -> %s", count(len(found), "study"), csv_file)
    if as_json:
        text = verdicts.json_lines(found, predictor)
        click.echo(text, nl=False)
    else:
        tell(verdicts.table(found, predictor))
    refused = [each for answer in found for each in answer.refused]
    for each in refused:
        logger.warning("predict: %s: %s", each.path, each.why)
    if refused:
        raise DataRefused(f"predict: {count(len(refused), 'file')} refused, named above.")


@click.command()
@click.option(
    "--model", default="models:/mura@champion", show_default=True, metavar="URI", help="Or models:/NAME/VERSION."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A directory that is empty or not there yet."
)
@click.option(
    "--follow", type=click.FloatRange(0.1, 86400), metavar="SECONDS",
    help="Go on, and look so often whether the alias names another version: a directory for `mura serve --follow`.",
)  # fmt: skip
def fetch(model: str, out: Path, follow: float | None) -> None:
    """Fetch a registered version into a directory, and check it.

    The directory has all that answers: the network for ONNX Runtime and for Keras, the calibration, the threshold.
    MLFLOW_TRACKING_URI says where the registry is. Whoever serves the directory needs no registry, MLflow or
    TensorFlow.
    """
    if follow is not None:
        from components.predict import follower

        follower.follow(model, out, follow)
    from components.predict import fetching

    version = fetching.fetch(model, out)
    tell(f"{out}: {version.model} version {version.version}")


@click.command()
@click.option(
    "--model",
    default="models:/mura@champion",
    show_default=True,
    metavar="DIR|URI",
    help="A directory that `mura fetch` wrote, or models:/NAME@ALIAS, models:/NAME/VERSION, which is fetched first.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any that is free.")
@click.option("--allowed-host", "hosts", multiple=True, metavar="NAME", help="A name under which it may be asked.")
@click.option(
    "--log", type=click.Path(path_type=Path, dir_okay=False), help="Append predictions to a file instead of stderr."
)
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="Key of the hashes in the log, made on first use."
)
@click.option(
    "--linger", type=click.FloatRange(0, 600), default=0, metavar="SECONDS",
    help="Go on for so long after SIGTERM, but say that it is not ready.",
)  # fmt: skip
@click.option(
    "--follow", type=click.FloatRange(0, 86400), metavar="SECONDS",
    help="Look so often whether the alias names another version; 0 for never. With DIR: of `mura fetch --follow`. "
    "[default: 5 for models:/NAME@ALIAS]",
)  # fmt: skip
# Parameters: they are flags.
def serve(
    model: str,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    log: Path | None,
    key: Path | None,
    linger: float,
    follow: float | None,
) -> None:
    """Answer over HTTP: a page for people, JSON for programs, the open inference protocol for both.

    The page is at /, a form at /predict, the protocol at /v2. One JSON line is written for each prediction, without
    pixels and names. There is no password and no TLS: a proxy before it has them. SIGTERM and Ctrl-C end it when the
    requests at hand are answered.

    The server of an alias follows it: when the alias names another version, that one answers, and no request is lost.
    A version that is not as a trusted key signed it is refused.

    It needs neither TensorFlow nor MLflow, unless the version is to be fetched from the registry. Research only: not a
    medical device.
    """
    from components.serve import running

    running.serve(running.Asked(model, host, port, hosts, log, key, linger, follow))


@click.command()
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--reference",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("artifacts"),
    show_default=True,
    help="Directory with valid_manifest/ and evaluation/ of the model.",
)
@click.option("--params", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drift(log: Path, reference: Path, params: Path, as_json: bool) -> None:
    """Compare what a server was asked, by its LOG, with what its model learned from.

    Body parts, sizes, grey levels, probabilities and the share called abnormal are compared. Something moved if the
    effect is larger than the limits of `validate` in params.yaml, and chance does not explain it. Then the exit code
    is 3.
    """
    from components.params.document import read_params
    from components.serve import movement

    found = movement.compare(log, reference, read_params(params).validate_)
    if as_json:
        text = movement.as_json(found)
        click.echo(text, nl=False)
    else:
        tell(movement.table(found))
    if moved := [each.name for each in found.properties if each.moved]:
        raise DataRefused(f"drift: {in_words(moved)} moved. Look at what is asked before you trust the answers.")


@click.command()
@click.option(
    "--promotion",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/promotion"),
    show_default=True,
    help="The promotion to print.",
)
def summary(promotion: Path) -> None:
    """Print the candidates of the last promotion, the decision, and where the reports are.

    Only versions that are in the registry are printed: MLflow is asked for them.
    """
    from components.artifacts.promotion import Promotion
    from components.cli import summary as page

    found = Promotion.read(promotion)
    if found.facts.candidates:
        page.check(found)
    page.show(found)


@click.command()
@click.option("--require-gpu", is_flag=True, help="Fail if TensorFlow sees no GPU.")
def doctor(require_gpu: bool) -> None:
    """Check that this installation works, on a machine or in a container.

    The checks are: versions, variables MURA_*, directories that steps write to, MLflow, TensorFlow and its device. The
    exit code is 0 if all is well, 2 if something here must be changed, 5 if MLflow does not answer.
    """
    from components.cli import doctor as practice

    checks = []
    for check in practice.examine(require_gpu):
        tell(f"{'no' if check.problem else 'ok'}  {check.subject:18}  {check.found}")
        checks.append(check)
    if problem := practice.verdict(checks):
        raise problem


@click.command()
@click.option("--status", default="{}", metavar="JSON", help="Final status of the run, from Kubeflow.")
@click.option("--run", "run_id", required=True, help="Id of the run.")
def notify(status: str, run_id: str) -> None:
    """Send the result of a pipeline run to the webhook MURA_WEBHOOK_URL, and end what it left open in MLflow.

    This is the last task of the pipeline on Kubeflow. It succeeds even if the webhook or MLflow does not answer. A step
    that was killed could not end its run in MLflow; a later attempt opens it again.
    """
    from components.kubeflow import notify as telling

    telling.send(telling.message(status, run_id))
    if os.environ.get(TRACKING_URI):
        # Imports MLflow, which takes seconds.
        from components.tracking import left_open

        left_open.end(run_id)


@click.command("settings")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Directory to write.")
@click.option("--params", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True)
def settings_(out: Path, params: Path) -> None:
    """Check params.yaml, and write a file for each stage of DVC with everything that the stage uses.

    These are parameters, seed, archive and overlay, and the digest of the code that can change the result. DVC's stages
    depend on these files: a change reruns the stages that it concerns, and no others. Later changes apply to the next
    run.
    """
    from components.cli import resolving

    resolving.resolve(params, out)


@click.command()
@click.argument("folders", type=click.Path(path_type=Path, file_okay=False), metavar="DIR...", nargs=-1, required=True)
def collect(folders: tuple[Path, ...]) -> None:
    """Take models and evaluations that tasks elsewhere made into DVC's workspace, as if `dvc repro` had made them.

    DIR is such a result, or holds some: DIR/model/NAME and DIR/evaluation/NAME. A result must come from the shards, the
    valid manifest, the parameters and the code here. If one does not, or is not whole, nothing is taken and the exit
    code is 3. Afterwards `dvc repro` goes on with what is left to do.
    """
    from components.cli import collecting

    collecting.collect(folders)


# In the order of the help.
TOOLS: dict[str, click.Command] = {
    "phantom": phantom,
    "import": import_,
    "remote": remote,
    "merge": merge,
    "shards": shards,
    "bench": bench,
    "tune": tune,
    "predict": predict,
    "fetch": fetch,
    "verify": trust.verify,
    "keys": trust.keys,
    "serve": serve,
    "drift": drift,
    "summary": summary,
    "settings": settings_,
    "collect": collect,
    "doctor": doctor,
    "notify": notify,
}
