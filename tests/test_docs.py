"""What the documents say can be typed, and what they say is printed, exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from components.cli import main
from components.params.document import read_params

ROOT = Path(__file__).parent.parent
KUBEFLOW = (ROOT / "docs/kubeflow.md").read_text()
SLURM = (ROOT / "docs/slurm.md").read_text()
OWN_DATA = (ROOT / "docs/own-data.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()
OURS = [*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")]


def commands() -> list[str]:
    """Commands of ours in code blocks and in the text."""
    text = KUBEFLOW + SLURM + OWN_DATA
    typed = re.findall(r"^ {4,}(?:.* && )?(mura .*)$", text, re.M) + re.findall(r"`(mura [a-z][^`]*)`", text)
    return sorted({line for line in typed if "STEP" not in line})


def test_there_are_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("line", commands())
def test_a_command_takes_what_the_document_gives_it(line: str) -> None:
    command: click.Command | None = main.mura
    context = click.Context(main.mura)
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words:
        command = command.get_command(context, words.pop(0))
    assert command is not None, line
    if words or not any(each.required for each in command.params):
        command.make_context(line, words)


def printed() -> list[str]:
    """What the table says is printed: beginnings of cells, in their code marks."""
    rows = KUBEFLOW.partition("| what is printed |")[2].splitlines()[2:]
    return [each for row in rows for each in re.findall(r"`([^`]+)`", row.split("|")[1]) if each != "waiting"]


@pytest.mark.parametrize("words", printed())
def test_what_the_table_explains_is_what_we_print(words: str) -> None:
    # Numbers and names are put in when it is printed, and long lines are broken.
    source = re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text() for path in OURS))
    for part in re.split(r" ?\.\.\. ?|\d+ s", words):
        assert part.strip() in source, words


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bKF_PIPELINES_[A-Z_]+", KUBEFLOW))))
def test_variables_that_are_to_be_set_are_read(name: str) -> None:
    assert any(f'"{name}"' in path.read_text() for path in OURS)


def test_the_secrets_are_those_of_the_choices() -> None:
    for source in read_params(ROOT / "params.yaml").kubeflow.environment:
        made = re.search(rf"create (?:configmap|secret generic) {source.config_map or source.secret} (.*)", KUBEFLOW)
        for key in re.findall(r"--from-literal=(\w+)=", made[1]) if made else ():
            assert key in source.keys


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", KUBEFLOW + SECURITY + OWN_DATA):
        file, _, heading = target.partition("#")
        assert (ROOT / "docs" / file).exists(), target
        if file == "security.md":
            assert heading in [
                line[3:].lower().replace(" ", "-") for line in SECURITY.splitlines() if line[:3] == "## "
            ]


def test_every_key_that_is_drawn_is_explained() -> None:
    drawn = (ROOT / "infra/secrets.sh").read_text() + (
        ROOT / "infra/kustomize/secrets/servers/kustomization.yaml"
    ).read_text()
    table = SECURITY.partition("## Which key opens what")[2].partition("\n## ")[0]
    for name in re.findall(r"- name: (mura-\S+)", drawn):
        assert f"`{name}`" in table
    for source in read_params(ROOT / "params.yaml").kubeflow.environment:
        assert source.config_map or f"`{source.secret}`" in table


def named_tests() -> list[tuple[str, str]]:
    """Files of tests that the table of what works names, each with a test or with none."""
    file, found = "", []
    text = (ROOT / "docs/compatibility.md").read_text() + SECURITY
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", text):
        file = path or file
        if path or name:
            found.append((file, name))
    return found


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_what_is_said_to_prove_that_something_works_is_there(file: str, name: str) -> None:
    assert f"def {name or 'test_'}" in (ROOT / file).read_text()
