# ccf-net.  `make help` says what can be built; README.md says what for.
#
# What you may set (on the command line or in the environment) stands first.
# What the house needs is kept apart from it, so `make CFLAGS=-O1` loses nothing.

CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC       = cc
endif

VERSION := 0.1.0

# SAN=address,undefined builds the same things, instrumented, beside the others.
B       ?= build$(if $(SAN),-san)

# Asked for when first used, not when this file is read: `make deps all` on a bare
# machine reads it before pkg-config is there.  The first use keeps the answer.
once     = $(if $($1.known),,$(eval $1.known := x$(shell $2)))$(patsubst x%,%,$($1.known))

BSD_CFLAGS    = $(call once,bsd_cflags,pkg-config --cflags libbsd-overlay)
BSD_LIBS      = $(call once,bsd_libs,pkg-config --libs libbsd-overlay)
SSL_CFLAGS    = $(call once,ssl_cflags,pkg-config --cflags openssl)
SSL_LIBS      = $(call once,ssl_libs,pkg-config --libs openssl)
SECCOMP_CFLAGS = $(call once,seccomp_cflags,pkg-config --cflags libseccomp)
SECCOMP_LIBS  = $(call once,seccomp_libs,pkg-config --libs libseccomp)
# Debian 12 has no libllhttp: there node-llhttp brings the C sources.
LLHTTP_CFLAGS = $(call once,llhttp_cflags,pkg-config --cflags libllhttp 2>/dev/null || echo -isystem /usr/share/include/llhttp)
LLHTTP_LIBS   = $(call once,llhttp_libs,pkg-config --libs libllhttp 2>/dev/null || true)
LLHTTP_SRC    = /usr/share/llhttp

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
FORTIFY  = $(if $(filter-out -O0,$(filter -O%,$(CFLAGS))),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN   = -fPIE -fstack-protector-strong $(FORTIFY)
SANITIZE = -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
HOUSE    = -std=c17 -D_GNU_SOURCE -Ilib -DCCF_VERSION=\"$(VERSION)\" -MMD -MP -pthread \
	   $(WARN) $(if $(WERROR),-Werror) $(BSD_CFLAGS) $(if $(SAN),$(SANITIZE),$(HARDEN))
LINK     = -pthread $(if $(SAN),-fsanitize=$(SAN),-pie -Wl,-z,relro,-z,now) -Wl,--as-needed

LIB_OBJ  := $(patsubst %.c,$(B)/%.o,$(wildcard lib/*/*.c))
TOOL_SRC := $(wildcard cmd/ccf-*.c)
CMD_OBJ  := $(patsubst %.c,$(B)/%.o,$(filter-out $(TOOL_SRC),$(wildcard cmd/*.c)))
TOOLS    := $(patsubst cmd/%.c,$(B)/%,$(TOOL_SRC))
UNITS    := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/*.c))
FUZZERS  := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
MANS     := $(wildcard man/*.[1-8])

# What the tools share beside the library; an archive, so that each takes what it uses.
LIBS     := $(if $(CMD_OBJ),$(B)/libcmd.a) $(B)/libccfnet.a $(B)/libllhttp.a

all: $(TOOLS) ## build the tools (default)

# One short line each; V=1 shows the commands.
Q   := $(if $(V),,@)
say  = $(if $(V),,@echo '  $1	$(@:$(B)/%=%)')

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(HOUSE) $(CFLAGS) -c -o $@ $<

$(B)/cmd/%.o $(B)/tests/unit/%.o $(B)/tests/fuzz/%.o: HOUSE += -I.
$(B)/lib/base/%.o: HOUSE += $(SECCOMP_CFLAGS)
$(B)/lib/tls/%.o $(B)/tests/unit/%.o: HOUSE += $(SSL_CFLAGS)
$(B)/lib/wire/%.o $(B)/tests/unit/%.o $(B)/tests/fuzz/%.o: HOUSE += $(LLHTTP_CFLAGS)

$(B)/libccfnet.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)
	$(Q)ar crs $@ $(LIB_OBJ)

$(B)/libcmd.a: $(CMD_OBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)ar crs $@ $(CMD_OBJ)

# Empty where the system has the library.
$(B)/libllhttp.a: Makefile
	@mkdir -p $(B)/llhttp
	@rm -f $@
	$(call say,AR)
	$(Q)$(if $(LLHTTP_LIBS),,set -e; for c in api http llhttp; do \
	  $(CC) $(CPPFLAGS) -std=c17 -DLLHTTP_STRICT_MODE=1 $(LLHTTP_CFLAGS) $(if $(SAN),$(SANITIZE),$(HARDEN)) \
	    $(CFLAGS) -c -o $(B)/llhttp/$$c.o $(LLHTTP_SRC)/$$c.c; done)
	$(Q)ar crs $@ $(if $(LLHTTP_LIBS),,$(addprefix $(B)/llhttp/,api.o http.o llhttp.o))

$(TOOLS): $(B)/%: $(B)/cmd/%.o $(LIBS)
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(LINK) -o $@ $< $(LIBS) $(TOOL_LIBS) $(LLHTTP_LIBS) $(BSD_LIBS) $(LDLIBS)
$(B)/ccf-tlsterm: TOOL_LIBS = $(SSL_LIBS) $(SECCOMP_LIBS)	# nobody else: a test asks ldd

$(UNITS): %: %.o $(LIBS)
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(LINK) -o $@ $< $(LIBS) $(SSL_LIBS) $(SECCOMP_LIBS) $(LLHTTP_LIBS) $(BSD_LIBS) $(LDLIBS)

units: $(UNITS)
objects: $(LIB_OBJ) $(CMD_OBJ) $(patsubst %.c,$(B)/%.o,$(TOOL_SRC) $(wildcard tests/unit/*.c tests/bench/*.c))

# Fuzz targets: clang, everything instrumented, a tree of their own.
fuzzers:
	@$(MAKE) --no-print-directory B=build-fuzz CC=clang SAN=fuzzer-no-link,address,undefined fuzz-programs
fuzz-programs: $(patsubst %,$(B)/fuzz/%,$(FUZZERS))
$(B)/fuzz/%: $(B)/tests/fuzz/%.o $(LIBS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer,address,undefined -pthread -o $@ $< $(LIBS) $(SSL_LIBS) $(LLHTTP_LIBS) $(BSD_LIBS)
.SECONDARY: $(patsubst %,$(B)/tests/fuzz/%.o,$(FUZZERS)) $(patsubst $(B)/%,$(B)/%.o,$(UNITS))

check: $(TOOLS) units fuzzers ## run every test; T=WORD only what has WORD in its name
	@BUILD=$(B) FUZZ=build-fuzz/fuzz T='$(T)' tests/run

san: ## the same suites under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory SAN=address,undefined T='$(T)' BRIEF='$(BRIEF)' san-check
san-check: $(TOOLS) units
	@BUILD=$(B) CCF_SAN=1 T='$(T)' BRIEF='$(BRIEF)' tests/run

SECONDS ?= 60
fuzz: fuzzers ## run the fuzz targets by hand; F=NAME only that one, SECONDS=60 each
	@set -e; for f in $(or $(F),$(FUZZERS)); do \
	  mkdir -p build-fuzz/corpus/$$f; echo "== $$f"; \
	  build-fuzz/fuzz/$$f -max_total_time=$(SECONDS) -artifact_prefix=build-fuzz/$$f- -timeout=10 -print_final_stats=1 \
	    build-fuzz/corpus/$$f $$(find tests/fuzz/corpus/$$f -maxdepth 0 2>/dev/null); done

demo: $(TOOLS) ## bring the pipeline up, fetch a page through it, leave nothing behind
	@BUILD=$(B) tests/demo.sh

interop: $(TOOLS) ## testssl.sh against ccf-tlsterm, its reports in build/interop; some minutes
	@BUILD=$(B) tests/interop/run.sh

bench: $(TOOLS) $(B)/tests/bench/udp $(B)/tests/bench/frames ## CPU time beside the peers that are installed; root, some minutes; T=WORD only rows with it
	@BUILD=$(B) T='$(T)' tests/bench/run.sh
$(B)/tests/bench/udp $(B)/tests/bench/frames: %: %.o
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(LINK) -o $@ $< $(LDLIBS)

format: ## clang-format over every .c file
	clang-format -i $(C_FILES)

# Headers are laid out by hand: what holds for a prototype stands indented below it, which the formatter undoes.
C_FILES  = $(wildcard lib/*/*.c cmd/*.c tests/unit/*.c tests/bench/*.c tests/fuzz/*.c)
SH_FILES = .ci/run $(wildcard tests/run tests/*.sh tests/*.bash tests/bench/*.sh tests/interop/*.sh completions/*.bash)
# In bats every test is a subshell, and `run` sets variables that are read elsewhere.
BATS_OFF = SC2015,SC2016,SC2030,SC2031,SC2034,SC2154,SC2317
lint: lint-format lint-rooms lint-shell lint-man lint-compilers lint-tidy ## all that can be said without running; -k says all of it
lint-format:
	clang-format -n -Werror $(C_FILES)
	awk '{ s = $$0; gsub(/\t/, "        ", s) } length(s) > 132 { print FILENAME ":" FNR ": too wide"; bad = 1 } END { exit bad }' \
	  $(wildcard lib/*/*.h cmd/*.h)
lint-rooms:
	awk -f tests/rooms.awk $(wildcard lib/*/*.[ch] cmd/*.[ch])
lint-shell:
	shellcheck $(SH_FILES)
	$(if $(wildcard tests/*.bats),shellcheck -e $(BATS_OFF) $(wildcard tests/*.bats))
lint-man:
	$(if $(MANS),mandoc -T lint -W warning $(MANS))
lint-compilers:
	@$(MAKE) --no-print-directory -j2 B=build-gcc CC=gcc WERROR=1 objects >/dev/null
	@$(MAKE) --no-print-directory -j2 B=build-clang CC=clang WERROR=1 objects >/dev/null
lint-tidy:
	printf '%s\n' $(wildcard lib/*/*.c cmd/*.c) | xargs -P2 -n4 sh -c 'exec clang-tidy --quiet "$$@" -- $(TIDY_FLAGS) 2>/dev/null' tidy
TIDY_FLAGS = $(filter-out -MMD -MP -Werror,$(HOUSE)) -I. $(SSL_CFLAGS) $(SECCOMP_CFLAGS) $(LLHTTP_CFLAGS)

# --- what has to be installed, for building and for the tests (Debian 12) ---

PACKAGES := build-essential pkg-config libssl-dev libbsd-dev node-llhttp libseccomp-dev \
	bats mandoc shellcheck strace curl ca-certificates openssl ncat netcat-openbsd socat nginx-light gnutls-bin \
	python3 jq sudo iproute2 util-linux procps clang clang-format clang-tidy cppcheck libclang-rt-14-dev \
	xz-utils tar libcap2-bin testssl.sh valgrind slowhttptest apache2-utils wrk nftables

# Says nothing to apt when all is there.  policy-rc.d: the services that packages bring are not started.
define INSTALL
set -e
if [ ! -e /usr/sbin/policy-rc.d ]; then
	trap "rm -f /usr/sbin/policy-rc.d" EXIT
	printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$$@"
endef
export INSTALL
deps: ## install by apt what is missing, for building and for the tests
	@missing=; for p in $(PACKAGES); do \
	  case $$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null) in installed) ;; *) missing="$$missing $$p" ;; esac; \
	done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] && as= || as=sudo; \
	  echo "deps: installing$$missing"; \
	  $$as sh -c "$$INSTALL" deps $$missing; \
	fi
ifneq ($(filter deps,$(MAKECMDGOALS)),)
# In `make deps all` the others wait for it, also under -j.
$(LIB_OBJ) $(CMD_OBJ) $(patsubst %.c,$(B)/%.o,$(TOOL_SRC)) $(UNITS:%=%.o) $(B)/libllhttp.a fuzzers: | deps
endif

# --- installing ---

BINDIR  = $(DESTDIR)$(PREFIX)/bin
MANDIR  = $(DESTDIR)$(PREFIX)/share/man
BASHDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISHDIR = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

install: all ## PREFIX=/usr/local DESTDIR=
	install -d $(BINDIR)
	install -m 0755 $(TOOLS) $(BINDIR)
	set -e; for m in $(MANS); do install -D -m 0644 $$m $(MANDIR)/man$${m##*.}/$${m##*/}; done
	set -e; for c in $(wildcard completions/*.bash); do f=$${c##*/}; install -D -m 0644 $$c $(BASHDIR)/$${f%.bash}; done
	set -e; for c in $(wildcard completions/_*); do install -D -m 0644 $$c $(ZSHDIR)/$${c##*/}; done
	set -e; for c in $(wildcard completions/*.fish); do install -D -m 0644 $$c $(FISHDIR)/$${c##*/}; done

uninstall: ## what install put there, and nothing else
	rm -f $(patsubst $(B)/%,$(BINDIR)/%,$(TOOLS))
	set -e; for m in $(MANS); do rm -f $(MANDIR)/man$${m##*.}/$${m##*/}; done
	rm -f $(patsubst completions/%.bash,$(BASHDIR)/%,$(wildcard completions/*.bash))
	rm -f $(patsubst completions/%,$(ZSHDIR)/%,$(wildcard completions/_*))
	rm -f $(patsubst completions/%,$(FISHDIR)/%,$(wildcard completions/*.fish))

clean: ## remove everything that was built
	rm -rf build build-*

help: ## this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

.PHONY: all units objects fuzzers fuzz-programs check san san-check fuzz demo interop bench format lint lint-format lint-rooms lint-shell lint-man lint-compilers lint-tidy deps install uninstall clean help
-include $(shell find $(B) -name '*.d' 2>/dev/null)
