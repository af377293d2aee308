"""The one door: flags -> read artifacts -> run the step -> write the artifact.

The flags of a step are read from its signature: an artifact is a directory to read, a list of them a flag to
repeat, one that may be None a flag that may be left out, a section is `--params`, `out` is where the result goes.
"""

import importlib.util
import inspect
import json
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import click

from components import team
from components.artifacts.archive import Archive
from components.artifacts.artifact import Artifact, writing
from components.artifacts.overlay import Overlay
from components.errors import DataRefused, MuraError, UsageError, printable
from components.params.document import DEFAULT, SECTIONS_BY_ENTRY, parse, read_params, section
from components.params.section import Section
from components.reporter import ExecutorInput

logger = logging.getLogger(__name__)

STEPS = ("ingest", "validate", "shard", "train", "evaluate", "register", "promote")
TOOLS = ("phantom", "import", "remote", "shards", "bench", "summary", "doctor", "pipeline", "notify")
# Libraries are told to be quiet before any is imported: TensorFlow of its instructions, the others of our users.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
}


class Input(NamedTuple):
    """A step's parameter as the command line sees it."""

    name: str
    kind: Any
    """The artifact's class, the section's class, or int."""
    many: bool
    optional: bool = False
    """Whether it may be left out; the step then gets None."""

    @property
    def flag(self) -> str:
        """`--model` for `models`, to be repeated."""
        word = "params" if self.is_section else self.name.removesuffix("s") if self.many else self.name
        return "--" + word.replace("_", "-")

    @property
    def is_section(self) -> bool:
        """Whether it is chosen in params.yaml."""
        return inspect.isclass(self.kind) and issubclass(self.kind, Section)


def step_function(name: str) -> Callable[..., Artifact[Any]]:
    """The step of that name; importing it is light, its libraries come when it runs."""
    function: Callable[..., Artifact[Any]] = getattr(importlib.import_module(f"components.{name}"), name)
    return function


def inputs_of(function: Callable[..., Any]) -> list[Input]:
    """A step's inputs in the order of its signature; `out`, where the result goes, is not one."""
    hints = get_type_hints(function)
    return [_input(name, hints[name]) for name in inspect.signature(function).parameters if name != "out"]


def _input(name: str, hint: Any) -> Input:
    """`model: Model` is one, `models: list[Model]` several, `model: Model | None` one or none."""
    if get_origin(hint) is list:
        return Input(name, get_args(hint)[0], many=True)
    if NoneType in get_args(hint):
        (kind,) = (each for each in get_args(hint) if each is not NoneType)
        return Input(name, kind, many=False, optional=True)
    return Input(name, hint, many=False)


