package io.kvnode.clients;

import static io.kvnode.clients.Servers.PATIENCE_SECONDS;
import static io.kvnode.clients.Servers.text;

import io.etcd.jetcd.Watch;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Listens to a watch and hands out, in order, what it tells. */
final class Seen implements Watch.Listener {
  final BlockingQueue<WatchResponse> answers = new LinkedBlockingQueue<>();
  final BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();
  private final List<String> pending = new ArrayList<>();

  @Override
  public void onNext(WatchResponse answer) {
    answers.add(answer);
  }

  @Override
  public void onError(Throwable error) {
    errors.add(error);
  }

  @Override
  public void onCompleted() {}

  /** The next {@code count} events, as "PUT value" and "DELETE". */
  List<String> next(int count) throws InterruptedException {
    while (pending.size() < count) {
      for (WatchEvent event : within(answers).getEvents()) {
        pending.add((event.getEventType() + " " + text(event.getKeyValue().getValue())).trim());
      }
    }
    List<String> taken = List.copyOf(pending.subList(0, count));
    pending.subList(0, count).clear();
    return taken;
  }

  /** The first of the queue, in bounded time. */
  static <T> T within(BlockingQueue<T> queue) throws InterruptedException {
    T first = queue.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
    if (first == null) {
      throw new AssertionError("nothing came within " + PATIENCE_SECONDS + " s");
    }
    return first;
  }
}
