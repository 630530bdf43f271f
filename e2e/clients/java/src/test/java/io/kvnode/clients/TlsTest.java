package io.kvnode.clients;

import static io.kvnode.clients.Servers.answer;
import static io.kvnode.clients.Servers.bytes;
import static io.kvnode.clients.Servers.refusal;
import static io.kvnode.clients.Servers.secured;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.common.exception.ErrorCode;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;

class TlsTest {
  @Test
  void servesWhoHasACertificate() throws Exception {
    try (Client client = secured("CLIENTS_TLS", true).build()) {
      Seen seen = new Seen();
      client.getWatchClient().watch(bytes("tls"), seen);
      answer(client.getKVClient().put(bytes("tls"), bytes("1")));
      assertEquals(1, answer(client.getKVClient().get(bytes("tls"))).getCount());
      assertEquals(List.of("PUT 1"), seen.next(1));
    }
  }

  @Test
  void refusesWhoHasNone() throws Exception {
    try (Client client =
        secured("CLIENTS_TLS", false).waitForReady(false).retryMaxDuration(Duration.ofSeconds(1)).build()) {
      assertEquals(
          ErrorCode.UNAVAILABLE, refusal(client.getKVClient().put(bytes("tls"), bytes("1"))).getErrorCode());
    }
  }
}
