//go:build tools

// Package kubernetes names what Kubernetes' tests of its storage are made of, so that `go mod tidy` records it.
package kubernetes

import (
	_ "k8s.io/apiserver/pkg/registry/generic/testing"
	_ "k8s.io/apiserver/pkg/storage/cacher"
	_ "k8s.io/apiserver/pkg/storage/etcd3/testing"
	_ "k8s.io/apiserver/pkg/storage/storagebackend/factory"
)
