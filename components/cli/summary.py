"""The last promotion, told on a terminal."""

import os
import re

from components.artifacts.promotion import REPORT, Promotion


def show(promotion: Promotion) -> None:
    """Print the candidates, the decision, and where to look further."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    facts = promotion.facts
    console = Console(highlight=False, width=None if os.isatty(1) else 120)
    table = Table(box=box.SIMPLE_HEAD, title="Study level; intervals over patients", title_justify="left")
    for heading in ("architecture", "version"):
        table.add_column(heading)
    for heading in ("tuning AUROC", "test AUROC (95 %)", "test kappa (95 %)", "training"):
        table.add_column(heading, justify="right")
    for each in facts.candidates:
        test = each.scores.test
        chosen = facts.current is not None and facts.current.version == each.version
        table.add_row(
            f"{each.architecture}{' *' if chosen else ''}",
            f"{each.model} v{each.version}",
            f"{each.scores.tuning.auroc.value:.3f}" if each.scores.tuning.auroc.value is not None else "n/a",
            str(test.auroc),
            str(test.cohen_kappa),
            f"{each.training_seconds:.0f} s",
            style="bold" if chosen else "",
        )
    console.print(table)
    if facts.candidates:
        test = facts.candidates[0].scores.test
        console.print(f"{test.n_studies} test studies of {test.n_patients} patients, {test.n_abnormal} abnormal.\n")
    console.print(f"{facts.decision.outcome}: {facts.challenger.architecture}", style="bold")
    for reason in facts.decision.reasons:
        console.print(f"  {reason}")
    if facts.current is not None:
        console.print(f"* holds the alias {facts.alias}: models:/{facts.current.model}@{facts.alias}")
    # Whatever stands before the @ is nobody's business.
    uri = re.sub(r"//[^/]*@", "//", os.environ.get("MLFLOW_TRACKING_URI", ""))
    console.print(f"\nreports   {promotion.path / REPORT}", soft_wrap=True)
    for each in facts.candidates:
        console.print(f"          {promotion.path.parent / 'evaluation' / each.architecture / REPORT}", soft_wrap=True)
    console.print(f"MLflow    {uri or 'make mlflow, then http://127.0.0.1:5000 (sqlite:///mlflow.db)'}", soft_wrap=True)
    console.print("\nResearch only: not a medical device.")
