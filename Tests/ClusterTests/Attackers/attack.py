"""Attacks a manager's port: attack.py ADDRESS FOLDER TOKEN. Prints "ok NAME" for each attack that came to nothing, "WRONG NAME …" otherwise.

FOLDER has root.pem, and key and certificate of a worker (worker.key, worker.crt) and of another swarm's manager (foreign.key, foreign.crt).
"""
import ssl
import resource
import socket
import subprocess
import sys
import time

import grpc

address, folder, token = sys.argv[1:]
host, port = address.split(":")
options = [("grpc.ssl_target_name_override", "swarm-manager")]


def read(name):
    with open(f"{folder}/{name}", "rb") as file:
        return file.read()


def channel(who=None):
    pair = (read(f"{who}.key"), read(f"{who}.crt")) if who else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(read("root.pem"), *pair), options)


def check(name, condition, *details):
    print("ok" if condition else "WRONG", name, *(() if condition else details), flush=True)


def text(number, value):
    """A field of bytes, in protobuf."""
    length, prefix = len(value), b""
    while True:
        prefix += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return bytes([number << 3 | 2]) + prefix + value


def outcome(connection, method, message=b"", kind="unary"):
    try:
        if kind == "unary":
            return "OK", connection.unary_unary(method)(message, timeout=20)
        if kind == "server":
            return "OK", next(iter(connection.unary_stream(method)(message, timeout=20)))
        return "OK", connection.stream_unary(method)(iter([message]), timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details()


refusals = ("UNAUTHENTICATED", "PERMISSION_DENIED")
forward = text(1, b"GET") + text(2, b"/services")
with channel() as stranger:
    answer = outcome(stranger, "/docker.swarmkit.v1.CA/GetRootCACertificate")
    check("the root is for everyone", answer[0] == "OK", answer)
    for method, kind in (
        ("/apus.v1.Dispatcher/Session", "server"), ("/apus.v1.Dispatcher/Heartbeat", "unary"), ("/apus.v1.Managers/Forward", "unary"),
        ("/apus.v1.Managers/Join", "unary"), ("/apus.v1.Managers/Certificate", "unary"), ("/apus.v1.Raft/Send", "stream"),
        ("/apus.v1.Raft/InstallSnapshot", "stream"), ("/docker.swarmkit.v1.CA/GetUnlockKey", "unary"),
    ):
        answer = outcome(stranger, method, forward if "Forward" in method else b"", kind)
        check(f"no certificate, {method}", answer[0] in refusals, answer)
    for garbage in (b"", b"\xff" * 100):
        answer = outcome(stranger, "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate", garbage)
        check("garbage for a request", answer[0] in (*refusals, "INVALID_ARGUMENT", "INTERNAL"), answer)

with channel("worker") as worker:
    for method, kind in (
        ("/apus.v1.Managers/Forward", "unary"), ("/apus.v1.Managers/Join", "unary"), ("/apus.v1.Managers/Complete", "unary"),
        ("/apus.v1.Managers/Leave", "unary"), ("/apus.v1.Managers/Certificate", "unary"), ("/apus.v1.Raft/Send", "stream"),
        ("/apus.v1.Raft/InstallSnapshot", "stream"), ("/docker.swarmkit.v1.CA/GetUnlockKey", "unary"),
    ):
        answer = outcome(worker, method, forward if "Forward" in method else b"", kind)
        check(f"a worker's certificate, {method}", answer[0] in refusals, answer)

with channel("foreign") as foreign:
    for method in ("/apus.v1.Managers/Forward", "/apus.v1.Managers/Join"):
        answer = outcome(foreign, method, forward)
        check(f"another swarm's certificate, {method}", answer[0] in (*refusals, "UNAVAILABLE"), answer)

subprocess.run(
    ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{folder}/wish.key", "-out", f"{folder}/wish.csr",
     "-subj", "/O=other/OU=swarm-manager/CN=aaaaaaaaaaaaaaaaaaaaaaaaa"], check=True, capture_output=True)
