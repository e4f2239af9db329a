"""Bring results/ into MLflow, then serve its pages on this machine until Ctrl-C."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from multiprocessing import get_context
from typing import IO

from fedmpq import tracking
from fedmpq.errors import UserError
from fedmpq.reporting.figures import bits_heat_map
from pipeline import command

HOST = "127.0.0.1"
START_SECONDS = 120
# Without job workers the server starts in a third of the time, with a fifth of the memory.
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, replay, serve."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="port of the pages (default: %(default)s)")
    parser.add_argument("--replay-only", action="store_true", help="bring results in, serve nothing")
    options = parser.parse_args(arguments)
    uri = tracking.connect(command.ROOT).uri
    serves = not options.replay_only and not uri.startswith("http")
    if serves:
        check_port(options.port)
    artist = ProcessPoolExecutor(1, get_context("spawn"))
    brought = tracking.replay(command.ROOT / "results", command.ROOT, bits_heat_map, artist)
    print(f"runs brought into MLflow from results/: {len(brought) or 'none was missing'}", flush=True)
    if serves:
        with _server(uri, options.port) as server:
            address = f"http://{HOST}:{options.port}"
            print(f"{tracking.links(command.ROOT, address)}\n(Ctrl-C ends it)", flush=True)
            server.wait()
    elif not options.replay_only:
        print(tracking.links(command.ROOT, uri.rstrip("/")))


def check_port(port: int) -> None:
    """Raise UserError unless the server could listen on `port`."""
    try:
        socket.create_server((HOST, port or -1)).close()  # 0 would be any port
    except (OSError, OverflowError) as error:
        advice = "choose another one from 1 to 65535 with --port, or `make ui PORT=5001`"
        raise UserError(f"port {port} cannot be used ({error}); {advice}") from error


@contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, from when it answers until the end of the block."""
    arguments = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    program = [sys.executable, "-W", "ignore", "-m", "mlflow", "ui", *arguments]
    group = {"start_new_session": True, "env": os.environ | ENVIRONMENT}  # ended together
    with tempfile.TemporaryFile() as log, subprocess.Popen(program, stdout=log, stderr=log, **group) as server:
        try:
            _await(server, port, log)
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _await(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Return when the server answers; UserError with its last words if it ends, or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            HTTPConnection(HOST, port, timeout=5).request("GET", "/health")
            return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise UserError(f"MLflow's server did not start: {lines[-1] if lines else 'it says nothing'}")


if __name__ == "__main__":
    main()
