"""Receives OTLP/HTTP metrics, decodes them with the protobuf classes of the OpenTelemetry project, and prints one line of JSON for each
request. Arguments: the port, then the statuses of the first answers (200 afterwards)."""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

statuses = [int(status) for status in sys.argv[2:]]


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = ExportMetricsServiceRequest()
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request.ParseFromString(body)
        # Fields that the classes do not know would be lost silently.
        unknown = request.SerializeToString() and len(request.SerializeToString()) != len(body)
        status = statuses.pop(0) if statuses else 200
        line = {
            "path": self.path,
            "status": status,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "unknown": bool(unknown),
            "request": MessageToDict(request, preserving_proto_field_name=True),
        }
        print(json.dumps(line), flush=True)
        body = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(json.dumps({"ready": True}), flush=True)
server.serve_forever()
