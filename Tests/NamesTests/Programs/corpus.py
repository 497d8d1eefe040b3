"""Writes the messages that the fuzz tests start from: corpus.py FOLDER."""
import struct
import sys
from pathlib import Path

folder = Path(sys.argv[1])


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def header(flags=0x0100, questions=1, answers=0, authorities=0, additionals=0, identity=0x1234):
    return struct.pack(">6H", identity, flags, questions, answers, authorities, additionals)


def question(text, kind=1):
    return name(text) + struct.pack(">HH", kind, 1)


def options(size=1232, version=0, flags=0, data=b""):
    return b"\0" + struct.pack(">HHBBHH", 41, size, 0, version, flags, len(data)) + data


def record(owner, kind, data, lifetime=60):
    return owner + struct.pack(">HHIH", kind, 1, lifetime, len(data)) + data


pointer = b"\xc0\x0c"
messages = {
    "plain": header() + question("frontend"),
    "address6": header() + question("tasks.frontend", 28),
    "extensions": header(additionals=1) + question("FrontEnd.MyNet") + options(4096, flags=0x8000),
    "cookie": header(0x0120, additionals=1) + question("redis") + options(data=struct.pack(">HH8s", 10, 8, b"12345678")),
    "pointer4": header() + question("2.0.0.10.in-addr.arpa", 12),
    "pointer6": header() + question(".".join("200000000000000000000000000000df") + ".ip6.arpa", 12),
    "any": header() + question("redis", 255),
    "transfer": header() + question("redis", 252),
    "root": header() + question("", 2),
    "chaos": header() + name("version.bind") + struct.pack(">HH", 16, 3),
    "self-pointer": header() + b"\xc0\x0c" + struct.pack(">HH", 1, 1),
    "loop": header() + b"\x01a\xc0\x10\xc0\x0c" + struct.pack(">HH", 1, 1),
    "forward-pointer": header() + b"\xc0\x20" + struct.pack(">HH", 1, 1) + bytes(40),
    "header-pointer": header() + b"\xc0\x00" + struct.pack(">HH", 1, 1),
    "long-label": header() + bytes([63]) + b"x" * 63 + b"\0" + struct.pack(">HH", 1, 1),
    "longest": header() + question(".".join(["x" * 63] * 3 + ["y" * 61])),
    "too-long": header() + question(".".join(["x" * 63] * 4)),
    "bad-label": header() + b"\x80abc\0" + struct.pack(">HH", 1, 1),
    "no-question": header(questions=0),
    "two-questions": header(questions=2) + question("a") + question("b"),
    "many-questions": header(questions=65535) + question("a"),
    "two-extensions": header(additionals=2) + question("a") + options() + options(),
    "version": header(additionals=1) + question("a") + options(version=1),
    "update": header(0x2800) + question("a", 6),
    "response": header(0x8180, answers=1) + question("frontend") + record(pointer, 1, b"\x0a\0\0\2"),
    "many-answers": header(0x8180, answers=3) + question("a.example") + record(pointer, 5, b"\x01b\xc0\x0e") + record(b"\xc0\x27", 1, b"\x0a\0\0\2") * 2,
    "missing": header(0x8183) + question("unknown.example"),
    "failure": header(0x8182) + question("failing.example"),
    "bare-failure": header(0x8181, questions=0),
    "truncated": header(0x8380) + question("big.example"),
    "signed": header(additionals=1) + question("a") + record(name("key"), 250, b"\x03hmac" + bytes(20), 0),
    "trailing": header() + question("frontend") + b"garbage",
    "short": header()[:11],
    "empty": b"",
    "promised": header(answers=65535, authorities=65535, additionals=65535) + question("a"),
}
for key, message in messages.items():
    (folder / f"{key}.bin").write_bytes(message)
