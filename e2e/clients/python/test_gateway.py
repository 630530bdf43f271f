"""The gateway: JSON over HTTP/1.1, as etcd3gw speaks it."""

import etcd3gw
import pytest
from conftest import address, certificates, setting
from etcd3gw.exceptions import Etcd3Exception, WatchTimedOut


def test_put_get_and_delete(gateway, prefix):
    for name in ["b", "a", "c"]:
        assert gateway.put(prefix + name, name)
    assert gateway.get(prefix + "a") == [b"a"]
    assert gateway.get(prefix + "missing") == []
    found = gateway.get_prefix(prefix, sort_order="descend", sort_target="key")
    assert [(value, meta["key"]) for value, meta in found] == [(n.encode(), (prefix + n).encode()) for n in "cba"]
    assert gateway.get(prefix + "a", range_end=prefix + "z", limit=2, serializable=True) == [b"a", b"b"]

    past = int(found[0][1]["mod_revision"])
    gateway.put(prefix + "c", "changed")
    assert gateway.get(prefix + "c", revision=past) == [b"c"]
    assert gateway.delete(prefix + "a", prev_kv=True)
    assert not gateway.delete(prefix + "a")
    assert gateway.delete_prefix(prefix)


def test_transactions(gateway, prefix):
    assert gateway.create(prefix + "a", "made")
    assert not gateway.create(prefix + "a", "made again")
    assert gateway.replace(prefix + "a", "made", "changed")
    assert not gateway.replace(prefix + "a", "made", "changed")
    assert gateway.get(prefix + "a") == [b"changed"]


def test_leases_and_locks(gateway, prefix):
    lease = gateway.lease(ttl=60)
    gateway.put(prefix + "a", "1", lease=lease)
    assert lease.keys() == [(prefix + "a").encode()]
    assert 50 < lease.ttl() <= 60
    assert lease.refresh() == 60
    lease.revoke()
    assert gateway.get(prefix + "a") == []

    with gateway.lock(prefix, ttl=30) as held:
        assert held.is_acquired()
        assert not gateway.lock(prefix, ttl=30).acquire()
    assert not held.is_acquired()


def test_watch(gateway, prefix):
    events, cancel = gateway.watch_prefix(prefix)
    gateway.put(prefix + "a", "1")
    assert next(events)["kv"]["value"] == b"1"
    gateway.delete(prefix + "a")
    assert next(events)["type"] == "DELETE"
    cancel()
    with pytest.raises(WatchTimedOut):
        gateway.watch_once(prefix + "a", timeout=0.5)


def test_status_and_members(gateway):
    assert gateway.status()["version"].startswith("3.7.")
    assert [member["name"] for member in gateway.members()] == ["plain"]


def test_errors_carry_etcds_words(gateway):
    with pytest.raises(Etcd3Exception) as refused:
        gateway.put("", "empty key")
    assert "etcdserver: key is not provided" in refused.value.detail_text


def test_mutual_tls(prefix, monkeypatch):
    # Either would win over the CA that the client is given.
    for variable in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
        monkeypatch.delenv(variable, raising=False)
    files = certificates(["ca_cert", "cert_cert", "cert_key"])
    secured = etcd3gw.client(**address(setting("CLIENTS_TLS")), protocol="https", timeout=10, **files)
    assert secured.put(prefix, "1")
    assert secured.get(prefix) == [b"1"]
