package clients

import (
	"strconv"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func session(t *testing.T, client *clientv3.Client) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(5), concurrency.WithContext(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func TestSessionEndsWithItsLease(t *testing.T) {
	client, _ := plain(t)
	held := session(t, client)
	must(client.Revoke(bounded(t), held.Lease()))
	<-held.Done()
}

func TestMutexPassesFromHandToHand(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	first := concurrency.NewMutex(session(t, client), prefix)
	second := concurrency.NewMutex(session(t, client), prefix)

	if err := first.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "try a held lock", second.TryLock(ctx), concurrency.ErrLocked)
	owned := must(client.Txn(ctx).If(first.IsOwner()).Commit())
	equal(t, "owner", owned.Succeeded, true)

	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	if err := first.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "lock of the one who waited", <-locked, nil)
}

func TestMutexGuardsACounter(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	counter, workers := 0, sync.WaitGroup{}
	for range 5 {
		held := session(t, client)
		workers.Go(func() {
			lock := concurrency.NewLocker(held, prefix)
			for range 5 {
				lock.Lock()
				counter++
				lock.Unlock()
			}
		})
	}
	workers.Wait()
	equal(t, "counter", counter, 25)
	equal(t, "waiting", must(client.Get(ctx, prefix, clientv3.WithPrefix())).Count, 0)
}

func TestElectionHasOneLeaderAtATime(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	first := concurrency.NewElection(session(t, client), prefix)
	crowd := session(t, client)
	second := concurrency.NewElection(crowd, prefix)

	_, err := first.Leader(ctx)
	equal(t, "leader of nobody", err, concurrency.ErrElectionNoLeader)
	observed := second.Observe(ctx)
	if err := first.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	equal(t, "observed", values(<-observed), "one")
	if err := first.Proclaim(ctx, "one, again"); err != nil {
		t.Fatal(err)
	}
	equal(t, "proclaimed", values(<-observed), "one, again")

	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "two") }()
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "campaign of the successor", <-won, nil)
	equal(t, "leader", values(must(second.Leader(ctx))), "two")

	must(client.Revoke(ctx, crowd.Lease()))
	_, err = first.Leader(ctx)
	equal(t, "leader after the lease is gone", err, concurrency.ErrElectionNoLeader)
}

func TestSTMLosesNoUpdate(t *testing.T) {
	client, prefix := plain(t)
	ctx := bounded(t)
	for _, isolation := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads} {
		must(client.Delete(ctx, prefix, clientv3.WithPrefix()))
		add := func(stm concurrency.STM) error {
			total, _ := strconv.Atoi(stm.Get(prefix + "total"))
			stm.Put(prefix+"total", strconv.Itoa(total+1))
			return nil
		}
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for range 10 {
					if _, err := concurrency.NewSTM(client, add, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		workers.Wait()
		equal(t, "total", values(must(client.Get(ctx, prefix+"total"))), "40")
	}
}
