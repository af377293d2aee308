"""Groups of commands."""

import inspect

import click


class Group(click.Group):
    """Lists its commands with the whole first sentence of their help; click cuts it where the line ends."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(n, inspect.cleandoc(c.help or "").split("\n\n")[0]) for n, c in commands if c])
