"""Tables and coloured lines on a terminal."""

from typing import Any

import rich.console
from rich.text import Text

from components.base.terminal import harmless


class Console(rich.console.Console):
    """Rich's console, which takes texts as they are: `[brackets]` are no markup, and every text is harmless."""

    def __init__(self, **options: Any) -> None:
        """Pass options on."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text goes through here, cells of tables and titles too."""
        return super().render_str(harmless(text), **options)
