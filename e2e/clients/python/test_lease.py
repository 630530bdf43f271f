import itertools

import grpc
import pytest
from pyetcd.events import DeleteEvent, PutEvent
from pyetcd.exceptions import PreconditionFailedError


def test_lease_knows_its_keys_and_takes_them_along(etcd, prefix):
    lease = etcd.lease(60)
    for name in ["a", "b"]:
        etcd.put(prefix + name, "", lease=lease)
    assert lease.granted_ttl == 60
    assert 50 < lease.remaining_ttl <= 60
    assert sorted(lease.keys) == [(prefix + name).encode() for name in ["a", "b"]]

    lease.revoke()
    assert list(etcd.get_prefix(prefix)) == []
    assert lease.remaining_ttl == -1
    with pytest.raises(grpc.RpcError, match="requested lease not found") as refused:
        lease.revoke()
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_lease_expires(etcd, prefix):
    lease = etcd.lease(1)
    begin = etcd.put(prefix + "a", "1", lease=lease).header.revision
    events, cancel = etcd.watch(prefix + "a", start_revision=begin)
    assert [type(event) for event in itertools.islice(events, 2)] == [PutEvent, DeleteEvent]
    cancel()
    (answer,) = lease.refresh()
    assert answer.TTL == 0, "nothing to keep alive"


def test_lease_is_refreshed(etcd):
    lease = etcd.lease(60, lease_id=0x5EED)
    (answer,) = lease.refresh()
    assert (answer.ID, answer.TTL) == (0x5EED, 60)
    with pytest.raises(PreconditionFailedError):
        etcd.lease(60, lease_id=0x5EED)


def test_lock_is_held_by_one(etcd, prefix):
    with etcd.lock(prefix, ttl=30) as held:
        assert held.is_acquired()
        other = etcd.lock(prefix, ttl=30)
        assert not other.acquire(timeout=0.5)
    assert other.acquire(timeout=10)
    other.release()
    assert not held.is_acquired()