class Group(click.Group):
    """Lists its commands with the whole first sentence of their help; click cuts it where the line ends."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(n, inspect.cleandoc(c.help or "").split("\n\n")[0]) for n, c in commands if c])


class Door(Group):
    """Commands are made when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Steps in the order of the graph, then the tools."""
        # An image has the steps, and not what sends them to a cluster.
        absent = () if importlib.util.find_spec("pipelines") else ("pipeline",)
        return [name for name in (*STEPS, *TOOLS) if name not in absent]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in STEPS:
            return _explaining(_step_command(cmd_name)) if cmd_name == "validate" else _step_command(cmd_name)
        if cmd_name == "pipeline" and cmd_name in self.list_commands(ctx):
            # By name, since what is for Kubeflow stands on this module, and is not in every image.
            group: click.Command = importlib.import_module("pipelines.door").pipeline
            return group
        own = {
            "phantom": phantom,
            "import": import_,
            "remote": remote,
            "shards": shards,
            "bench": bench,
            "summary": summary,
            "doctor": doctor,
            "notify": notify,
        }
        return own.get(cmd_name)


@click.command(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.version_option(package_name="mura-pipeline", prog_name="mura")
def mura(debug: bool, quiet: bool) -> None:
    """From an archive of bone X-rays to a trusted model, step by step.

    Each step reads artifacts (directories that an earlier step made) and writes one. `dvc repro` runs them
    all in order; here they can be run one by one. Research only: not a medical device.

    \b
    Exit codes: 0 done, 1 a bug, 2 wrong usage or parameters, 3 the data was refused,
    4 the gate said no, 5 a service could not be reached.
    """  # noqa: D301 - click wants the backspace itself
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    for ours in ("components", "pipelines"):
        logging.getLogger(ours).setLevel(logging.WARNING if quiet else logging.INFO)
    # Asked for here, read in `main`, which alone sees the error.
    click.get_current_context().find_root().obj = debug


def _unless_told(name: str) -> Any:
    # Imported where it is asked for: what draws the phantom is no dependency of the steps.
    return getattr(importlib.import_module("components.phantom.plan"), name)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The zip to write.")
@click.option(
    "--studies",
    type=click.IntRange(min=14),
    default=lambda: _unless_told("STUDIES"),
    show_default="the demonstration's",
    help="MURA has 14,656.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--difficulty",
    type=click.FloatRange(0, 1),
    default=lambda: _unless_told("DIFFICULTY"),
    show_default="the demonstration's",
    help="How hard abnormalities are to see.",
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes. [default: one per core]")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Also draw a contact sheet, a PNG.")
def phantom(out: Path, studies: int, seed: int, difficulty: float, workers: int | None, sheet: Path | None) -> None:
    """Draw an archive of MURA's layout, for want of the real one.

    MURA may not be redistributed. This zip has the same directories, CSVs and oddities, X-ray-like pictures of
    seven body parts, and abnormalities that can be seen: fractures, dislocations, lesions, worn joints, plates and
    screws. At `--studies 14656` it has MURA's exact size. Beside the zip lies a CSV, .truth.csv, with a box around
    each finding on each view.
    """
    from components.phantom.writing import write_phantom
    from components.progress import Bar

    started = time.monotonic()
    bar: Bar | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = Bar(total, "phantom: images").__enter__()
        bar.advance_to(done)

    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        made = write_phantom(out, studies=studies, seed=seed, difficulty=difficulty, workers=workers, progress=progress)
    except ValueError as error:
        raise UsageError(f"phantom: {error}") from error
    finally:
        if bar is not None:
            bar.__exit__()
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


@click.command("import")
@click.argument("place", metavar="PATH|s3://BUCKET/KEY")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where it is to lie. [default: data/NAME]")
@click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The choices whose `archive` becomes this one.",
)
def import_(place: str, out: Path | None, params: Path) -> None:
    """Bring an archive under DVC as one file, and let params.yaml name it.

    PATH is MURA-v1.1.zip, another zip of its layout, or a directory of which a zip is made; a zip inside the
    repository stays where it is. What is on S3 is fetched; to read it there instead, set `archive: s3://...` in
    params.yaml.
    """
    from components import importing

    made = importing.import_archive(place, out, params)
    where = os.path.relpath(made.path)
    click.echo(f"{where}: {made.what}")
    click.echo(f"{made.bytes:,} bytes, md5 {made.md5}; `archive` of {params} names it")
    click.echo(f"next: git add {where}.dvc {params} && dvc repro")


@click.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX")
@click.option("--endpoint", envvar="AWS_ENDPOINT_URL", help="A server other than Amazon's. [default: AWS_ENDPOINT_URL]")
@click.option("--name", default="storage", show_default=True, help="What DVC calls it.")
@click.option("--shared", is_flag=True, help="Write it into .dvc/config, for git, and not into .dvc/config.local.")
def remote(url: str, endpoint: str | None, name: str, shared: bool) -> None:
    """Let `dvc push` and `dvc pull` go to S3, or to a server like it.

    It is asked before anything is written. Credentials are those of the environment, here and when DVC runs; none is
    written down.
    """
    from components import dvc

    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    written = dvc.set_remote(name, url, endpoint, shared=shared)
    click.echo(f"{os.path.relpath(written)}: {name} is {url}, and the default. next: dvc push")
    if endpoint:
        click.echo("If the server refuses uploads: AWS_REQUEST_CHECKSUM_CALCULATION=when_required dvc push")


@click.group()
def shards() -> None:
    """Look into shards, and prove them."""


@shards.command("show")
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Also draw a contact sheet, a PNG.")
@click.option("--records", type=click.IntRange(min=1), default=40, show_default=True, help="Images on the sheet.")
def show_shards(path: Path, sheet: Path | None, records: int) -> None:
    """Print counts by split, body part and label, sizes and digests.

    Only the index and the table of records are read. `mura shards verify` reads everything.
    """
    from components import contents
    from components.artifacts.shards import Shards

    found = Shards.peek(path)
    contents.show(found)
    if sheet is not None:
        contents.sheet(found, records, sheet)
        logger.info("shards: contact sheet -> %s", sheet)


@shards.command("verify")
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, file_okay=False),
    help="The ValidManifest they should be packed from.",
)
def verify_shards(path: Path, manifest: Path | None) -> None:
    """Check every file and every record against the index, and name all that is wrong.

    Exit code 3 if anything is.
    """
    from components import audit
    from components.artifacts.manifest import ValidManifest

    faults = audit.faults(path, ValidManifest.read(manifest) if manifest else None)
    for fault in faults:
        click.echo(fault)
    if faults:
        things = "1 thing is" if len(faults) == 1 else f"{len(faults)} things are"
        raise DataRefused(f"{path}: {things} wrong. Run `mura shard` again.")
    click.echo(f"{path}: every file and every record is as `mura shard` left it.")


@click.group()
def bench() -> None:
    """Find out what bounds the speed of this machine."""


@bench.command("input")
@click.option(
    "--shards",
    "path",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/shards"),
    show_default=True,
    help="Whose training images are read.",
)
@click.option("--architecture", default="custom_cnn", show_default=True, help="Which entry of `train` is tried.")
@click.option("--params", "file", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=20, show_default=True, help="Of training, twice.")
def bench_input(path: Path, architecture: str, file: Path, steps: int) -> None:
    """Say what bounds the input of a training: reading, shuffling, the way to the device, or the network itself.

    Each stage is measured alone, then all together; the slowest is the ceiling.
    """
    from components import diagnosis
    from components.artifacts.shards import Shards
    from components.params.train import TrainParams

    params = read_params(file)
    chosen = section(params, f"train.{architecture}", file)
    assert isinstance(chosen, TrainParams), "entries of `train` are"
    diagnosis.show(diagnosis.diagnose(Shards.read(path), chosen, params.seed, steps))


@click.command()
@click.option(
    "--promotion",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/promotion"),
    show_default=True,
    help="The promotion to tell about.",
)
def summary(promotion: Path) -> None:
    """Print the candidates of the last promotion, who was promoted, and where to look further."""
    from components import summary as page
    from components.artifacts.promotion import Promotion

    page.show(Promotion.read(promotion))


@click.command()
@click.option("--require-gpu", is_flag=True, help="That TensorFlow sees no GPU is a problem.")
def doctor(require_gpu: bool) -> None:
    """Check that this installation can do the work, here or in a container.

    Versions, where steps write, whether MLflow answers, whether TensorFlow computes, and on what. Ends with 0 when
    all is well, 2 when something is to be set right here, 5 when MLflow does not answer.
    """
    from components import doctor as practice

    findings = []
    for finding in practice.examine(require_gpu):
        click.echo(f"{'no' if finding.problem else 'ok'}  {finding.subject:18}  {finding.found}")
        findings.append(finding)
    if problem := practice.verdict(findings):
        raise problem


@click.command()
@click.option("--status", default="{}", metavar="JSON", help="How the run ended, as Kubeflow says it.")
@click.option("--run", "run_id", required=True, help="Id of the run.")
def notify(status: str, run_id: str) -> None:
    """Tell the webhook of MURA_WEBHOOK_URL how a run of the pipeline ended.

    The last task of a pipeline on Kubeflow. It ends well whether or not the webhook answers.
    """
    from components import notify as telling

    telling.send(telling.message(status, run_id))


def main() -> None:
    """Run a command; errors are told in one line."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    context: click.Context | None = None
    try:
        with mura.make_context("mura", list(words)) as context:
            mura.invoke(context)
        return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mura"
        click.echo(f"error: {error.format_message()} (`{command} --help` tells more)", err=True)
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; the same command starts again where it can", err=True)
        return 130
    except Exception as error:
        if (context is not None and context.obj) or "--debug" in words:
            traceback.print_exc()
        return _tell(error)


