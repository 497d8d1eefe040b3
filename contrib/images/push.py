#!/usr/bin/env python3
"""Pushes an image archive into a registry over its HTTP API, no engine needed.

    push.py ARCHIVE http://127.0.0.1:5000 [library/nginx:latest]

Without a name, the archive's own is used, under `library/` as docker.io has it. Blobs that the registry has are not sent again.
"""

import hashlib
import json
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request


def call(method, url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return 404, error.headers
        sys.exit(f"push.py: {method} {url}: {error.code} {error.read(500)!r}")


def push_blob(registry, name, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    status, _ = call("HEAD", f"{registry}/v2/{name}/blobs/{digest}")
    if status == 200:
        return digest
    _, headers = call("POST", f"{registry}/v2/{name}/blobs/uploads/", data=b"")
    location = urllib.parse.urljoin(registry, headers["Location"])
    separator = "&" if "?" in location else "?"
    call("PUT", f"{location}{separator}digest={digest}", data=data, headers={"Content-Type": "application/octet-stream"})
    return digest


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    archive, registry = sys.argv[1], sys.argv[2].rstrip("/")
    with tarfile.open(archive) as tar:
        def read(path):
            return tar.extractfile(path).read()

        saved = json.loads(read("manifest.json"))[0]
        reference = sys.argv[3] if len(sys.argv) == 4 else "library/" + saved["RepoTags"][0]
        name, tag = reference.rsplit(":", 1)
        descriptor = json.loads(read("index.json"))["manifests"][0]
        manifest = read("blobs/sha256/" + descriptor["digest"].split(":")[1])
        for path in [saved["Config"], *saved["Layers"]]:
            push_blob(registry, name, read(path))
    call("PUT", f"{registry}/v2/{name}/manifests/{tag}", data=manifest, headers={"Content-Type": descriptor["mediaType"]})
    print(f"{name}:{tag} {descriptor['digest']}")


if __name__ == "__main__":
    main()
