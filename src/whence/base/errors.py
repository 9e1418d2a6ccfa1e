"""The one exception a user's mistake raises."""


class WhenceError(Exception):
    """Something the user wrote cannot be used.

    The message names the file, row, column or block, what was met, what was expected and what to do.
    The command line prints it without a traceback and exits with 2; any other exception is a bug of
    ours and keeps its traceback.
    """
