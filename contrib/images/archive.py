#!/usr/bin/env python3
"""Makes an image archive (an OCI layout with docker-save's manifest.json beside it) of directories, one layer each.

The same directories give the same bytes: entries are sorted and carry one fixed time.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CREATED = "2026-01-01T00:00:00Z"
EPOCH = 1767225600
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(directory):
    """The tar of a directory, and the same compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for parent, directories, files in os.walk(directory):
            directories.sort()
            for name in sorted(directories + files):
                path = os.path.join(parent, name)
                entry = tar.gettarinfo(path, os.path.relpath(path, directory))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime = EPOCH
                if entry.isreg():
                    with open(path, "rb") as content:
                        tar.addfile(entry, content)
                else:
                    tar.addfile(entry)
    plain = buffer.getvalue()
    return plain, gzip.compress(plain, compresslevel=6, mtime=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--reference", required=True, help="name:tag")
    parser.add_argument("--layer", action="append", required=True, help="a directory; the lowest first")
    parser.add_argument("--command", action="append", default=[])
    parser.add_argument("--expose", action="append", default=[])
    parser.add_argument("--stop-signal", default="")
    arguments = parser.parse_args()

    blobs = {}
    layers = []
    difference_ids = []
    for directory in arguments.layer:
        plain, compressed = layer(directory)
        blobs[digest(compressed)] = compressed
        difference_ids.append(digest(plain))
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(compressed), "size": len(compressed)})

    settings = {"Env": [PATH], "Cmd": arguments.command, "WorkingDir": "/"}
    if arguments.expose:
        settings["ExposedPorts"] = {port: {} for port in arguments.expose}
    if arguments.stop_signal:
        settings["StopSignal"] = arguments.stop_signal
    configuration = json.dumps({
        "created": CREATED,
        "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": difference_ids},
        "history": [{"created": CREATED, "created_by": "contrib/images"} for _ in layers],
    }).encode()
    blobs[digest(configuration)] = configuration
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(configuration), "size": len(configuration)},
        "layers": layers,
    }).encode()
    blobs[digest(manifest)] = manifest
    tag = arguments.reference.rsplit(":", 1)[1]
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest), "size": len(manifest),
            "annotations": {"io.containerd.image.name": "docker.io/library/" + arguments.reference, "org.opencontainers.image.ref.name": tag},
        }],
    }

    def blob_path(name):
        return "blobs/sha256/" + name.split(":")[1]

    saved = [{"Config": blob_path(digest(configuration)), "RepoTags": [arguments.reference], "Layers": [blob_path(each["digest"]) for each in layers]}]
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), "manifest.json": json.dumps(saved).encode()}
    for name, data in blobs.items():
        files[blob_path(name)] = data
    with tarfile.open(arguments.output, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mtime = EPOCH
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[name]))


if __name__ == "__main__":
    main()
