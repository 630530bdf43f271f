package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.refusal;
import static io.kvnode.clients.Servers.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

class LeaseTest {
  private Client client;
  private KV kv;
  private Lease leases;
  private ByteSequence key;

  @BeforeEach
  void connect(TestInfo test) {
    client = Servers.plain();
    kv = client.getKVClient();
    leases = client.getLeaseClient();
    key = bytes(test.getDisplayName());
  }

  @AfterEach
  void close() {
    client.close();
  }

  private long putWithLease(long seconds) {
    long lease = answer(leases.grant(seconds)).getID();
    answer(kv.put(key, bytes("1"), PutOption.builder().withLeaseId(lease).build()));
    return lease;
  }

  @Test
  void knowsItsKeysAndTakesThemAlong() {
    long lease = putWithLease(60);
    LeaseTimeToLiveResponse info = answer(leases.timeToLive(lease, LeaseOption.builder().withAttachedKeys().build()));
    assertEquals(60, info.getGrantedTTL());
    assertTrue(info.getTTL() > 50);
    assertEquals(List.of(text(key)), info.getKeys().stream().map(Servers::text).toList());

    answer(leases.revoke(lease));
    assertEquals(0, answer(kv.get(key)).getCount());
    assertEquals(ErrorCode.NOT_FOUND, refusal(leases.revoke(lease)).getErrorCode());
    assertEquals(ErrorCode.NOT_FOUND, refusal(leases.keepAliveOnce(lease)).getErrorCode());
  }

  @Test
  void expires() throws Exception {
    long begin = answer(kv.put(key, bytes("0"))).getHeader().getRevision();
    putWithLease(1);
    Seen seen = new Seen();
    client.getWatchClient().watch(key, WatchOption.builder().withRevision(begin + 1).build(), seen);
    assertEquals(List.of("PUT 1", "DELETE"), seen.next(2));
  }

  @Test
  void livesWhileItIsKeptAlive() throws Exception {
    long lease = putWithLease(1);
    BlockingQueue<LeaseKeepAliveResponse> alive = new LinkedBlockingQueue<>();
    var kept =
        leases.keepAlive(
            lease,
            new StreamObserver<>() {
              @Override
              public void onNext(LeaseKeepAliveResponse answer) {
                alive.add(answer);
              }

              @Override
              public void onError(Throwable error) {}

              @Override
              public void onCompleted() {}
            });
    for (int i = 0; i < 4; i++) {
      assertEquals(1, Seen.within(alive).getTTL());
    }
    assertEquals(1, answer(kv.get(key)).getCount());
    kept.close();
  }
}
