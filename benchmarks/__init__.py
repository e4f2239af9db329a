"""Speed and memory of the engine, each against something measured beside it in the same run; and torture."""

import pipeline  # noqa: F401  # It lets this checkout's package win, here and in every process that starts from here.
