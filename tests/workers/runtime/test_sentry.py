"""What Sentry is sent: the class and the place of an error, and none of what it was about. A real client, a receiver on
a loopback socket."""

import gzip
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from workers.runtime import logs
from workers.runtime.sentry import open_errors


def test_an_error_arrives_without_values_locals_or_bodies() -> None:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    errors = open_errors(f"http://key@127.0.0.1:{server.server_port}/7", "worker")
    assert errors is not None
    logs.configure("json", "INFO", io.StringIO(), report=errors.report)
    planted_in_a_local = "sekret-local"
    try:
        raise ValueError(f"'sekret-value' of ada@example.com {len(planted_in_a_local)}")
    except ValueError:
        structlog.get_logger().exception("job.failed", body="sekret-field")
    finally:
        logs.configure("console", "WARNING")
        errors.close()
        server.shutdown()
        server.server_close()
    sent = b"".join(received)
    [event] = [json.loads(line) for line in sent.splitlines() if line.startswith(b"{") and b"exception" in line]
    [error] = event["exception"]["values"]
    assert error["type"] == "ValueError"
    assert error["stacktrace"]["frames"][-1]["function"] == "test_an_error_arrives_without_values_locals_or_bodies"
    assert event["tags"] == {"event": "job.failed", "role": "worker"}
    assert b"sekret" not in sent
    assert b"ada@" not in sent
    assert not {"request", "user", "extra", "breadcrumbs", "server_name"} & event.keys()


def test_without_an_address_nothing_is_reported() -> None:
    assert open_errors("", "web") is None
