package clients

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPutCountsVersionsAndRevisions(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	first := put(ctx, t, client, prefix, "a")
	second := put(ctx, t, client, prefix, "a")

	kv := must(client.Get(ctx, prefix+"a")).Kvs[0]
	equal(t, "create revision", kv.CreateRevision, first)
	equal(t, "mod revision", kv.ModRevision, second)
	equal(t, "version", kv.Version, 2)
}

func TestGetByPrefixLimitsSortsAndCounts(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	put(ctx, t, client, prefix, "b", "a", "d", "c")

	page := must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(2)))
	equal(t, "first page", values(page), "a b")
	equal(t, "more", page.More, true)
	equal(t, "count", page.Count, 4)

	descending := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	equal(t, "descending", values(must(client.Get(ctx, prefix, clientv3.WithPrefix(), descending))), "d c b a")
	equal(t, "oldest", values(must(client.Get(ctx, prefix, clientv3.WithFirstCreate()...))), "b")
	equal(t, "newest", values(must(client.Get(ctx, prefix, clientv3.WithLastRev()...))), "c")
	equal(t, "range", values(must(client.Get(ctx, prefix+"b", clientv3.WithRange(prefix+"d")))), "b c")

	counted := must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()))
	equal(t, "counted", counted.Count, 4)
	equal(t, "keys sent with a count", len(counted.Kvs), 0)
	names := must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	equal(t, "keys", len(names.Kvs), 4)
	equal(t, "values sent with keys only", len(names.Kvs[0].Value), 0)
}

func TestGetFromThePastAndFromThisMemberAlone(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	past := put(ctx, t, client, prefix, "a")
	must(client.Put(ctx, prefix+"a", "changed"))
	must(client.Delete(ctx, prefix+"a"))

	equal(t, "past", values(must(client.Get(ctx, prefix+"a", clientv3.WithRev(past)))), "a")
	equal(t, "a step later", values(must(client.Get(ctx, prefix+"a", clientv3.WithRev(past+1)))), "changed")
	equal(t, "now", must(client.Get(ctx, prefix+"a", clientv3.WithSerializable())).Count, 0)

	_, err := client.Get(ctx, prefix+"a", clientv3.WithRev(past+1000))
	equal(t, "of the future", err, rpctypes.ErrFutureRev)
}

func TestGetFiltersByRevision(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	first := put(ctx, t, client, prefix, "a", "b")
	last := put(ctx, t, client, prefix, "c", "a")

	equal(t, "changed since", values(must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithMinModRev(last)))), "a")
	equal(t, "unchanged since", values(must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithMaxModRev(first)))), "b")
	equal(t, "created since", values(must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithMinCreateRev(last-1)))), "c")
}

func TestGetStreamsALargeRange(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	large := strings.Repeat("x", 64<<10)
	for i := range 40 {
		must(client.Put(ctx, fmt.Sprintf("%s%02d", prefix, i), large))
	}

	stream, err := client.GetStream(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "keys", len(whole.Kvs), 40)
	equal(t, "count", whole.Count, 40)
	equal(t, "last key", string(whole.Kvs[39].Key), prefix+"39")
}

func TestPutKeepsValueOrLeaseWhenAsked(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	lease := must(client.Grant(ctx, 60))
	must(client.Put(ctx, prefix+"a", "old", clientv3.WithLease(lease.ID)))

	previous := must(client.Put(ctx, prefix+"a", "new", clientv3.WithIgnoreLease(), clientv3.WithPrevKV())).PrevKv
	equal(t, "previous value", string(previous.Value), "old")
	must(client.Put(ctx, prefix+"a", "", clientv3.WithIgnoreValue()))

	kv := must(client.Get(ctx, prefix+"a")).Kvs[0]
	equal(t, "value", string(kv.Value), "new")
	equal(t, "lease", kv.Lease, 0)

	_, err := client.Put(ctx, prefix+"missing", "", clientv3.WithIgnoreValue())
	equal(t, "value of a missing key", err, rpctypes.ErrKeyNotFound)
}

func TestDeleteReturnsWhatItRemoved(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	put(ctx, t, client, prefix, "a", "b", "c")

	one := must(client.Delete(ctx, prefix+"a", clientv3.WithPrevKV()))
	equal(t, "removed", string(one.PrevKvs[0].Value), "a")
	rest := must(client.Delete(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV()))
	equal(t, "removed by prefix", rest.Deleted, 2)
	equal(t, "last removed", string(rest.PrevKvs[1].Value), "c")

	before := must(client.Get(ctx, prefix)).Header.Revision
	nothing := must(client.Delete(ctx, prefix, clientv3.WithPrefix()))
	equal(t, "removed again", nothing.Deleted, 0)
	equal(t, "revision after removing nothing", nothing.Header.Revision, before)
}

