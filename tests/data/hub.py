"""A Hugging Face Hub on this machine that has one data set, own/er."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class Hub:
    """Serves `files` (path: bytes) at `url`, and notes what it is `asked` for."""

    def __init__(self, files):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files, server.asked = files, []
        self.url, self.asked = f"http://127.0.0.1:{server.server_port}", server.asked
        threading.Thread(target=server.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        files = self.server.files
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        resolved = path.partition("/datasets/own/er/resolve/")[2].partition("/")[2]
        api, _, folder = path.partition("/api/datasets/own/er/")[2].partition(f"/{COMMIT}")
        if path == "/":
            self.answer(200)
        elif resolved in files:
            content = files[resolved]
            self.answer(200, content, {"ETag": hashlib.sha256(content).hexdigest(), "X-Repo-Commit": COMMIT})
        elif api.startswith("revision"):
            self.answer(200, {"id": "own/er", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        elif api == "tree":
            self.answer(200, self.tree(folder.strip("/")))
        else:
            self.answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def tree(self, folder):
        files = [(path, content) for path, content in self.server.files.items() if path.startswith(folder)]
        found = [{"type": "file", "oid": path, "size": len(content), "path": path} for path, content in files]
        return found if folder else [*found, {"type": "directory", "oid": "0", "path": "data"}]

    def answer(self, status, content=b"", headers=None):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass
