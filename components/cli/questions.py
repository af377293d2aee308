"""What flags of steps ask that needs rooms above the step's own."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from components.base.errors import UsageError
from components.base.step import Question

_FROZEN = ("shards", "params", "protocol", "seed", "settings", "candidate")


def _on_other_data(place: str, flags: dict[str, Any]) -> str:
    from components.artifacts.manifest import ValidManifest
    from components.external.validation import validate

    out, model, manifest = flags["out"], flags["model"], flags["manifest"]
    if out is None or model is None:
        raise UsageError("evaluate: --archive needs --model models:/NAME@ALIAS and --out DIR.")
    context = click.get_current_context()
    for name in _FROZEN:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"evaluate: --archive goes without --{name}: all choices are those of the version.")
    known = None if manifest is None else ValidManifest.read(Path(manifest))
    made = validate(str(model), place, known, Path(out))
    return f"{made.report}"


OF_STEPS = {
    "evaluate": (
        Question(
            "--archive",
            "PATH|s3://BUCKET/KEY",
            "External validation: measure a registered version, such as --model models:/mura@champion, on another "
            "labelled archive of MURA's layout. Nothing is trained or chosen. With --manifest, pictures that the "
            "version was made with are left out.",
            _on_other_data,
        ),
    )
}
"""By step."""