def _tell(error: Exception) -> int:
    if isinstance(error, MuraError):
        click.echo(f"error: {printable(str(error))}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        # Not allowed, no space left, a file where a directory should be: the machine's state, not our mistake.
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {printable(where)}{error.strerror}", err=True)
        return UsageError.exit_code
    first = (str(error).splitlines() or [""])[0]
    click.echo(f"error: a bug, {type(error).__name__}: {printable(first)} (`mura --debug ...` shows where)", err=True)
    return MuraError.exit_code


def _step_command(name: str) -> click.Command:
    function = step_function(name)
    inputs = inputs_of(function)
    options: list[click.Parameter] = [_option(name, each) for each in inputs]
    product = get_type_hints(function)["return"]
    options.append(
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path, file_okay=False),
            required=True,
            help=f"Where the {product.__name__} goes; replaced whole when the step is done.",
        )
    )

    options.append(
        click.Option(["--executor-input"], metavar="JSON", hidden=True, help="What Kubeflow hands over and is told.")
    )

    def callback(out: Path, executor_input: str | None, **flags: Any) -> None:
        _run_step(name, function, inputs, out, flags, executor_input)

    return click.Command(
        name,
        params=options,
        callback=callback,
        help=_help(function),
        epilog=_choices([each.kind for each in inputs if each.is_section]),
    )


