"""Commands that say what is trusted: `mura verify` and `mura keys`."""

import json
from pathlib import Path

import click

from components.base.errors import DataRefused, UsageError
from components.base.files import write_bytes
from components.base.terminal import tell
from components.cli.group import Group


@click.command()
@click.argument("model", default="models:/mura@champion")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="What `dvc repro` made: manifest, shards, model and evaluation. [default: artifacts, if it is here]",
)
@click.option(
    "--archive",
    metavar="PATH|s3://BUCKET/KEY",
    help="The archive. [default: that of params.yaml, if it is a file here]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(model: str, artifacts: Path | None, archive: str | None, as_json: bool) -> None:
    """Walk from the archive to the signature of a registered version, and name the first broken link.

    MODEL is models:/NAME@ALIAS or models:/NAME/VERSION. The links are: archive, manifest, shards, model, evaluation,
    run, weights, version, signature. What cannot be looked at here is said so, and does not count as passed. Nothing of
    a version is opened before its signature is verified. The exit code is 3 if a link is broken. What lies at a place
    that you name must be what the version was made of; at a default place it may be of another version.

    The keys that are trusted lie in trusted_keys/, or where MURA_TRUSTED_KEYS says.
    """
    from components.cli import chain

    found = chain.walk(model, artifacts, archive)
    if as_json:
        text = chain.as_json(found) + "\n"
        click.echo(text, nl=False)
    else:
        for line in chain.lines(found):
            tell(line)
    if (broken := found.broken) is not None:
        raise DataRefused(
            f"{found.named.name} version {found.named.version}: the first broken link is {broken.name}: "
            f"{broken.words.rstrip('.')}."
        )


@click.group(cls=Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def keys(context: click.Context, as_json: bool) -> None:
    """List the keys whose signatures are believed here, with their fingerprints.

    They are public keys in trusted_keys/, or where MURA_TRUSTED_KEYS says. MURA_SIGNING_KEY is the private key that
    signs what is registered.
    """
    if context.invoked_subcommand is not None:
        return
    from components.signing.keys import trusted

    found = trusted()
    if as_json:
        text = json.dumps([{"name": each.name, "fingerprint": each.fingerprint} for each in found]) + "\n"
        click.echo(text, nl=False)
        return
    for each in found:
        tell(f"{each.fingerprint}  {each.name}")


@keys.command()
@click.option("--private", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Keep it secret.")
@click.option("--public", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Such as ...NAME.pub.")
def new(private: Path, public: Path) -> None:
    """Make a pair of keys. Files that are there are not replaced."""
    from components.signing.keys import make, public_of

    for file in (private, public):
        if file.exists():
            raise UsageError(f"{file}: is there already. Name another file: whatever it signed would be lost.")
    make(private)
    made = public_of(private.read_bytes(), str(private))
    public.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(public, made.pem)
    tell(f"{private}: the private key, for MURA_SIGNING_KEY")
    tell(f"{public}: the public key, fingerprint {made.fingerprint}; who trusts it puts it into trusted_keys/")
