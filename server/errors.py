TRACEBACK_VARIABLE = "TILLWIRE_TRACEBACK"
"""With it the command line shows where an unexpected error came from."""


class OperatorError(Exception):
    """A condition that the operator can mend; its text is one sentence that says what to do.

    The command line prints the sentence without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(OperatorError):
    """What was asked for is contradictory or misspelt."""

    exit_code = 2
