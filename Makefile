# Two commands matter: `make run` and `make test`. Run them as root on Debian 12 with a Swift toolchain on the PATH.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help run stop test simulate bench build stage packages format lint completions install uninstall clean test-vm examples-test

# One configuration serves run and test, so that a new clone builds once.
SWIFT_FLAGS := -c release -Xswiftc -enable-testing
STAGE := $(CURDIR)/.build/stage
# Not /usr/local: there, drop-in plugins lie in lib/apus/plugins.
PREFIX ?= /usr

BUILD_PACKAGES := pkg-config libssl-dev libnghttp2-dev libltdl-dev libnl-3-dev libnl-route-3-dev libnl-genl-3-dev libseccomp-dev libnftables-dev \
	libcurl4-openssl-dev libarchive-dev
RUN_PACKAGES := runc crun conmon nftables iproute2 tini docker-registry mmdebstrap busybox-static python3 curl ca-certificates procps openssl xz-utils bzip2 zstd

help:
	@echo "make run      build, start an engine and a service of five, show it; make stop ends it"
	@echo "make test     run all tests"
	@echo "make test-vm  run those that need another kernel, in a virtual machine"
	@echo "make bench    measure, beside Docker, etcd and grpc-swift; PARTS=\"network failures\" for some parts only"
	@echo "make install  install into PREFIX ($(PREFIX))"
	@echo "make format | lint | completions | clean"

packages:
	@contrib/packages.sh $(BUILD_PACKAGES) $(RUN_PACKAGES)

build: packages
	swift build $(SWIFT_FLAGS)

stage: build
	@contrib/stage.sh .build/release $(STAGE)

run: stage
	@contrib/demo/run.sh $(STAGE)

stop:
	@contrib/demo/stop.sh $(STAGE)

# The docker CLI of Debian is one of the clients that the tests use.
test: packages
	@contrib/packages.sh docker.io golang-cfssl protobuf-compiler nghttp2-client faketime python3-grpcio bind9-dnsutils musl-tools
	swift build $(SWIFT_FLAGS) --build-tests
	@contrib/stage.sh .build/release $(STAGE)
	contrib/test.sh $(STAGE) $(SWIFT_FLAGS)

# Raft's bad days: make simulate SEEDS=100000; one again: make simulate FROM=<seed> SEEDS=1
SEEDS ?= 100000
FROM ?= 0
simulate:
	APUS_SIMULATE_SEEDS=$(SEEDS) APUS_SIMULATE_FROM=$(FROM) swift test $(SWIFT_FLAGS) --filter SimulationTests.SimulationTests/manyBadDays

examples-test: stage
	contrib/examples/test.sh $(STAGE)
	contrib/examples/test-ca.sh $(STAGE)
	contrib/examples/test-network.sh $(STAGE)
	contrib/examples/test-runtime.sh $(STAGE)

# What needs another kernel; VM=…/vmrun.sh says how a command is run under one.
test-vm: packages
	swift build $(SWIFT_FLAGS) --build-tests
	@contrib/stage.sh .build/release $(STAGE)
	@for part in balancer networks encryption runtime; do \
		echo "== Tests/VM/$$part.sh"; TEST_BINARY="$$(swift build $(SWIFT_FLAGS) --show-bin-path)/apusPackageTests.xctest" Tests/VM/$$part.sh || exit 1; done

# One part alone: make bench PARTS=network. Parts: engines failures network vm commits manager transport.
PARTS ?=
bench: stage
	contrib/bench/run.sh $(STAGE) $(PARTS)

completions: stage
	$(STAGE)/bin/apus --generate-completion-script bash > contrib/completions/apus.bash
	$(STAGE)/bin/apus --generate-completion-script zsh > contrib/completions/_apus
	$(STAGE)/bin/apus --generate-completion-script fish > contrib/completions/apus.fish

install: stage
	contrib/install.sh $(STAGE) $(DESTDIR)$(PREFIX)

uninstall:
	contrib/install.sh --remove $(DESTDIR)$(PREFIX)

SOURCES = $(shell git ls-files '*.swift')

format:
	swift format --in-place --parallel --configuration .swift-format $(SOURCES)

lint:
	swift format lint --strict --parallel --configuration .swift-format $(SOURCES)

clean:
	rm -rf .build
