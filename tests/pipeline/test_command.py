import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError

import pytest

from fedmpq.errors import UserError
from pipeline import command


@pytest.fixture(autouse=True)
def handler():
    """What pytest itself does on SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(UserError("no such thing"), 1, "error: no such thing\n"), (KeyboardInterrupt(), 130, ""), (None, 143, "")],
)
def test_how_a_script_ends(capsys, error, status, said):
    ended = []

    @command.entry
    def main():
        try:
            if error:
                raise error
            terminate()
        finally:
            ended.append(True)

    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, capsys.readouterr().err, ended) == (status, said, [True])


def test_a_script_may_be_called_from_any_thread():
    code = """
import threading
from pipeline import command
thread = threading.Thread(target=command.entry(lambda: print("done")))
thread.start()
thread.join()
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("done\n", "")


@pytest.mark.parametrize(("least", "text"), [(1, "0"), (0, "-1"), (1, "1.5"), (1, "two"), (1, "")])
def test_a_count_that_is_none_is_refused(least, text):
    with pytest.raises(ArgumentTypeError, match=f"^{text} is not allowed; allowed: whole numbers from {least}$"):
        command.count(least)(text)
    assert command.count(least)(str(least)) == least
