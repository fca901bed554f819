"""A table whose rows appear one by one, with columns that line up from the first row to the last."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

_GAP = "  "
#: Narrower than this, a last column is not worth folding.
_NARROWEST_FOLD = 20


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and the width in cells that its values rarely exceed."""

    title: str
    width: int
    right: bool = False


class RowPrinter:
    """Prints rows under a heading that comes with the first one.

    A value that is too wide pushes the rest of its row to the right, it is never cut. On a terminal the
    last column folds within itself.
    """

    def __init__(self, console: Console, columns: Sequence[Column]) -> None:
        self._console = console
        self._columns = columns
        self._has_heading = False

    def row(self, *cells: str | Text) -> None:
        """Print one row, a cell for each column."""
        if not self._has_heading:
            self._has_heading = True
            self._print([Text(column.title, style="bold") for column in self._columns])
        self._print([Text(cell) if isinstance(cell, str) else cell for cell in cells])

    def _print(self, cells: Sequence[Text]) -> None:
        *head, last = (self._aligned(column, cell) for column, cell in zip(self._columns, cells, strict=True))
        line = Text(_GAP).join([*head, Text()])
        for part in self._folded(last, line.cell_len):
            line.append_text(part)
            line.rstrip()
            self._console.print(line, soft_wrap=True)
            line = Text(" " * sum(len(_GAP) + column.width for column in self._columns[:-1]))

    def _aligned(self, column: Column, cell: Text) -> Text:
        cell = cell.copy()
        if column is not self._columns[-1]:
            cell.align("right" if column.right else "left", max(column.width, cell.cell_len))
        return cell

    def _folded(self, cell: Text, start: int) -> Sequence[Text]:
        room = self._console.width - start
        if not self._console.is_terminal or room < _NARROWEST_FOLD:
            return [cell]
        return list(cell.wrap(self._console, room)) or [cell]
