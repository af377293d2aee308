"""The last promotion as a table on the terminal."""

import os
from pathlib import Path

from rich import box
from rich.table import Table

from components.artifacts.promotion import REPORT, Promotion
from components.base.console import Console
from components.base.errors import UsageError
from components.base.progress import duration
from components.base.urls import without_credentials
from components.params.train import title


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
    for each in dict.fromkeys([*facts.candidates, *filter(None, [facts.current])]):
        if not model_registry.exists(each):
            raise UsageError(
                f"{promotion.path}: {each.model} version {each.version} ({each.candidate}) is not in the registry at "
                f"{tracking.shown_uri()}, or is another model there. Run `dvc repro`, or set {tracking.URI}."
            )


def show(promotion: Promotion) -> None:
    """Print the candidates, the decision, and where to look further."""
    facts = promotion.facts
    console = Console(width=None if os.isatty(1) else 120)
    if facts.challenger is None:
        console.print(f"{facts.decision.outcome}: {' '.join(facts.decision.reasons)}", soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, title="Per study; intervals by bootstrap over patients", title_justify="left")
    for heading in ("candidate", "version"):
        table.add_column(heading)
    for heading in ("tuning AUROC", "test AUROC (95 %)", "test kappa (95 %)", "training"):
        table.add_column(heading, justify="right")
    for each in facts.candidates:
        test = each.scores.test
        chosen = facts.current is not None and facts.current.version == each.version
        table.add_row(
            f"{title(each.candidate, each.architecture)}{' *' if chosen else ''}",
            f"{each.model} v{each.version}",
            "n/a" if each.scores.tuning.auroc.value is None else f"{each.scores.tuning.auroc.value:.3f}",
            str(test.auroc),
            str(test.cohen_kappa),
            duration(each.training_seconds),
            style="bold" if chosen else "",
        )
    console.print(table)
    if facts.candidates:
        test = facts.candidates[0].scores.test
        console.print(f"{test.n_studies} test studies of {test.n_patients} patients, {test.n_abnormal} abnormal.\n")
    challenger = title(facts.challenger.candidate, facts.challenger.architecture)
    console.print(f"{facts.decision.outcome}: {challenger}", style="bold")
    for reason in facts.decision.reasons:
        console.print(f"  {reason}")
    if facts.current is not None:
        console.print(f"* holds the alias {facts.alias}: models:/{facts.current.model}@{facts.alias}")
    uri = without_credentials(os.environ.get("MLFLOW_TRACKING_URI", ""))
    console.print(f"\nreports   {promotion.path / REPORT}", soft_wrap=True)
    for each in facts.candidates:
        console.print(f"          {promotion.path.parent / 'evaluation' / each.candidate / REPORT}", soft_wrap=True)
    for each in facts.candidates:
        if (stressed := promotion.path.parent / "stress" / each.candidate / REPORT).is_file():
            console.print(f"          {stressed}", soft_wrap=True)
    if uri in ("", f"sqlite:///{Path('mlflow.db').absolute()}"):
        uri = "make mlflow, then http://127.0.0.1:5000 (sqlite:///mlflow.db)"
    console.print(f"MLflow    {uri}", soft_wrap=True)
    console.print("\nResearch only: not a medical device.")
