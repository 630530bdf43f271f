package clients

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// member is one of the cluster's, by its position in the settings.
type member struct {
	endpoint string
	process  *os.Process
}

func members(t *testing.T) []member {
	t.Helper()
	pids := strings.Split(setting(t, "CLIENTS_PIDS"), ",")
	var all []member
	for i, endpoint := range strings.Split(setting(t, "CLIENTS_MEMBERS"), ",") {
		all = append(all, member{endpoint, must(os.FindProcess(must(strconv.Atoi(pids[i]))))})
	}
	return all
}

// persist repeats a write until it is accepted, as applications do while a leader is missing.
func persist(ctx context.Context, t *testing.T, client *clientv3.Client, key, value string) *clientv3.PutResponse {
	t.Helper()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		answer, err := client.Put(attempt, key, value)
		cancel()
		if err == nil {
			return answer
		}
		if ctx.Err() != nil {
			t.Fatalf("put %s: %v", key, err)
		}
	}
}

// The client, its watch, its session and its lease outlive the leader, to which all of them were connected.
func TestClientFollowsWhenTheLeaderIsKilled(t *testing.T) {
	all, prefix, ctx := members(t), t.Name()+"/", bounded(t)
	var endpoints []string
	for _, member := range all {
		endpoints = append(endpoints, member.endpoint)
	}
	client := connect(t, clientv3.Config{Endpoints: endpoints})
	begin := persist(ctx, t, client, prefix+"begin", "begin").Header.Revision
	watch := client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(begin+1))
	lease := must(client.Grant(ctx, 3)).ID
	alive := must(client.KeepAlive(ctx, lease))

	leader := leaderOf(ctx, t, client, all)
	for i := range 20 {
		if i == 10 {
			if err := leader.process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		persist(ctx, t, client, fmt.Sprintf("%s%02d", prefix, i), "v")
	}

	// A put that failed may have happened, so a key may appear twice; none is missing, and none goes back.
	next := 0
	for next < 20 {
		for _, line := range events(t, watch, prefix, 1) {
			number := must(strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(line, "PUT "), "=v")))
			if number != next && number != next-1 {
				t.Fatalf("after %d came %s", next-1, line)
			}
			next = max(next, number+1)
		}
	}
	equal(t, "keys", must(client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())).Count, 21)
	for range 3 {
		equal(t, "lease", (<-alive).ID, lease)
	}
}

func leaderOf(ctx context.Context, t *testing.T, client *clientv3.Client, all []member) member {
	t.Helper()
	for _, member := range all {
		status := must(client.Status(ctx, member.endpoint))
		if status.Leader == status.Header.MemberId {
			return member
		}
	}
	t.Fatal("no member leads")
	return member{}
}
