package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.election.NoLeaderException;
import io.etcd.jetcd.lock.LockResponse;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

/** The services that wait on the server's side. */
class LockAndElectionTest {
  private Client client;
  private ByteSequence name;

  @BeforeEach
  void connect(TestInfo test) {
    client = Servers.plain();
    name = bytes(test.getDisplayName());
  }

  @AfterEach
  void close() {
    client.close();
  }

  private long lease() {
    return answer(client.getLeaseClient().grant(30)).getID();
  }

  @Test
  void lockPassesFromHandToHand() {
    Lock locks = client.getLockClient();
    ByteSequence held = answer(locks.lock(name, lease())).getKey();
    long other = lease();
    CompletableFuture<LockResponse> waits = locks.lock(name, other);
    assertEquals(1, answer(client.getKVClient().get(held)).getCount());
    assertFalse(waits.isDone());

    answer(locks.unlock(held));
    ByteSequence passed = answer(waits).getKey();
    assertEquals("%s/%x".formatted(text(name), other), text(passed));
    answer(locks.unlock(passed));
  }

  @Test
  void lockEndsWithItsLease() {
    Lock locks = client.getLockClient();
    long mortal = lease();
    answer(locks.lock(name, mortal));
    CompletableFuture<LockResponse> waits = locks.lock(name, lease());
    answer(client.getLeaseClient().revoke(mortal));
    answer(waits);
  }

  @Test
  void electionHasOneLeaderAtATime() throws Exception {
    Election elections = client.getElectionClient();
    CompletionException none = assertThrows(CompletionException.class, () -> answer(elections.leader(name)));
    assertInstanceOf(NoLeaderException.class, none.getCause());

    BlockingQueue<LeaderResponse> observed = new LinkedBlockingQueue<>();
    elections.observe(
        name,
        new Election.Listener() {
          @Override
          public void onNext(LeaderResponse answer) {
            observed.add(answer);
          }

          @Override
          public void onError(Throwable error) {}

          @Override
          public void onCompleted() {}
        });
    LeaderKey first = answer(elections.campaign(name, lease(), bytes("one"))).getLeader();
    assertEquals("one", text(Seen.within(observed).getKv().getValue()));
    CompletableFuture<CampaignResponse> second = elections.campaign(name, lease(), bytes("two"));
    answer(elections.proclaim(first, bytes("one, again")));
    assertEquals("one, again", text(Seen.within(observed).getKv().getValue()));

    assertFalse(second.isDone());
    answer(elections.resign(first));
    LeaderKey successor = answer(second).getLeader();
    assertEquals("two", text(Seen.within(observed).getKv().getValue()));
    assertEquals("two", text(answer(elections.leader(name)).getKv().getValue()));
    answer(elections.resign(successor));
  }
}
