"""The one exception that stands for a mistake its user can mend."""


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
