"""The one kind of error that is the user's to mend: shown as a line, never as a traceback."""


class UserError(Exception):
    """What went wrong and what to do about it, in one line."""
