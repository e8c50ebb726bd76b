# SPDX-License-Identifier: Apache-2.0
#
# make demo     three updates on a throwaway host, with what they need
# make test     every test but the long runs
# make build    bin/lupatch
# make install  it and its systemd units, below DESTDIR
# make lab-debug-kernel   the kernel with KASAN and lockdep that some tests want
# make evidence-corpus CORPUS=DIR [N=60]   what share of real fixes becomes an update
# make evidence-crash   kill -9 and power-off at every record of the journal
# make evidence-differ CORPUS=DIR [N=60]   the differ beside kpatch's, over the same objects
# make evidence-shadow [RUN=EXPR]   drivers replaced under load
# make test-thorough [TEST=EXPR]    tests in full
# make evidence-shadow-crash        lupatch ended while it replaces one
# make evidence-emulator            changed code under QEMU's TCG
# make evidence-quiesce                    tasks in the way: foretold, and then waited for
#
# Nothing but Debian packages and Go modules is fetched. Caches are kept below
# the user's cache folder (~/.cache/lupatch).

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED := 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)

# Found when it is first needed, which is after `deps` may have installed one.
GO = $(eval GO := $$(shell hack/go.sh))$(GO)

# What building updates and running lab hosts takes on Debian 12.
PACKAGES := gcc-12 gcc make xz-utils bc flex bison libelf-dev libssl-dev \
            qemu-system-x86 busybox-static kmod zstd cpio openssl e2fsprogs
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: build install demo test vet deps bench fuzz generate clean lab-debug-kernel evidence-corpus evidence-differ evidence-crash evidence-quiesce evidence-shadow evidence-shadow-crash evidence-emulator test-thorough

build: bin/lupatch

