package clients

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTLSServesWhoHasACertificate(t *testing.T) {
	certs := setting(t, "CLIENTS_CERTS")
	info := transport.TLSInfo{
		TrustedCAFile: certs + "/ca.crt",
		CertFile:      certs + "/client.crt",
		KeyFile:       certs + "/client.key",
	}
	client := connect(t, clientv3.Config{Endpoints: []string{setting(t, "CLIENTS_TLS")}, TLS: must(info.ClientConfig())})
	ctx := bounded(t)
	put(ctx, t, client, t.Name(), "a")
	equal(t, "value", values(must(client.Get(ctx, t.Name()+"a"))), "a")
	equal(t, "event", events(t, client.Watch(ctx, t.Name()+"a", clientv3.WithRev(1)), t.Name(), 1)[0], "PUT a=a")
}

func TestTLSRefusesWhoHasNone(t *testing.T) {
	info := transport.TLSInfo{TrustedCAFile: setting(t, "CLIENTS_CERTS") + "/ca.crt"}
	client := connect(t, clientv3.Config{Endpoints: []string{setting(t, "CLIENTS_TLS")}, TLS: must(info.ClientConfig())})
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	if _, err := client.Put(ctx, t.Name(), "a"); err == nil {
		t.Error("a client without a certificate was served")
	}
}