func TestTxnChoosesABranch(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	create := func() *clientv3.TxnResponse {
		return must(client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(prefix+"a"), "=", 0)).
			Then(clientv3.OpPut(prefix+"a", "made"), clientv3.OpPut(prefix+"b", "made")).
			Else(clientv3.OpGet(prefix, clientv3.WithPrefix()), clientv3.OpDelete(prefix+"b", clientv3.WithPrevKV())).
			Commit())
	}

	made := create()
	equal(t, "first", made.Succeeded, true)
	kvs := must(client.Get(ctx, prefix, clientv3.WithPrefix())).Kvs
	equal(t, "one revision for both", kvs[0].ModRevision, kvs[1].ModRevision)

	refused := create()
	equal(t, "second", refused.Succeeded, false)
	equal(t, "read in the transaction", len(refused.Responses[0].GetResponseRange().Kvs), 2)
	equal(t, "deleted in the transaction", string(refused.Responses[1].GetResponseDeleteRange().PrevKvs[0].Value), "made")
}

func TestTxnComparesEveryTarget(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	lease := must(client.Grant(ctx, 60))
	revision := must(client.Put(ctx, prefix+"a", "m", clientv3.WithLease(lease.ID))).Header.Revision

	answer := must(client.Txn(ctx).If(
		clientv3.Compare(clientv3.Value(prefix+"a"), ">", "l"),
		clientv3.Compare(clientv3.Value(prefix+"a"), "<", "n"),
		clientv3.Compare(clientv3.Version(prefix+"a"), "=", 1),
		clientv3.Compare(clientv3.ModRevision(prefix+"a"), "=", revision),
		clientv3.Compare(clientv3.CreateRevision(prefix+"a"), "!=", revision+1),
		clientv3.Compare(clientv3.LeaseValue(prefix+"a"), "=", lease.ID),
		clientv3.Compare(clientv3.Version(prefix), ">", 0).WithPrefix(),
	).Then(clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Version(prefix+"b"), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(prefix+"b", "nested")},
		nil,
	)).Commit())
	equal(t, "all hold", answer.Succeeded, true)
	equal(t, "the nested one too", answer.Responses[0].GetResponseTxn().Succeeded, true)
	equal(t, "written by the nested one", values(must(client.Get(ctx, prefix+"b"))), "nested")
}

func TestRefusalsAreTheClientsOwnErrors(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)

	_, err := client.Put(ctx, "", "value")
	equal(t, "empty key", err, rpctypes.ErrEmptyKey)
	_, err = client.Put(ctx, prefix+"large", strings.Repeat("x", 1600<<10))
	equal(t, "large value", err, rpctypes.ErrRequestTooLarge)
	_, err = client.Put(ctx, prefix+"a", "a", clientv3.WithLease(12345))
	equal(t, "unknown lease", err, rpctypes.ErrLeaseNotFound)

	twice := clientv3.OpPut(prefix+"a", "a")
	_, err = client.Txn(ctx).Then(twice, twice).Commit()
	equal(t, "the same key twice", err, rpctypes.ErrDuplicateKey)
	var many []clientv3.Op
	for i := range 129 {
		many = append(many, clientv3.OpPut(fmt.Sprintf("%s%d", prefix, i), ""))
	}
	_, err = client.Txn(ctx).Then(many...).Commit()
	equal(t, "too many operations", err, rpctypes.ErrTooManyOps)
}

func TestCompactionForgetsThePast(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	past := put(ctx, t, client, prefix, "a")
	now := put(ctx, t, client, prefix, "a", "a")

	must(client.Compact(ctx, now, clientv3.WithCompactPhysical()))
	_, err := client.Get(ctx, prefix+"a", clientv3.WithRev(past))
	equal(t, "read of the past", errors.Is(err, rpctypes.ErrCompacted), true)
	equal(t, "read at the compaction", values(must(client.Get(ctx, prefix+"a", clientv3.WithRev(now)))), "a")

	_, err = client.Compact(ctx, past)
	equal(t, "compact again", err, rpctypes.ErrCompacted)
	_, err = client.Compact(ctx, now+1000)
	equal(t, "compact the future", err, rpctypes.ErrFutureRev)

	canceled := <-client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(past))
	equal(t, "watch of the past", canceled.Err(), rpctypes.ErrCompacted)
	equal(t, "where the watch may begin", canceled.CompactRevision, now)
}