bin/lupatch: FORCE
	@mkdir -p bin
	@[ -n "$(GO)" ]
	$(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/lupatch

FORCE:

# apt is asked only for what is missing, so that this costs nothing later.
deps:
	@missing=$$(for p in $(PACKAGES); do \
	    dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	lists=$$(find /var/lib/apt/lists -name '*Packages*' 2>/dev/null | head -n 1 || true); \
	if [ -n "$$missing" ] || [ -z "$$lists" ]; then $(SUDO) apt-get update -q; fi; \
	if ! command -v go >/dev/null && [ ! -x /usr/local/go/bin/go ]; then missing="$$missing golang-1.19-go"; fi; \
	if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y --no-install-recommends $$missing; fi

demo: deps
	$(MAKE) --no-print-directory bin/lupatch
	@mkdir -p bin && $(GO) build -buildvcs=false -o bin/demo ./examples/demo
	@bin/demo bin/lupatch examples

vet:
	@out=$$($(dir $(GO))gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(GO) vet ./...

# -p 2: two packages at a time; each boots one or two lab hosts.
# A sample of what takes long; the longest packages first, so that they overlap.
test: deps
	$(MAKE) --no-print-directory vet bin/lupatch
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" $(GO) test -p 2 -timeout 30m ./internal/live ./internal/build ./...

# Ten to twenty minutes on two processors, once; it is kept as long as its
# configuration and source are the same.
lab-debug-kernel: deps
	$(MAKE) --no-print-directory bin/lupatch
	bin/lupatch lab debug-kernel

bench:
	$(GO) test -run '^$$' -bench . -benchtime 3x ./internal/build ./internal/evidence/objpair ./patchgen ./internal/kallsyms

# Every parser of foreign bytes, FUZZTIME each.
FUZZTIME ?= 20s
fuzz:
	@for p in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	    for f in $$(grep -rhoP '^func \KFuzz\w+' $$p/*_test.go); do \
	        echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

# A corpus is a folder with fixes.tsv and fixes/*.patch. All of it goes into the
# documents; a sample of N, drawn with SEED, is only printed. Both go on where
# they were interrupted. REDO=refused,failed measures those again.
CORPUS ?= ../shared/corpus
KERNEL ?= 6.1.0-47-amd64
N      ?= 0
SEED   ?= 1
REDO   ?=
ifeq ($(N),0)
CORPUS_OUT := -table docs/evidence/corpus-$(KERNEL).tsv -report docs/effectiveness.md -labels docs/evidence/corpus-labels.tsv
else
CORPUS_OUT := -table bin/corpus-$(KERNEL)-$(SEED).tsv -n $(N) -seed $(SEED)
endif
evidence-corpus: deps
	@[ -f $(CORPUS)/fixes.tsv ] || { echo "evidence-corpus: no fixes.tsv in $(CORPUS); say CORPUS=FOLDER" >&2; exit 2; }
	$(MAKE) --no-print-directory bin/lupatch
	$(GO) build -buildvcs=false -o bin/corpus ./internal/evidence/corpus
	bin/corpus -corpus $(CORPUS) -kernel $(KERNEL) -redo '$(REDO)' $(CORPUS_OUT)

# Compiles what is not kept yet; both programs then run on the same objects in
# turns, which wants an idle machine. kpatch's is unpacked, not installed.
KPATCH_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lupatch/evidence/kpatch
ifeq ($(N),0)
DIFFER_OUT := -table docs/evidence/differ-$(KERNEL).tsv -report docs/effectiveness.md
else
DIFFER_OUT := -table bin/differ-$(KERNEL)-$(SEED).tsv -n $(N) -seed $(SEED)
endif
evidence-differ: deps
	@[ -f $(CORPUS)/fixes.tsv ] || { echo "evidence-differ: no fixes.tsv in $(CORPUS); say CORPUS=FOLDER" >&2; exit 2; }
	hack/kpatch-tools.sh $(KPATCH_DIR)
	@mkdir -p bin
	$(GO) build -buildvcs=false -o bin/corpus ./internal/evidence/corpus
	$(GO) build -buildvcs=false -trimpath -ldflags '-s -w' -o bin/diffone ./internal/evidence/objpair/diffone
	bin/corpus -corpus $(CORPUS) -kernel $(KERNEL) -kpatch $(KPATCH_DIR)/usr/lib/kpatch/create-diff-object \
	    -explained docs/evidence/differ-explained.tsv $(DIFFER_OUT)

# Every point, some 40 minutes on an idle machine; goes on where it was interrupted
# as long as the tree is the same.
evidence-crash: deps
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" LUPATCH_EVIDENCE_CRASH="$(CURDIR)/docs/evidence/crash-%-$(KERNEL).tsv" \
	    $(GO) test ./internal/live -run '^TestCrash$$' -count=1 -timeout 4h -v

# Drivers replaced again and again, some hours; each run is a row, and a row that is
# there for this tree is not measured again. RUN='many e1000' is one of them.
RUN ?= .
evidence-shadow: deps
	$(GO) build -buildvcs=false -trimpath -tags crashpoints -o bin/lupatch-points ./cmd/lupatch
	$(GO) build -buildvcs=false -o bin/shadow ./internal/evidence/shadow
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" bin/shadow -table docs/evidence/shadow-runs.tsv -run '$(RUN)'

# With all that `make test` has a sample of; TEST=EXPR for some tests alone.
TEST ?= .
test-thorough: deps
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" LUPATCH_THOROUGH=1 $(GO) test -p 2 -run '$(TEST)' -count=1 -timeout 3h ./...

evidence-shadow-crash: deps
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" LUPATCH_EVIDENCE_SHADOW_CRASH="$(CURDIR)/docs/evidence/shadow-crash-%-$(KERNEL).tsv" \
	    $(GO) test ./internal/live -run '^TestDriverKilled$$' -count=1 -timeout 4h -v

# For hosts without a package: the program and its units, which are not enabled.
DESTDIR ?=
install: build
	install -D -m 755 bin/lupatch $(DESTDIR)/usr/sbin/lupatch
	install -d $(DESTDIR)/usr/lib/systemd/system
	install -m 644 packaging/systemd/*.service packaging/systemd/*.timer $(DESTDIR)/usr/lib/systemd/system

# Does the emulator execute code as another processor has just left it? The installed
# one, and the one that the lab takes.
evidence-emulator: deps
	$(MAKE) --no-print-directory bin/lupatch
	$(GO) build -buildvcs=false -o bin/emulator ./internal/evidence/emulator
	PATH="$(dir $(GO)):$$PATH:/usr/sbin:/sbin" bin/emulator -lupatch bin/lupatch -table docs/evidence/emulator.tsv $$(command -v qemu-system-x86_64)

# Predicted blockers against those that transitions waited for, 50 times.
evidence-quiesce: deps
	$(MAKE) --no-print-directory bin/lupatch
	$(GO) build -buildvcs=false -o bin/quiesce ./internal/evidence/quiesce
	bin/quiesce -kernel $(KERNEL) -table docs/evidence/quiesce-$(KERNEL).tsv

# Only this needs clang: what it makes is committed.
generate:
	@command -v clang >/dev/null && command -v llvm-strip >/dev/null || \
	    DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y --no-install-recommends clang llvm
	$(GO) generate ./...

clean:
	rm -rf bin
