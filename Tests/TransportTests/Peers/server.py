"""grpcio as the server of the transport's client: an echo service of raw bytes. Prints its port, and serves until its input ends."""
import sys
import time
from concurrent import futures

import grpc

folder = sys.argv[1]


def read(name):
    with open(f"{folder}/{name}", "rb") as file:
        return file.read()


def unary(request, context):
    context.send_initial_metadata(tuple((key, value) for key, value in context.invocation_metadata() if key in ("key", "data-bin")))
    context.set_trailing_metadata((("trailer", "end"), ("trailer-bin", b"\x00\x01\xff")))
    return request


def joined(requests, context):
    return b"".join(requests)


def bidirectional(requests, context):
    yield from requests


def server_stream(request, context):
    for _ in range(request[0] * 100):
        yield b"\x07" * 1000


def fail(request, context):
    context.set_trailing_metadata((("why", "because"), ("why-bin", b"\x01\x02\x03")))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no – 100 % no")


def hang(request, context):
    while context.is_active():
        time.sleep(0.02)
    return b""


def who(request, context):
    return b" ".join(context.auth_context().get("x509_common_name", [b"nobody"]))


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Joined": grpc.stream_unary_rpc_method_handler(joined),
    "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Who": grpc.unary_unary_rpc_method_handler(who),
}
server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=16),
    options=[("grpc.max_receive_message_length", 5 << 20), ("grpc.max_send_message_length", 5 << 20)],
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
credentials = grpc.ssl_server_credentials([(read("key.pem"), read("certificate.pem"))], read("root.pem"), True)
port = server.add_secure_port("127.0.0.1:0", credentials)
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(0)
