# The project's commands; `make` alone prints them. They work from any directory (`make -C`, `-f`),
# need Rust, a C compiler and Python 3.11 with venv, and install everything else into `.tools/`.

ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
CARGO ?= cargo
export CARGO
# Python would otherwise leave its caches among the sources.
export PYTHONDONTWRITEBYTECODE := 1
in_root := cd "$(ROOT)" &&
print_openapi := mkdir -p .tools && $(CARGO) run --quiet --locked -- openapi > .tools/openapi.json

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-thirdparty check openapi clean-tools

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' "$(ROOT)/Makefile" \
		| awk -F'|' '{ printf "%-24s%s\n", $$1, $$2 }'

demo: ## tell the whole story on the terminal, on loopback, against the built-in simulator
	@$(in_root) $(CARGO) run --quiet -- demo

test: ## every test: Rust, both databases, and the third-party proofs
	@$(in_root) tests/tools/run-tests

test-rust: ## only `cargo test`, with a throw-away PostgreSQL server beside it
	@$(in_root) tests/tools/run-tests rust

test-thirdparty: ## only the built binary against other people's servers and clients
	@$(in_root) tests/tools/run-tests thirdparty

check: ## formatting, lints, documentation, dependency guards, and that openapi/ is up to date
	@$(in_root) $(CARGO) fmt --check
	@$(in_root) tests/tools/check-dependencies
	@$(in_root) $(CARGO) clippy --all-targets --locked -- --deny warnings
	@$(in_root) RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --no-deps --document-private-items --locked
	@$(in_root) $(print_openapi)
	@$(in_root) diff --unified openapi/sas-broker.v1.json .tools/openapi.json \
		|| { echo "openapi/ has drifted from the code: run 'make openapi'" >&2; exit 1; }

openapi: ## write openapi/sas-broker.v1.json from the code
	@$(in_root) $(print_openapi)
	@$(in_root) mkdir -p openapi && mv .tools/openapi.json openapi/sas-broker.v1.json

clean-tools: ## remove what the tests installed
	@rm -rf "$(ROOT)/.tools"
