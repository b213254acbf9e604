"""The one exception that the command line turns into one line and exit status 2."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that names the thing, its value and the mend.
    """
