package io.kvnode.clients;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.common.exception.EtcdExceptionFactory;
import java.io.File;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;

/** The servers that kind/clients.sh starts and names in the environment, and how these tests speak to them. */
final class Servers {
  /** Longer than an election, shorter than a developer's patience. */
  static final long PATIENCE_SECONDS = 30;

  private Servers() {}

  static String setting(String name) {
    String value = System.getenv(name);
    if (value == null) {
      throw new IllegalStateException(name + " is not set: run these tests with kind/clients.sh java");
    }
    return value;
  }

  static Client plain() {
    return Client.builder().endpoints(setting("CLIENTS_PLAIN")).build();
  }

  /** A client that knows the CA, and shows its own certificate if {@code named}. */
  static ClientBuilder secured(String url, boolean named) throws SSLException {
    return Client.builder()
        .endpoints(setting(url))
        .sslContext(
            tls -> {
              tls.trustManager(certificate("ca.crt"));
              if (named) {
                tls.keyManager(certificate("client.crt"), certificate("client.key"));
              }
            });
  }

  private static File certificate(String name) {
    return Path.of(setting("CLIENTS_CERTS"), name).toFile();
  }

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, UTF_8);
  }

  static String text(ByteSequence bytes) {
    return bytes.toString(UTF_8);
  }

  /** What the call answers, in bounded time. */
  static <T> T answer(CompletableFuture<T> call) {
    return call.orTimeout(PATIENCE_SECONDS, TimeUnit.SECONDS).join();
  }

  /** The error that the call ends with. */
  static EtcdException refusal(CompletableFuture<?> call) {
    CompletionException failed = assertThrows(CompletionException.class, () -> answer(call));
    return EtcdExceptionFactory.toEtcdException(failed.getCause());
  }
}
