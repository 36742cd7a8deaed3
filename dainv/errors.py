"""The one kind of error that is the user's to mend: shown as a line, never as a traceback."""


class UserError(Exception):
    """What went wrong and what to do about it, in one line."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Known by its name and its text: torch, which has an error of its own for GPUs only, may not be imported yet."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "can't allocate memory" in str(error)
