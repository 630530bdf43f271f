import pyetcd
import pytest
from conftest import address, certificates, setting
from pyetcd.exceptions import ConnectionFailedError, ConnectionTimeoutError


def test_serves_who_has_a_certificate(prefix):
    files = certificates(["ca_cert", "cert_cert", "cert_key"])
    with pyetcd.client(**address(setting("CLIENTS_TLS")), **files, timeout=10) as etcd:
        begin = etcd.put(prefix + "a", "1").header.revision
        assert etcd.get(prefix + "a")[0] == b"1"
        events, cancel = etcd.watch(prefix + "a", start_revision=begin)
        assert next(events).value == b"1"
        cancel()


def test_refuses_who_has_none():
    with pyetcd.client(**address(setting("CLIENTS_TLS")), **certificates(["ca_cert"]), timeout=1) as etcd:
        with pytest.raises((ConnectionFailedError, ConnectionTimeoutError)):
            etcd.put("a", "1")
