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
from contextlib import contextmanager
from http.client import HTTPConnection
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
    brought = tracking.replay(command.ROOT / "results", command.ROOT, bits_heat_map)
    print(f"runs brought into MLflow from results/: {len(brought) or 'none was missing'}", flush=True)
    if serves:
        address = f"http://{HOST}:{options.port}"
        with _server(uri, options.port) as server:
            print(f"{links(address)}\n(Ctrl-C ends it)", flush=True)
            server.wait()
    elif not options.replay_only:
        print(links(uri.rstrip("/")))


def links(address: str) -> str:
    """The page that compares the runs of an experiment, for each experiment, one a line."""
    pages = tracking.pages(command.ROOT)
    if not pages:
        return f"MLflow is empty (train with `make repro`): {address}"
    width = max(map(len, pages))
    return "\n".join(f"{name:{width}}  {address}/{pages[name]}" for name in sorted(pages))


def check_port(port: int) -> None:
    """Raise UserError unless the server could listen on `port`."""
    if not 0 < port < 65536:
        raise UserError(f"--port {port} is not allowed; allowed: 1 to 65535")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({error.strerror}); choose another one with --port, or `make ui PORT=5001`"
        ) from error


@contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, from when it answers until the end of the block."""
    arguments = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "mlflow", "ui", *arguments],
            env=os.environ | ENVIRONMENT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # one group, ended together
        )
        try:
            _await(server, port, log)
            yield server
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()


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
