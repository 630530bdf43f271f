import os
import signal
import time

import pyetcd
from conftest import PATIENCE_SECONDS, address, setting
from pyetcd.exceptions import Etcd3Exception


def persist(write):
    """Repeats a write until it is accepted, as this client asks of applications."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return write()
        except Etcd3Exception:
            if time.monotonic() > deadline:
                raise


def test_client_follows_when_its_member_is_killed(prefix):
    urls, pids = setting("CLIENTS_MEMBERS").split(","), setting("CLIENTS_PIDS").split(",")
    endpoints = [pyetcd.Endpoint(**address(url), secure=False, time_retry=1.0) for url in urls]
    with pyetcd.MultiEndpointEtcd3Client(endpoints, timeout=5, failover=True) as etcd:
        begin = persist(lambda: etcd.put(prefix + "00", "v")).header.revision
        used = endpoints.index(etcd.endpoint_in_use)
        for i in range(1, 20):
            if i == 10:
                os.kill(int(pids[used]), signal.SIGKILL)
            persist(lambda: etcd.put(prefix + f"{i:02}", "v"))

        assert etcd.endpoint_in_use is not endpoints[used]
        assert len(list(etcd.get_prefix(prefix))) == 20
        # A put that failed may have happened, so a key may have been written twice.
        events, cancel = etcd.watch_prefix(prefix, start_revision=begin)
        seen = []
        while len(set(seen)) < 20:
            seen.append(next(events).key)
        cancel()
        assert seen == sorted(seen)
