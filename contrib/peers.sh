#!/bin/sh
# Fetches the programs that the transport is tried against and that Debian does not have: Python's grpcio, from PyPI.
# h2load and nghttp come from Debian's nghttp2-client. Without them the tests that need them are skipped, and say so.
#   contrib/peers.sh [FOLDER]        default .build/peers
set -eu
folder=${1:-$(dirname "$0")/../.build/peers}
if [ -d "$folder/grpc" ]; then exit 0; fi
python3 -m pip install --quiet --target "$folder" 'grpcio==1.*'
command -v h2load >/dev/null || echo "h2load and nghttp are missing: apt install nghttp2-client" >&2
