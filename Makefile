# The front door. Underneath is CMake with presets, usable by itself: see CONTRIBUTING.md.
#
#   make demo          quantize the demo model four ways, evaluate all, print the table
#   make test          build and run all tests; LABEL=unit runs a part
#   make build         libpare, quantize, accuracy-eval, tests and benchmarks in build/release
#   make lint          clang-format and clang-tidy
#   make report-check  the page of --report is what its sources build, and works in a browser
#   make sanitize      unit tests under the address and undefined-behaviour sanitizers
#   make bench         all benchmarks
#   make install       PREFIX=/usr/local, DESTDIR=
#   make deb           Debian packages of programs, library and development files in build/deb
#   make deps          install missing Debian packages
#   make clean         remove build/

SHELL := /bin/bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
WERROR ?= OFF
LABEL ?= .
RELEASE := build/release

.PHONY: all demo test build configure lint report-check sanitize bench install deb deps clean help
all: build

help:
	@sed -n 's/^#   //p' Makefile

deps:
	@cmake/install-packages.sh

configure: deps
	@echo "==> Configuring $(RELEASE)"
	@cmake --preset release -DPARE_WERROR=$(WERROR) -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null

build: configure
	@echo "==> Building everything in $(RELEASE) with $(JOBS) jobs"
	@cmake --build --preset release -j $(JOBS)

# Only what the demo needs: the tests take longer to compile than the programs.
demo: configure
	@echo "==> Building quantize and accuracy-eval with $(JOBS) jobs"
	@cmake --build --preset release -j $(JOBS) --target quantize accuracy-eval
	@demo/run.sh $(RELEASE)

test: build
	@echo "==> Running the tests"
	@ctest --preset release -j $(JOBS) -L '$(LABEL)'

sanitize: deps
	@echo "==> Building the unit tests with sanitizers in build/asan-ubsan"
	@cmake --preset asan-ubsan >/dev/null
	@cmake --build --preset asan-ubsan -j $(JOBS) --target unit_tests
	@echo "==> Running the unit tests with sanitizers"
	@ctest --preset asan-ubsan -j $(JOBS)

lint: configure
	@cmake/install-packages.sh --lint
	@JOBS=$(JOBS) cmake/lint.sh $(RELEASE)

# Not part of the build: report/page.html is there already. PAGES are checked as well.
report-check:
	@cmake/install-packages.sh --report
	@report/check.sh $(PAGES)

bench: build
	@for program in $(RELEASE)/bench/*_bench; do echo "==> $$program"; $$program || exit 1; done

install: configure
	@echo "==> Building what is installed"
	@cmake --build --preset release -j $(JOBS) --target pare quantize accuracy-eval pages
	@echo "==> Installing under $(DESTDIR)$(PREFIX)"
	@DESTDIR=$(DESTDIR) cmake --install $(RELEASE) --prefix $(PREFIX) >/dev/null

deb: configure
	@echo "==> Building what is packaged"
	@cmake --build --preset release -j $(JOBS) --target pare quantize accuracy-eval pages
	@echo "==> Packing"
	@cpack --config $(RELEASE)/CPackConfig.cmake -B build/deb | grep -F .deb

clean:
	rm -rf build
