"""The one door: flags -> read artifacts -> run the step -> write the artifact."""

import ast
import importlib.util
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from components.base import patience, places, surroundings
from components.base.errors import ExitCode, Terminated, UsageError, classified, first_line, printable
from components.base.step import ANALYSES, STEPS
from components.base.terminal import Formatter, tell
from components.base.urls import check_written_out
from components.cli import registry, tools
from components.cli.group import Group, first_sentence

PACKAGE = "mura-pipeline"
ADDED = {"pipeline": "pipelines.commands"}
"""Commands of other packages of the project, and their modules. An image has the steps, and not these packages."""
# Libraries are told to be quiet before any is imported: TensorFlow of its instructions, the others of our users.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
}


class Door(Group):
    """Makes a command when it is called. A list of them makes none: the choices of all steps take long to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Steps in the order of the graph, then the tools, then what other packages add."""
        return [*STEPS, *ANALYSES, *registry.COMMANDS, *tools.TOOLS, *_added()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name == "promote":
            return registry.promote()
        if cmd_name in (*STEPS, *ANALYSES):
            from components.cli import steps

            return steps.command(cmd_name)
        if module := _added().get(cmd_name):
            command: click.Command = getattr(importlib.import_module(module), cmd_name)
            return command
        return registry.COMMANDS.get(cmd_name) or tools.TOOLS.get(cmd_name)

    def sentence(self, ctx: click.Context, name: str) -> str:
        """The first sentence of a command's help. A step's is read from its file, without importing it."""
        return _step_sentence(name) if name in (*STEPS, *ANALYSES) else super().sentence(ctx, name)


def _step_sentence(step: str) -> str:
    tree = ast.parse((Path(__file__).parents[1] / step / "__init__.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == step)
    return first_sentence(ast.get_docstring(function) or "")


def _added() -> dict[str, str]:
    """The commands of other packages that are installed here, and their modules."""
    return {name: module for name, module in ADDED.items() if importlib.util.find_spec(module.partition(".")[0])}


@click.command(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.version_option(package_name=PACKAGE, prog_name="mura")
def mura(debug: bool, quiet: bool) -> None:
    """From an archive of bone X-rays to a trusted model, step by step.

    Each step reads artifacts (directories that an earlier step made) and writes one. `dvc repro` runs them
    all in order; here they can be run one by one. Research only: not a medical device.

    \b
    Exit codes:
      0  done, or nothing to do
      1  a bug
      2  wrong usage, parameters or settings
      3  the data was refused
      4  the gate refused the model
      5  something outside failed: a service, the disk, the memory. Running again may help
      6  a watched run failed or was cancelled
    143  SIGTERM ended the command; the same command starts it again, a training after its last epoch
    """  # noqa: D301 - click wants the backspace itself
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler])
    for ours in ("components", "pipelines"):
        logging.getLogger(ours).setLevel(logging.WARNING if quiet else logging.INFO)
    # Asked for here, read in `main`, which alone sees the error.
    click.get_current_context().find_root().obj = debug


def main() -> None:
    """Run a command; errors are told in one line."""
    # First: as process 1 of a container, this one would not even notice the signal.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _settled()
    except Terminated as told:
        code = told.exit_code
    if patience.abandoned():
        # A library's threads still wait for an answer, and the usual end would wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _terminate(*_: object) -> None:
    """End the command when SIGTERM comes, as Ctrl-C ends it. A training has a handler of its own."""
    raise Terminated


def _settled() -> int:
    """Run the command line of this process in settled surroundings. Return its exit code."""
    if sys.getfilesystemencoding() != "utf-8":
        # Names of files may have any letter, and a locale such as POSIX or Latin-1 does not.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very command
    try:
        places.settle()
    except UsageError as error:
        return _tell(error)
    surroundings.settle()
    for stream in (sys.stdout, sys.stderr):
        # A path may have letters that the terminal's encoding has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    return run(sys.argv[1:])


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    context: click.Context | None = None
    try:
        _check_written_out(words)
        with mura.make_context("mura", list(words)) as context:
            mura.invoke(context)
        return ExitCode.DONE
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.format_message())
        return ExitCode.DONE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mura"
        tell(f"error: {printable(error.format_message())} (`{command} --help` tells more)", err=True)
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted; the same command starts again where it can", err=True)
        return 130
    except Terminated as told:
        tell(f"terminated: {printable(str(told))}" if str(told) else "terminated", err=True)
        return told.exit_code
    except Exception as error:
        if (context is not None and context.obj) or "--debug" in words:
            tell(traceback.format_exc(), err=True)
        return _tell(error)


def _check_written_out(words: Sequence[str]) -> None:
    """Refuse `~` before anything is written into a directory of that name.

    Raises:
        UsageError: an argument, or the value of a flag, begins with it.
    """
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        try:
            check_written_out(value)
        except ValueError as error:
            raise UsageError(f"{word}: {error}.") from error


def _tell(error: Exception) -> int:
    known = classified(error)
    if known is not None:
        tell(f"error: {printable(str(known))}", err=True)
        return known.exit_code
    what = f"a bug, {type(error).__name__}: {printable(first_line(error))}"
    tell(f"error: {what} (`mura --debug ...` shows where)", err=True)
    return ExitCode.BUG
