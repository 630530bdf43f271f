package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

class WatchTest {
  private final Seen seen = new Seen();
  private Client client;
  private KV kv;
  private Watch watch;
  private String prefix;

  @BeforeEach
  void connect(TestInfo test) {
    client = Servers.plain();
    kv = client.getKVClient();
    watch = client.getWatchClient();
    prefix = test.getDisplayName() + "/";
  }

  @AfterEach
  void close() {
    client.close();
  }

  private ByteSequence key(String name) {
    return bytes(prefix + name);
  }

  private long put(String name, String value) {
    return answer(kv.put(key(name), bytes(value))).getHeader().getRevision();
  }

  private WatchOption.Builder below() {
    return WatchOption.builder().withPrefix(bytes(prefix));
  }

  @Test
  void replaysHistoryThenFollows() throws Exception {
    long begin = put("a", "1");
    answer(kv.delete(key("a")));

    watch.watch(bytes(prefix), below().withRevision(begin).build(), seen);
    assertEquals(List.of("PUT 1", "DELETE"), seen.next(2));
    put("b", "2");
    assertEquals(List.of("PUT 2"), seen.next(1));
  }

  @Test
  void showsWhatWasThereBefore() throws Exception {
    put("a", "1");
    long begin = put("a", "2");
    watch.watch(key("a"), WatchOption.builder().withRevision(begin).withPrevKV(true).build(), seen);
    WatchResponse changed = Seen.within(seen.answers);
    assertEquals("1", text(changed.getEvents().get(0).getPrevKV().getValue()));
  }

  @Test
  void filters() throws Exception {
    long begin = put("a", "1");
    answer(kv.delete(key("a")));
    watch.watch(bytes(prefix), below().withRevision(begin).withNoPut(true).build(), seen);
    assertEquals(List.of("DELETE"), seen.next(1));
  }

  @Test
  void tellsHowFarItIs() throws Exception {
    long now = put("elsewhere", "");
    watch.watch(key("a"), WatchOption.builder().withProgressNotify(true).build(), seen);
    WatchResponse told = Seen.within(seen.answers);
    assertTrue(told.isProgressNotify());
    assertTrue(told.getHeader().getRevision() >= now);

    Seen asked = new Seen();
    WatchOption created = WatchOption.builder().withCreateNotify(true).build();
    Watch.Watcher watcher = watch.watch(key("b"), created, asked);
    assertTrue(Seen.within(asked.answers).isCreatedNotify());
    watcher.requestProgress();
    assertTrue(Seen.within(asked.answers).isProgressNotify());
  }

  @Test
  void endsWhenClosed() throws Exception {
    Seen gone = new Seen();
    WatchOption created = below().withCreateNotify(true).build();
    Watch.Watcher closed = watch.watch(bytes(prefix), created, gone);
    Seen.within(gone.answers);
    watch.watch(bytes(prefix), created, seen);
    Seen.within(seen.answers);

    closed.close();
    put("a", "1");
    assertEquals(List.of("PUT 1"), seen.next(1));
    assertTrue(gone.answers.isEmpty());
  }

  @Test
  void ofTheCompactedPast() throws Exception {
    long past = put("a", "1");
    long now = put("a", "2");
    answer(kv.compact(now));

    watch.watch(key("a"), WatchOption.builder().withRevision(past).build(), seen);
    CompactedException refused = assertInstanceOf(CompactedException.class, Seen.within(seen.errors));
    assertEquals(now, refused.getCompactedRevision());
  }
}