with channel() as stranger:
    request = b"\x08\x01" + text(2, read("wish.csr")) + text(3, token.encode())
    code, answer = outcome(stranger, "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate", request)
    subject = ""
    if code == "OK":
        identifier = answer[2:2 + answer[1]]
        for _ in range(100):
            code, status = outcome(stranger, "/docker.swarmkit.v1.NodeCA/NodeCertificateStatus", text(1, identifier))
            begin = status.find(b"-----BEGIN CERTIFICATE-----") if code == "OK" else -1
            if begin >= 0:
                result = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=status[begin:], check=True, capture_output=True)
                subject = result.stdout.decode()
                break
            time.sleep(0.1)
    refused = code in (*refusals, "INVALID_ARGUMENT")
    check("a request for another role and id", refused or ("swarm-worker" in subject and "aaaaaaaaaaaaaaaaaaaaaaaaa" not in subject), code, answer, subject)
    wrong = token[:-25] + "1" * 25
    codes = {}
    for _ in range(500):
        code = outcome(stranger, "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate", text(2, read("wish.csr")) + text(3, wrong.encode()))[0]
        codes[code] = codes.get(code, 0) + 1
    check("a flood of requests with a wrong token", "OK" not in codes, codes)

    wishes = []
    for _ in range(20):
        subprocess.run(
            ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-out",
             f"{folder}/flood.csr", "-subj", "/CN=x"], check=True, capture_output=True)
        wishes.append(read("flood.csr"))
    codes = {}
    for number in range(1000):
        wish = wishes[number % len(wishes)]
        code = outcome(stranger, "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate", b"\x08\x01" + text(2, wish) + text(3, token.encode()))[0]
        codes[code] = codes.get(code, 0) + 1
    check("a flood of requests with a good token is bounded", codes.get("OK", 0) < 100 and "UNAVAILABLE" in codes, codes)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def flood(name, frames):
    """Sends frames for as long as they are taken; the server must end the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=20) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        sent, ended = 0, False
        try:
            for piece in frames:
                connection.sendall(piece)
                sent += 1
            while connection.recv(16384):
                pass
            ended = True
        except socket.timeout:
            pass
        except OSError:
            ended = True
    check(name, ended, sent)


# :method POST, :scheme https, :path /docker.swarmkit.v1.CA/GetRootCACertificate, :authority x, content-type application/grpc, te trailers
path, kind = b"/docker.swarmkit.v1.CA/GetRootCACertificate", b"application/grpc"
block = (b"\x83\x87\x04" + bytes([len(path)]) + path + b"\x01\x01x\x0f\x10" + bytes([len(kind)]) + kind + b"\x00\x02te\x08trailers")
flood("rapid reset", (frame(1, 4, 2 * number + 1, block) + frame(3, 0, 2 * number + 1, b"\0\0\0\x08") for number in range(20000)))
flood("CONTINUATION without an end", [frame(1, 0, 1, block)] + [frame(9, 0, 1, b"\x00\x01a\x7f\x00" + b"b" * 127) for _ in range(20000)])
flood("SETTINGS", (frame(4, 0, 0, b"\0\x04\0\0\xff\xff") for _ in range(20000)))
flood("PING", (frame(6, 0, 0, b"12345678") for _ in range(20000)))

for version in ("-tls1", "-tls1_1"):
    result = subprocess.run(
        ["openssl", "s_client", "-connect", address, version, "-cipher", "DEFAULT@SECLEVEL=0", "-alpn", "h2"], input=b"", capture_output=True, timeout=30)
    check(f"openssl s_client {version}", b"BEGIN CERTIFICATE" not in result.stdout, result.stdout[-300:])

strangers = []
for _ in range(2000):
    try:
        connection = socket.create_connection((host, int(port)), timeout=5)
        # A handshake that begins and never ends.
        connection.send(b"\x16\x03\x01\x02\x00\x01")
        strangers.append(connection)
    except OSError:
        break
with channel() as stranger:
    answer = outcome(stranger, "/docker.swarmkit.v1.CA/GetRootCACertificate")
    # It may have to wait for a place, or be refused one; it must not hang the manager, which the test looks at itself.
    check(f"{len(strangers)} handshakes that never end", answer[0] in ("OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"), answer)
end, closed = time.monotonic() + 120, 0
for connection in strangers:
    connection.settimeout(max(0.01, end - time.monotonic()))
    try:
        while connection.recv(4096):
            pass
        closed += 1
    except socket.timeout:
        pass
    except OSError:
        closed += 1
check("handshakes that never end are ended", closed == len(strangers), closed, len(strangers))

resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
strangers = []
for _ in range(10000):
    try:
        strangers.append(socket.create_connection((host, int(port)), timeout=5))
    except OSError:
        break
with channel() as stranger:
    answer = outcome(stranger, "/docker.swarmkit.v1.CA/GetRootCACertificate")
    check(f"{len(strangers)} strangers that say nothing", len(strangers) > 9000 and answer[0] == "OK", answer)
for connection in strangers:
    connection.close()
print("end", flush=True)
