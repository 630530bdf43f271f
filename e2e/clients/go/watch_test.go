package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWatchReplaysHistoryThenFollows(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	begin := put(ctx, t, client, prefix, "a")
	put(ctx, t, client, prefix, "b")
	must(client.Delete(ctx, prefix+"a"))

	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin))
	equal(t, "history", strings.Join(events(t, watch, prefix, 3), ", "), "PUT a=a, PUT b=b, DELETE a")
	put(ctx, t, client, prefix, "c")
	equal(t, "what follows", strings.Join(events(t, watch, prefix, 1), ", "), "PUT c=c")
}

func TestWatchSeesATransactionAsOne(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	equal(t, "created", (<-watch).Created, true)

	must(client.Txn(ctx).Then(clientv3.OpPut(prefix+"a", "1"), clientv3.OpPut(prefix+"b", "2")).Commit())
	answer := <-watch
	equal(t, "events of one answer", len(answer.Events), 2)
	equal(t, "revision", answer.Events[0].Kv.ModRevision, answer.Events[1].Kv.ModRevision)
}

func TestWatchShowsWhatWasThereBefore(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	begin := put(ctx, t, client, prefix, "a")
	must(client.Put(ctx, prefix+"a", "new"))
	must(client.Delete(ctx, prefix+"a"))

	watch := client.Watch(ctx, prefix+"a", clientv3.WithRev(begin), clientv3.WithPrevKV())
	var seen []*clientv3.Event
	for len(seen) < 3 {
		seen = append(seen, (<-watch).Events...)
	}
	equal(t, "creation", seen[0].IsCreate() && seen[0].PrevKv == nil, true)
	equal(t, "change", seen[1].IsModify() && string(seen[1].PrevKv.Value) == "a", true)
	equal(t, "deletion", string(seen[2].PrevKv.Value), "new")
}

func TestWatchFilters(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	begin := put(ctx, t, client, prefix, "a")
	must(client.Delete(ctx, prefix+"a"))
	put(ctx, t, client, prefix, "b")

	puts := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFilterDelete())
	equal(t, "puts", strings.Join(events(t, puts, prefix, 2), ", "), "PUT a=a, PUT b=b")
	deletes := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFilterPut())
	equal(t, "deletes", strings.Join(events(t, deletes, prefix, 1), ", "), "DELETE a")
}

func TestWatchTellsHowFarItIs(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	now := put(ctx, t, client, prefix, "elsewhere")

	// Without being asked, at the interval that the server was given.
	idle := client.Watch(ctx, prefix+"a", clientv3.WithProgressNotify())
	answer := <-idle
	equal(t, "told", answer.IsProgressNotify(), true)
	equal(t, "as far as", answer.Header.Revision >= now, true)

	// When asked.
	asked := client.Watch(ctx, prefix+"b", clientv3.WithCreatedNotify())
	<-asked
	if err := client.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	answer = <-asked
	equal(t, "answered", answer.IsProgressNotify(), true)
	equal(t, "answered as far as", answer.Header.Revision >= now, true)
}

func TestWatchSplitsLargeAnswers(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	begin := put(ctx, t, client, prefix, "begin")
	large := strings.Repeat("x", 256<<10)
	for i := range 10 {
		must(client.Put(ctx, fmt.Sprintf("%s%d", prefix, i), large))
	}

	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFragment())
	seen := events(t, watch, prefix, 11)
	equal(t, "last", strings.HasPrefix(seen[10], "PUT 9="), true)
}

func TestWatchEndsWhenCanceled(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	canceled, cancel := context.WithCancel(ctx)
	gone := client.Watch(canceled, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	stays := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-gone
	<-stays

	cancel()
	for range gone {
	}
	put(ctx, t, client, prefix, "a")
	equal(t, "the other watch", strings.Join(events(t, stays, prefix, 1), ", "), "PUT a=a")
}
