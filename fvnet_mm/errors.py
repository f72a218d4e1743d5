"""The one exception that stands for a mistake its user can mend."""


class UserError(Exception):
    """Bad input: its message is one sentence that says what is wrong, where, and what to do.

    Command lines print the sentence without a traceback and exit with status 2.
    """
