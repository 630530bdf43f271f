# The commands of this repository; each is a script in kind/ or a line of cargo. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo kind-ha test clients conformance differential lint fmt images audit clean

# CONTEXT=name: an existing cluster instead of a KIND cluster of its own. KEEP=1: `make test` leaves its cluster.
export CONTEXT KEEP MINUTES SEED

help: ## Lists what there is to make.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Shows the product on a KIND cluster, from nothing to a restored backup (CONTEXT=name: on that cluster).
	@kind/demo.sh

kind-ha: ## Brings up a KIND cluster with three control planes.
	@kind/ha.sh

test: ## Runs every test: lint, unit, scripted, crash, and end to end on a KIND cluster (KEEP=1 keeps it).
	@kind/test.sh

clients: ## Runs the tests with clients that others wrote: Go, Python, JavaScript, Java and Rust.
	@kind/clients.sh

conformance: ## Runs etcd's own test suites against kvnode, and Kubernetes' own tests of what it keeps in etcd.
	@e2e/conformance/run.sh
	@e2e/conformance/kubernetes/run.sh

differential: ## Compares kvnode with etcd by random operations (MINUTES=60, SEED=n for one sequence of cases).
	@kind/differential.sh

lint: ## Checks format, clippy, dependencies, shell scripts and the chart.
	@kind/lint.sh

fmt: ## Formats the Rust code.
	cargo fmt --all

images: ## Builds the product's images into the local container engine.
	@kind/engine.sh
	@kind/images.sh

audit: ## Checks dependencies against the advisory database (has to be reachable).
	@kind/lint.sh audit

clean: ## Removes clusters, the demonstration's state and an engine that was started here; keeps the cache.
	@kind/clean.sh
