import itertools

import pytest
from pyetcd.events import DeleteEvent, PutEvent
from pyetcd.exceptions import RevisionCompactedError, WatchTimedOut


def take(events, count):
    return [(type(event), event.value) for event in itertools.islice(events, count)]


def test_watch_replays_history_then_follows(etcd, prefix):
    begin = etcd.put(prefix + "a", "1").header.revision
    etcd.delete(prefix + "a")

    events, cancel = etcd.watch_prefix(prefix, start_revision=begin)
    assert take(events, 2) == [(PutEvent, b"1"), (DeleteEvent, b"")]
    etcd.put(prefix + "b", "2")
    assert take(events, 1) == [(PutEvent, b"2")]
    cancel()
    assert list(events) == []


def test_watch_shows_what_was_there_before(etcd, prefix):
    begin = etcd.put(prefix + "a", "1").header.revision
    etcd.put(prefix + "a", "2")
    etcd.delete(prefix + "a")

    events, cancel = etcd.watch(prefix + "a", start_revision=begin + 1, prev_kv=True)
    changed, deleted = itertools.islice(events, 2)
    cancel()
    assert (changed.value, changed.prev_value) == (b"2", b"1")
    assert (deleted.value, deleted.prev_value) == (b"", b"2")


def test_watch_tells_how_far_it_is(etcd, prefix):
    now = etcd.put(prefix + "elsewhere", "").header.revision
    answers, cancel = etcd.watch_response(prefix + "a", progress_notify=True)
    told = next(answers)
    cancel()
    assert told.events == []
    assert told.header.revision >= now


def test_many_watches_on_one_stream(etcd, prefix):
    watches = [etcd.watch(prefix + str(i)) for i in range(20)]
    for i in range(20):
        etcd.put(prefix + str(i), str(i))
    for i, (events, cancel) in enumerate(watches):
        assert take(events, 1) == [(PutEvent, str(i).encode())]
        cancel()


def test_canceled_watch_is_silent(etcd, prefix):
    seen = []
    watch = etcd.add_watch_callback(prefix + "a", seen.append)
    etcd.cancel_watch(watch)
    etcd.put(prefix + "a", "1")
    with pytest.raises(WatchTimedOut):
        etcd.watch_once(prefix + "a", timeout=0.5)
    assert seen == []


def test_watch_of_the_compacted_past(etcd, prefix):
    past = etcd.put(prefix + "a", "1").header.revision
    now = etcd.put(prefix + "a", "2").header.revision
    etcd.compact(now)

    events, _ = etcd.watch(prefix + "a", start_revision=past)
    with pytest.raises(RevisionCompactedError) as refused:
        next(events)
    assert refused.value.compacted_revision == now
