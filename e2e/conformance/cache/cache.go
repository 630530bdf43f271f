// Package cache stands in for a module of etcd that is not published. Only etcd's integration tests use the real one.
package cache
