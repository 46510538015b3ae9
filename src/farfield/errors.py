"""The error that input causes, its special case for options, and the one warning."""


class InputError(ValueError):
    """Something given to Farfield is wrong: the message says what, where, the value, and what to do.

    The command line prints the message as one line and exits with status 2.
    """


class OptionError(InputError):
    """An option's value breaks its rule, whatever the data."""


class FarfieldWarning(UserWarning):
    """A result stands, but on less than was asked for: the message says on what, and what to do."""
