#!/bin/bash
# The way of a certificate authority's author: made, built apart, tested, installed, enabled, a swarm begun with it, removed.
# With an engine of its own in a network namespace of its own; nothing is left behind. test-ca.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
engines="1"
. "$here/engines.sh"

step "apus plugin new: a package, with the committed logic and its tests put in"
make_plugin ca openssl "$here/ca-openssl" OpensslAuthority Workshop Command

step "an engine of its own; apus plugin install, enable"
make_nodes
start 1
apus plugin install "$library"
expect 1 ca/openssl available
apus plugin enable ca/openssl
expect 1 ca/openssl enabled

step "a swarm that begins with it: its certificates are on openssl's own record"
apus swarm init --advertise-addr "$(address 1)" >/dev/null
index=$(find "$root/1/data" -name index.txt | head -1)
[ -n "$index" ] || fail "there is no index of what was issued"
grep -q OU=swarm-manager "$index" || fail "the manager's certificate is not on record"
certificates=$root/1/data/swarm/certificates
openssl verify -CAfile "$certificates/swarm-root-ca.crt" "$certificates/swarm-node.crt"
[ -z "$(find "$root/1/exec" -name root.key)" ] || fail "the root key was left on the disk"

step "apus plugin disable, rm"
apus swarm leave --force >/dev/null
apus plugin disable ca/openssl
apus plugin rm ca/openssl
[ -z "$(state 1 ca/openssl)" ] || fail "it is still listed"
echo "the example was made, built, tested, enabled, used and removed"
