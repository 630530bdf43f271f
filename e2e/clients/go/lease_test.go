package clients

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestLeaseKnowsItsKeysAndTakesThemAlong(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	lease := must(client.Grant(ctx, 60)).ID
	must(client.Put(ctx, prefix+"a", "a", clientv3.WithLease(lease)))
	must(client.Put(ctx, prefix+"b", "b", clientv3.WithLease(lease)))

	info := must(client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	equal(t, "granted", info.GrantedTTL, 60)
	equal(t, "left", info.TTL > 50 && info.TTL <= 60, true)
	equal(t, "keys", len(info.Keys), 2)
	listed := must(client.Leases(ctx)).Leases
	equal(t, "listed", slices.Contains(listed, clientv3.LeaseStatus{ID: lease}), true)

	must(client.Revoke(ctx, lease))
	equal(t, "keys after revocation", must(client.Get(ctx, prefix, clientv3.WithPrefix())).Count, 0)
	equal(t, "time left of a revoked lease", must(client.TimeToLive(ctx, lease)).TTL, -1)
	_, err := client.Revoke(ctx, lease)
	equal(t, "revoke again", err, rpctypes.ErrLeaseNotFound)
	_, err = client.KeepAliveOnce(ctx, lease)
	equal(t, "keep alive what is revoked", err, rpctypes.ErrLeaseNotFound)
}

func TestLeaseExpires(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	lease := must(client.Grant(ctx, 1)).ID
	begin := must(client.Put(ctx, prefix+"a", "a", clientv3.WithLease(lease))).Header.Revision

	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin))
	equal(t, "events", strings.Join(events(t, watch, prefix, 2), ", "), "PUT a=a, DELETE a")
}

func TestLeaseLivesWhileItIsKeptAlive(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	lease := must(client.Grant(ctx, 1)).ID
	must(client.Put(ctx, prefix+"a", "a", clientv3.WithLease(lease)))

	alive := must(client.KeepAlive(ctx, lease))
	for range 4 {
		equal(t, "time to live", (<-alive).TTL, 1)
	}
	equal(t, "the key", must(client.Get(ctx, prefix+"a")).Count, 1)

	must(client.Revoke(ctx, lease))
	for range alive {
	}
}

func TestLeaseWithAChosenID(t *testing.T) {
	client, _ := plain(t)
	ctx := bounded(t)
	api := clientv3.RetryLeaseClient(client)
	chosen := int64(0x5eed)
	must(api.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: chosen, TTL: 60}))
	_, err := api.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: chosen, TTL: 60})
	equal(t, "granted twice", rpctypes.Error(err), rpctypes.ErrLeaseExist)
}
