#!/bin/bash
# encryption.sh [-b BACKEND] [FILTER]
# Runs the tests of encrypted networks in a virtual machine whose kernel has ESP and VXLAN.
#
# The tests must be built: swift build --build-tests. FILTER is ENCRYPTION_TESTS, or else "NetworkTests\.\w*Encrypt". guest.sh says what VM and
# TEST_BINARY are.
set -eu
. "$(dirname "$0")/guest.sh"
need_vm
need_tests
status=0
run_tests 300 "${1:-${ENCRYPTION_TESTS:-NetworkTests\.\w*Encrypt}}" "
    ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 mode transport aead 'rfc4106(gcm(aes))' \
        0x0102030405060708090a0b0c0d0e0f1011121314 128 || { echo 'the kernel has no ESP with AES-GCM' >&2; exit 1; }
    ip xfrm state flush
    uname -r" || status=$?
# What the test program says when nothing has such a name: they may not be written yet.
if [ $status = 69 ] && [ $# = 0 ]; then
    echo "encryption.sh: skipped, the test program has no tests of encryption"
    exit 0
fi
exit $status
