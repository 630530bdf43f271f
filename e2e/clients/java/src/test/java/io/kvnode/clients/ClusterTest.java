package io.kvnode.clients;

import static io.kvnode.clients.Servers.PATIENCE_SECONDS;
import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.setting;
import static io.kvnode.clients.Servers.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.maintenance.StatusResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;

class ClusterTest {
  private static final String[] URLS = setting("CLIENTS_MEMBERS").split(",");
  private static final String[] PIDS = setting("CLIENTS_PIDS").split(",");

  /** Repeats a put until it is accepted, as applications do while a leader is missing. */
  private static long persist(Client client, String key) {
    Instant deadline = Instant.now().plusSeconds(PATIENCE_SECONDS);
    while (true) {
      try {
        return answer(client.getKVClient().put(bytes(key), bytes(key))).getHeader().getRevision();
      } catch (CompletionException failed) {
        assertTrue(Instant.now().isBefore(deadline), () -> "put " + key + ": " + failed);
      }
    }
  }

  private static ProcessHandle leader(Client client) {
    for (int i = 0; i < URLS.length; i++) {
      StatusResponse status = answer(client.getMaintenanceClient().statusMember(URLS[i]));
      if (status.getLeader() == status.getHeader().getMemberId()) {
        return ProcessHandle.of(Long.parseLong(PIDS[i])).orElseThrow();
      }
    }
    throw new AssertionError("no member leads");
  }

  @Test
  void clientFollowsWhenTheLeaderIsKilled() throws Exception {
    try (Client client = Client.builder().endpoints(URLS).connectTimeout(Duration.ofSeconds(2)).build()) {
      long begin = persist(client, "cluster/begin");
      Seen seen = new Seen();
      WatchOption history = WatchOption.builder().withPrefix(bytes("cluster/")).withRevision(begin + 1).build();
      client.getWatchClient().watch(bytes("cluster/"), history, seen);
      for (int i = 0; i < 20; i++) {
        if (i == 10) {
          leader(client).destroyForcibly();
        }
        persist(client, "cluster/%02d".formatted(i));
      }

      // A put that failed may have happened, so a key may appear twice; none is missing, and none goes back.
      List<String> keys = new ArrayList<>();
      while (new HashSet<>(keys).size() < 20) {
        for (WatchEvent event : Seen.within(seen.answers).getEvents()) {
          keys.add(text(event.getKeyValue().getKey()));
        }
      }
      assertEquals(keys.stream().sorted().toList(), keys);
      GetOption count = GetOption.builder().withPrefix(bytes("cluster/")).withCountOnly(true).build();
      assertEquals(21, answer(client.getKVClient().get(bytes("cluster/"), count)).getCount());
    }
  }
}
