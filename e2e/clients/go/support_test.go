// Package clients holds the server to what etcd's own Go client expects of it. Servers come from the environment, which
// kind/clients.sh describes and sets.
package clients

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// patience bounds every test: longer than an election, shorter than a developer's.
const patience = 30 * time.Second

// setting reads what kind/clients.sh has to provide.
func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run these tests with kind/clients.sh go", name)
	}
	return value
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, config clientv3.Config) *clientv3.Client {
	t.Helper()
	config.DialTimeout = patience
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatalf("connect to %v: %v", config.Endpoints, err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// plain is a client of the single member without TLS, and a prefix that no other test uses.
func plain(t *testing.T) (*clientv3.Client, string) {
	t.Helper()
	return connect(t, clientv3.Config{Endpoints: []string{setting(t, "CLIENTS_PLAIN")}}), t.Name() + "/"
}

// must unwraps an answer that has to succeed.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// put writes `keys` in order, each with its own name as the value, and returns the revision of the last.
func put(ctx context.Context, t *testing.T, kv clientv3.KV, prefix string, keys ...string) int64 {
	t.Helper()
	var revision int64
	for _, key := range keys {
		answer, err := kv.Put(ctx, prefix+key, key)
		if err != nil {
			t.Fatalf("put %s: %v", prefix+key, err)
		}
		revision = answer.Header.Revision
	}
	return revision
}

// values lists what an answer holds.
func values(answer *clientv3.GetResponse) string {
	var all []string
	for _, kv := range answer.Kvs {
		all = append(all, string(kv.Value))
	}
	return strings.Join(all, " ")
}

// events collects `count` events of a watch as "PUT name=value" and "DELETE name".
func events(t *testing.T, watch clientv3.WatchChan, prefix string, count int) []string {
	t.Helper()
	var seen []string
	deadline := time.After(patience)
	for len(seen) < count {
		select {
		case answer, open := <-watch:
			if !open || answer.Err() != nil {
				t.Fatalf("the watch ended after %v: %v", seen, answer.Err())
			}
			for _, event := range answer.Events {
				line := event.Type.String() + " " + strings.TrimPrefix(string(event.Kv.Key), prefix)
				if event.Type == clientv3.EventTypePut {
					line += "=" + string(event.Kv.Value)
				}
				seen = append(seen, line)
			}
		case <-deadline:
			t.Fatalf("waited for %d events, saw %v", count, seen)
		}
	}
	return seen
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
