"""Small HTTP server for pods, which answers every GET with its name.

``python -m laboratory.http_server NAME PORT``.
"""

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


class Answer(BaseHTTPRequestHandler):
    """Answer to one request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the server's name."""
        body = f"{sys.argv[1]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Server on both families."""

    address_family = socket.AF_INET6
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind, without asking anybody for this machine's name."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = sys.argv[1], self.server_address[1]


if __name__ == "__main__":
    Server(("::", int(sys.argv[2])), Answer).serve_forever()
