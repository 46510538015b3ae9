"""The one error a user's input can cause, and the one warning."""


class InputError(ValueError):
    """Something given to Farfield is wrong: the message says what, where, the value, and what to do.

    The command line prints the message as one line and exits with status 2.
    """


class FarfieldWarning(UserWarning):
    """A result stands, but on less than was asked for: the message says on what, and what to do."""