def _explaining(step: click.Command) -> click.Command:
    """`mura validate` with a question about its last result, which needs none of the flags that making one needs."""

    class Explaining(click.Command):
        def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
            if any(word.partition("=")[0] == "--explain" for word in args):
                for option in self.params:
                    option.required = False
            return super().parse_args(ctx, args)

    def callback(explain: str | None, **flags: Any) -> None:
        if explain is None:
            assert step.callback is not None
            step.callback(**flags)
            return
        from components.artifacts.manifest import Manifest
        from components.validate import explain as answer

        manifest = Manifest.read(flags["manifest"] or Path("artifacts/manifest"))
        click.echo(answer.explain(explain, manifest, flags["out"] or Path("artifacts/valid_manifest")))

    option = click.Option(
        ["--explain"],
        metavar="MEMBER",
        help="Tell what is known of one image and what the last validation found of it, and end. All of its name or a "
        "part; --manifest and --out say where to look [default: artifacts/manifest, artifacts/valid_manifest].",
    )
    params = [*step.params, option]
    return Explaining(step.name, params=params, callback=callback, help=step.help, epilog=step.epilog)


def _option(step: str, of: Input) -> click.Option:
    if of.is_section:
        many = step in SECTIONS_BY_ENTRY
        return click.Option(
            [of.flag, of.name],
            default=None if many else f"{DEFAULT}:{step}",
            required=many,
            show_default=True,
            metavar="FILE:SECTION|JSON",
            help=_first_line(of.kind) + (f" Such as {DEFAULT}:{step}.vgg16." if many else ""),
        )
    if of.kind is int:
        return click.Option([of.flag, of.name], type=click.IntRange(min=0), help=f"[default: {of.name} of {DEFAULT}]")
    again = " Repeat the flag." if of.many else ""
    return click.Option(
        [of.flag, of.name],
        # A path object would make s3:/bucket of s3://bucket, and the text of an overlay is no path.
        type=str if of.kind in (Archive, Overlay) else click.Path(path_type=Path),
        required=not of.optional,
        multiple=of.many,
        metavar="PATH|s3://BUCKET/KEY" if of.kind is Archive else "PATH",
        help=f"{of.kind.__name__}: {_first_line(of.kind)}{again}{' Optional.' if of.optional else ''}",
    )


