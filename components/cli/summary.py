"""The last promotion as a table on the terminal."""

import os
from pathlib import Path

from rich import box
from rich.table import Table

from components.artifacts.evaluation import REPORT as EVALUATION_REPORT
from components.artifacts.promotion import REPORT, Promotion
from components.artifacts.registration import REPORT as REGISTRATION_REPORT
from components.artifacts.registration import RegisteredModel
from components.artifacts.stress import REPORT as STRESS_REPORT
from components.artifacts.trained_model import ENSEMBLE
from components.base.console import Console
from components.base.errors import UsageError
from components.base.progress import duration
from components.base.urls import mlflow_page, without_credentials
from components.base.words import count
from components.cli.settings import place_of
from components.params.train import title

LOCAL = "http://127.0.0.1:5000"
"""Where `make mlflow` shows the database of this directory."""


def check(promotion: Promotion) -> None:
    """Check that the versions of a promotion are in the registry.

    Raises:
        UsageError: one is not, or is another model there.
        ServiceUnreachable: MLflow does not answer.
    """
    # MLflow takes seconds to import.
    from components import tracking
    from components.tracking import model_registry

    facts = promotion.facts
    named = {(each.model, each.version): each for each in (*facts.candidates, facts.current) if each is not None}
    for each in named.values():
        if not model_registry.exists(each):
            raise UsageError(
                f"{promotion.path}: {each.model} version {each.version} ({each.candidate}) is not in the registry at "
                f"{tracking.shown_uri()}, or is another model there. Run `dvc repro`, or set {tracking.URI}."
            )


def show(promotion: Promotion) -> None:
    """Print the candidates, the decision, and where to look further: nothing that was measured on the test split."""
    facts = promotion.facts
    console = Console(width=None if os.isatty(1) else 120)
    if facts.challenger is None:
        console.print(f"{facts.decision.outcome}: {' '.join(facts.decision.reasons)}", soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, title="Per study; 95 % intervals, patients as clusters", title_justify="left")
    for heading in ("candidate", "version"):
        table.add_column(heading)
    for heading in ("tuning AUROC (95 %)", "tuning kappa (95 %)", "training"):
        table.add_column(heading, justify="right")
    for each in facts.candidates:
        tuning = each.scores.tuning
        chosen = facts.current is not None and facts.current.version == each.version
        table.add_row(
            f"{title(each.candidate, each.architecture)}{' *' if chosen else ''}",
            f"{each.model} v{each.version}",
            str(tuning.auroc),
            str(tuning.cohen_kappa),
            duration(each.training_seconds),
            style="bold" if chosen else "",
        )
    console.print(table)
    if facts.candidates:
        tuning = facts.candidates[0].scores.tuning
        said = f"{tuning.n_studies} tuning studies of {tuning.n_patients} patients, {tuning.n_abnormal} abnormal."
        console.print(f"{said}\n")
    challenger = title(facts.challenger.candidate, facts.challenger.architecture)
    console.print(f"{facts.decision.outcome}: {challenger}", style="bold")
    for reason in facts.decision.reasons:
        console.print(f"  {reason}")
    if facts.decision.on_test:
        console.print("  What the test split says is in the reports of it.")
    if facts.opened is not None:
        models = count(facts.opened.models, "model")
        console.print(f"  {models} measured on this test split so far, as far as the registry knows.")
    if facts.current is not None:
        console.print(f"* holds the alias {facts.alias}: models:/{facts.current.model}@{facts.alias}")
    console.print()
    beside = promotion.path.parent
    tuned = [
        place_of("evaluation", each.candidate, beside, each.architecture == ENSEMBLE) / EVALUATION_REPORT
        for each in facts.candidates
    ]
    tuned += [
        stressed
        for each in facts.candidates
        if (stressed := beside / "stress" / each.candidate / STRESS_REPORT).is_file()
    ]
    tested = [beside / "registration" / REGISTRATION_REPORT, promotion.path / REPORT]
    for heading, reports in (("tuning", tuned), ("test", tested)):
        for number, report in enumerate(reports):
            console.print(f"{'' if number else heading:9} {report}", soft_wrap=True)
    console.print(f"MLflow    {_mlflow(facts.current or facts.challenger)}", soft_wrap=True)
    console.print("\nResearch only: not a medical device.")


def _mlflow(version: RegisteredModel) -> str:
    """Where MLflow shows a version."""
    uri = without_credentials(os.environ.get("MLFLOW_TRACKING_URI", ""))
    page = f"models/{version.model}/versions/{version.version}"
    if uri in ("", f"sqlite:///{Path('mlflow.db').absolute()}"):
        return f"make mlflow, then {mlflow_page(LOCAL, page)}"
    return mlflow_page(uri, page) or uri
