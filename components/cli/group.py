"""Groups of commands."""

import inspect

import click

SETTINGS = "--settings"
"""The flag with which DVC's stages call a command."""


class Group(click.Group):
    """Lists its commands with the whole first sentence of their help; click cuts it where the line ends."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sentence(ctx, name)) for name in self.list_commands(ctx)])

    def sentence(self, ctx: click.Context, name: str) -> str:
        """The first sentence of a command's help."""
        command = self.get_command(ctx, name)
        return first_sentence((command.help if command else None) or "")


def first_sentence(text: str) -> str:
    """The first paragraph of a help or a docstring."""
    return inspect.cleandoc(text).split("\n\n")[0]
