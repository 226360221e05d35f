# `make demo` and `make test` prepare whatever they need; `make help` lists the rest.
PYTHON := .venv/bin/python
SOURCES := cilia services laboratory bench tests tools
BPF_SOURCES := $(wildcard bpf/*.c bpf/*/*.c bpf/*/*.h)

# Tests mostly wait, for processes and for the kernel: more of them at a time than processors.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup build demo test test-cluster abi complexity kernels format figures check bench proofs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/'

setup: ## install what is missing: packages, .venv, compiled parts
	@tools/bootstrap

build: setup ## compile the data plane and its binding

demo: setup ## three nodes, a dozen pods, real policy on real traffic (KEEP=1 leaves the cluster up)
	@$(PYTHON) -m laboratory.demo $(if $(KEEP),--keep)

test: setup ## all tests, on real kernels, brokers and kvstores
	@$(PYTHON) -m pytest $(PARALLEL)

test-cluster: setup ## only the tests that start clusters or agents
	@$(PYTHON) -m pytest $(PARALLEL) tests/cluster

abi: setup ## generate cilia/abi from the C objects' BTF
	@$(PYTHON) -m tools.abi

complexity: setup ## record what the programs cost the verifier, after a change of bpf/ that is worth it
	@$(PYTHON) -m tools.complexity --record

kernels: setup ## the data plane on Debian's kernels 6.1 and 6.12, in QEMU; some ten minutes
	@$(PYTHON) -m tools.kernels

format: setup ## format Python and C
	@.venv/bin/ruff format $(SOURCES)
	@clang-format -i $(BPF_SOURCES)

figures: ## sizes, layers, prose, tests and copies, beside those of a revision (BASE=REV)
	@$(PYTHON) -m tools.figures $(if $(BASE),--base $(BASE))

check: setup ## lint, types, layers, generated files, what the programs cost the verifier
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m tools.bpf_access
	clang-format --dry-run -Werror $(BPF_SOURCES)
	$(PYTHON) -m tools.abi --check
	$(PYTHON) -m tools.complexity --check
	$(PYTHON) -m tools.figures --check

bench: setup ## every benchmark, as tables
	@for name in kvstore table identity datapath noisy_neighbour endpoint policy; do $(PYTHON) -m bench.$$name || exit 1; done

proofs: setup ## why the client isn't etcd3, the loader isn't bcc and the agent has no pyroute2, shown by running them
	@$(PYTHON) -m tools.proofs.etcd3
	@$(PYTHON) -m tools.proofs.bcc
	@$(PYTHON) -m tools.proofs.pyroute2

clean: ## remove what the build made
	rm -rf build dist cilia/datapath/objects cilia/datapath/_libbpf* .pytest_cache .mypy_cache .ruff_cache
