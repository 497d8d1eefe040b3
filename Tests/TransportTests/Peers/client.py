"""grpcio as the client of the transport's echo server. Prints "ok NAME" for each thing that is as it should be."""
import sys
import threading

import grpc

port, folder = sys.argv[1], sys.argv[2]


def read(name):
    with open(f"{folder}/{name}", "rb") as file:
        return file.read()


options = [
    ("grpc.ssl_target_name_override", "swarm-manager"),
    ("grpc.max_receive_message_length", 5 << 20),
    ("grpc.max_send_message_length", 5 << 20),
]
address = f"127.0.0.1:{port}"


def channel(certificate=True):
    credentials = grpc.ssl_channel_credentials(
        read("root.pem"), read("key.pem") if certificate else None, read("certificate.pem") if certificate else None
    )
    return grpc.secure_channel(address, credentials, options)


def check(name, condition, *details):
    print("ok" if condition else "WRONG", name, *(() if condition else details), flush=True)


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


with channel() as connection:
    unary = connection.unary_unary("/test.Echo/Unary")
    bidirectional = connection.stream_stream("/test.Echo/Bidirectional")

    answer, call = unary.with_call(b"hello", metadata=(("key", "value"), ("data-bin", bytes(range(256)))), timeout=30)
    check("unary", answer == b"hello", answer)
    first = dict(call.initial_metadata())
    check("metadata", first.get("key") == "value" and first.get("data-bin") == bytes(range(256)), first)
    last = dict(call.trailing_metadata())
    check("trailers", last.get("trailer") == "end" and last.get("trailer-bin") == b"\x00\x01\xff", last)

    check("empty", unary(b"", timeout=30) == b"")
    big = bytes(i * 31 & 255 for i in range(4 << 20))
    check("four-mebibytes", unary(big, timeout=60) == big)
    error = failure(lambda: unary(big + b"x", timeout=60))
    check("too-large", error is not None and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error)

    check("identity", connection.unary_unary("/test.Echo/Who")(b"", timeout=30) == b"python worker cluster valid der specific")

    parts = list(connection.unary_stream("/test.Echo/ServerStream")(b"\x0a", timeout=60))
    check("server-stream", len(parts) == 1000 and all(len(part) == 1000 for part in parts), len(parts))

    joined = connection.stream_unary("/test.Echo/Unary")((bytes([i & 255]) * 1000 for i in range(500)), timeout=60)
    check("client-stream", joined == b"".join(bytes([i & 255]) * 1000 for i in range(500)), len(joined))

    sent = [bytes([i & 255]) * (i * 7) for i in range(300)]
    check("bidirectional", list(bidirectional(iter(sent), timeout=60)) == sent)

    # One message at a time: the next is sent when the last has come back.
    turn = threading.Semaphore(1)

    def turns():
        for number in range(100):
            turn.acquire()
            yield bytes([number])

    got = []
    for message in bidirectional(turns(), timeout=60):
        got.append(message)
        turn.release()
    check("turns", got == [bytes([number]) for number in range(100)], len(got))

    error = failure(lambda: connection.unary_unary("/test.Echo/Fail")(b"", timeout=30))
    check(
        "error",
        error is not None and error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "no – 100 % no"
        and dict(error.trailing_metadata()).get("why") == "because" and dict(error.trailing_metadata()).get("why-bin") == b"\x01\x02\x03",
        error,
    )
    error = failure(lambda: connection.unary_unary("/test.Echo/Nothing")(b"", timeout=30))
    check("unimplemented", error is not None and error.code() == grpc.StatusCode.UNIMPLEMENTED, error)

    error = failure(lambda: connection.unary_unary("/test.Echo/Hang")(b"", timeout=1))
    check("deadline", error is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)

    hanging = connection.unary_unary("/test.Echo/Hang").future(b"", timeout=60)
    threading.Timer(0.5, hanging.cancel).start()
    try:
        hanging.result()
        check("cancelled", False)
    except grpc.FutureCancelledError:
        check("cancelled", True)
    except grpc.RpcError as error:
        check("cancelled", error.code() == grpc.StatusCode.CANCELLED, error)

    error = failure(lambda: connection.unary_unary("/test.Echo/Unary")(b"x", timeout=30, compression=grpc.Compression.Gzip))
    check("compressed", error is not None and error.code() == grpc.StatusCode.UNIMPLEMENTED, error)

    calls = [unary.future(str(number).encode(), timeout=60) for number in range(500)]
    check("at-once", all(call.result() == str(number).encode() for number, call in enumerate(calls)))

with channel(certificate=False) as connection:
    check("nobody", connection.unary_unary("/test.Echo/Who")(b"", timeout=30) == b"nobody - - valid - specific")
