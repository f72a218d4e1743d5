"""What ends a run with a sentence to its user, and how such sentences list things."""

from collections.abc import Iterable


class UserError(Exception):
    """Bad input: its message is one sentence that says what is wrong, where, and what to do.

    Command lines print the sentence without a traceback and exit with status 2.
    """


class Stopped(KeyboardInterrupt):
    """A run that a signal asked to stop, and that has put down what it needs to go on.

    Command lines print the sentence and exit with status 128 + the signal's number, as shells report it.
    """

    def __init__(self, signal_number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.signal_number = signal_number


def enumeration(items: Iterable[object]) -> str:
    """'4', '4 and 8', '4, 8 and 16': at least one item in words."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last
