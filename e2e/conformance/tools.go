//go:build tools

// Package conformance names what etcd's test suites are made of, so that `go mod tidy` records it.
package conformance

import (
	_ "go.etcd.io/etcd/etcdutl/v3/snapshot"
	_ "go.etcd.io/etcd/tests/v3/framework/integration"
	_ "go.etcd.io/etcd/tests/v3/robustness/scenarios"
)
