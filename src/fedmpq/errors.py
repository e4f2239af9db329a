"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Something in the input is wrong; the message says what, and what to do about it, in one line."""
