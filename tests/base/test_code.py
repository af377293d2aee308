import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.base import code
from components.base.step import ANALYSES, STEPS

EVERY = (*STEPS, *ANALYSES)
STEP = '"""Pack."""\n\nfrom components.base import errors, files\n\nSIDE = 3\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose step `pack` imports a module that decides and one that does not."""
    for room in ("base", "pack", "other"):
        (tmp_path / "components" / room).mkdir(parents=True)
        (tmp_path / "components" / room / "__init__.py").write_text("")
    (tmp_path / "components" / "__init__.py").write_text("")
    (tmp_path / "components" / "pack" / "__init__.py").write_text(STEP)
    (tmp_path / "components" / "pack" / "page.html").write_text("<p>")
    (tmp_path / "components" / "base" / "files.py").write_text("def read(): ...\n")
    (tmp_path / "components" / "base" / "errors.py").write_text("from components.other import words\n")
    (tmp_path / "components" / "other" / "words.py").write_text("WORDS = 1\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path / "components"


def rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda project: (project / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (rewrite("pack/__init__.py", STEP.replace("3", "4")), True),
        (rewrite("pack/page.html", "<b>"), True),
        (rewrite("base/files.py", "def read(): return 1\n"), True),
        (rewrite("pack/__init__.py", STEP.replace("Pack.", "Pack all.") + "# Three sides.\n\n"), False),
        (rewrite("base/errors.py", "WORDS = 2\n"), False),
        (rewrite("other/words.py", "WORDS = 2\n"), False),
        (rewrite("other/new.py", ""), False),
        (lambda project: shutil.rmtree(project / "other"), False),
    ],
    ids=[
        "step",
        "template",
        "import",
        "docstring and comment",
        "errors",
        "below errors",
        "new",
        "gone",
    ],
)
def test_the_digest_follows_what_can_change_the_result(
    project: Path, change: Callable[[Path], object], counts: bool
) -> None:
    before = code.digest("components.pack")
    change(project)
    assert (code.digest("components.pack") != before) is counts


@pytest.mark.parametrize(
    "source",
    [
        'X = "a"  # b',
        "X = 'a'\n",
        '"""c"""\nX = "a"',
        'X = f"a"',
    ],
)
def test_text_that_is_a_value_counts(project: Path, source: str) -> None:
    (project / "base" / "files.py").write_text(source)
    before = code.digest("components.pack")
    (project / "base" / "files.py").write_text(source.replace("a", "d"))
    assert code.digest("components.pack") != before


def test_empty_lines_inside_a_text_count(project: Path) -> None:
    (project / "base" / "files.py").write_text('X = """a\n\nb"""\n')
    before = code.digest("components.pack")
    (project / "base" / "files.py").write_text('X = """a\nb"""\n')
    assert code.digest("components.pack") != before


def test_descriptions_of_choices_do_not_count_and_their_bounds_do(project: Path) -> None:
    def of(text: str) -> str:
        (project / "base" / "files.py").write_text(text)
        return code.digest("components.pack")

    one = of('X = Field(gt=1, description="Größe")\n')
    assert of('X = Field(gt=1, description="Weite " "und Höhe")\n') == one
    assert of('X = Field(gt=2, description="Größe")\n') != one


@pytest.mark.parametrize("step", EVERY)
def test_what_is_declared_to_change_no_result_is_there_and_left_out(step: str) -> None:
    named = {*code.NO_EFFECT[code.ALL], *code.NO_EFFECT.get(f"components.{step}", {})}
    for module in named:
        path = code.ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{module} is declared, and is not there"
        below = module.replace(".", "/")
        assert not any(name.startswith((f"{below}/", f"{below}.py")) for name in code.files(f"components.{step}"))


def test_training_depends_on_no_page_and_no_tracking_and_registering_does() -> None:
    training, registering = code.files("components.train"), code.files("components.register")
    assert "components/network/architectures.py" in training
    assert not [name for name in training if "tracking" in name or "promote" in name or name.endswith(".html")]
    assert "components/tracking/model_registry.py" in registering


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own code, to be edited."""
    return Path(shutil.copytree(code.ROOT / "components", tmp_path_factory.mktemp("copy") / "components")).parent


ADDED = ("\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
EDITS = {
    "another word of tracking": (
        "tracking/address.py",
        "no longer keeps runs",
        "keeps no runs",
        {"register", "promote"},
    ),
    "another word of an error": ("base/errors.py", "The memory is too small", "There is too little memory", set()),
    "progress": ("base/progress.py", "LONG = 500", "LONG = 501", set()),
    "the evaluation's page": ("evaluate/report.html", "{%", "\n{%", {"evaluate"}),
    "the model card": ("evaluate/model_card.html", "{%", "\n{%", {"evaluate"}),
    "the stress test's page": ("stress/report.html", "{%", "\n{%", {"stress"}),
    "the promotion's page": ("promote/report.html", "{%", "\n{%", {"promote"}),
    "architectures": (
        "network/architectures.py",
        *ADDED,
        {"train", "evaluate", "ensemble", "stress", "register", "promote"},
    ),
    "promote": ("promote/decision.py", *ADDED, {"promote"}),
    "a docstring": ("promote/decision.py", '"""', '"""In other words: ', set()),
    "tfrecord": ("shard/tfrecord.py", *ADDED, {"shard"}),
}


@pytest.mark.parametrize(("name", "old", "new", "steps"), EDITS.values(), ids=EDITS)
def test_a_change_of_code_reruns_what_it_can_affect(
    copied: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, steps: set[str]
) -> None:
    monkeypatch.setattr(code, "ROOT", copied)
    file = copied / "components" / name
    before, text = {step: code.digest(f"components.{step}") for step in EVERY}, file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    try:
        assert {step for step in EVERY if code.digest(f"components.{step}") != before[step]} == steps
    finally:
        file.write_text(text)