def _run_step(
    name: str,
    function: Callable[..., Artifact[Any]],
    inputs: list[Input],
    out: Path,
    flags: dict[str, Any],
    executor_input: str | None,
) -> None:
    """Read the artifacts, run the step in a work directory, put the result into its place."""
    started = time.monotonic()
    kubeflow = ExecutorInput(executor_input) if executor_input else None
    arguments = {each.name: _argument(each, flags[each.name]) for each in inputs}
    if kubeflow is not None:
        kubeflow.check(arguments)
    told = {key: value for key, value in arguments.items() if value is not None and not isinstance(value, Section)}
    logger.info("%s: %s", name, ", ".join(f"{key} {_told(value)}" for key, value in told.items()))
    if name == "train" and team.place().rank:
        # The chief of the workers writes, wherever their --out may be.
        importlib.import_module("components.train").assist(**arguments)
        return
    refused = out.absolute().with_name(f"{out.absolute().name}.refused")
    decisive = {key: _identity(value) for key, value in arguments.items()} | {"code": _code(function)}
    with writing(out, decisive, get_type_hints(function)["return"].CARD) as work:
        try:
            artifact = function(**arguments, out=work)
        except DataRefused as error:
            if error.keep is not None:
                shutil.rmtree(refused, ignore_errors=True)
                shutil.copytree(error.keep, refused, ignore=shutil.ignore_patterns("checkpoint"))
                raise DataRefused(f"{error} The report is in {refused}.") from error
            raise
    shutil.rmtree(refused, ignore_errors=True)
    logger.info("%s: wrote %s, digest %s, %.0f s", name, out, artifact.digest[:12], time.monotonic() - started)
    if kubeflow is not None:
        kubeflow.report(type(artifact)(out, artifact.facts, artifact.digest))
    if problem := artifact.verdict():
        raise problem


def _argument(of: Input, value: Any) -> Any:
    if of.is_section:
        return _section(of.kind, value)
    if of.kind is int:
        return read_params(DEFAULT).seed if value is None else value
    if value is None:
        return None
    return [of.kind.read(path) for path in value] if of.many else of.kind.read(value)


def _section(kind: type[Section], text: str) -> Section:
    """A section from JSON, or from `FILE:SECTION`."""
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except ValueError as error:
            raise UsageError(f"--params: not JSON ({error}).") from error
        return parse(kind, document, "--params")
    file, _, name = text.rpartition(":")
    path = Path(file or text)
    found = section(read_params(path), name, path)
    if not isinstance(found, kind):
        raise UsageError(f"--params: expected a section of {kind.__name__}, {text} is {type(found).__name__}.")
    return found


def _identity(value: Any) -> Any:
    """What of an argument decides the result."""
    if isinstance(value, list):
        return [_identity(each) for each in value]
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, Artifact | Overlay):
        return value.digest
    if isinstance(value, Archive):
        return value.identity
    return value


def _code(function: Callable[..., Any]) -> str:
    # A half-done work directory of other code is not gone on with.
    from components import provenance

    return provenance.code_digest(function.__module__)


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_told(each) for each in value)
    if isinstance(value, Archive):
        return value.place
    return str(value.path) if isinstance(value, Artifact | Overlay) else str(value)


def _help(function: Callable[..., Any]) -> str:
    """A docstring without the part that says what the flags say."""
    text = inspect.getdoc(function) or ""
    for heading in ("\nArgs:", "\nReturns:", "\nRaises:"):
        text = text.split(heading)[0]
    return text.strip()


def _choices(sections: list[type[Section]]) -> str | None:
    """The choices of a section, one a line, as click prints them unwrapped."""
    fields = [(name, field.description or "") for kind in sections for name, field in kind.model_fields.items()]
    if not fields:
        return None
    width = max(len(name) for name, _ in fields)
    return "\b\nChoices of --params:\n" + "\n".join(f"  {name:{width}}  {about}" for name, about in fields)


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0]
