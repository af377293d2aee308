"""Names of candidates, architectures and body parts. Directories, charts, MLflow runs and tasks are made of them."""

from typing import Annotated

from pydantic import StringConstraints

LONGEST = 40
PATTERN = r"^[a-z](_?[a-z0-9])*$"

Name = Annotated[str, StringConstraints(pattern=PATTERN, max_length=LONGEST)]
"""Cards hold no others either: a name on a card would choose where a step writes, and what stands on its page."""
