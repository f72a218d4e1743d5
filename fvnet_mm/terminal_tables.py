"""Tables on a terminal: ruled there, plain columns into a file or pipe, and as wide as they are."""

from __future__ import annotations

from collections.abc import Collection

from rich import box
from rich.console import Console
from rich.table import Table


def new_table(*columns: str, right: Collection[str] = (), console: Console | None = None) -> Table:
    """An empty table of these columns, those in ``right`` aligned to the right, for a console, by default stdout."""
    ruled = (console or Console()).is_terminal
    table = Table(box=box.SIMPLE_HEAD if ruled else None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return table


def show(table: Table, console: Console | None = None) -> None:
    """Prints a table; a terminal that is narrower folds it: whole numbers on broken lines, not the other way round."""
    console = console or Console(markup=False, highlight=False)
    unlimited = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)
