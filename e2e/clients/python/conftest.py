"""Clients of the servers that kind/clients.sh starts and names in the environment."""

import os
from urllib.parse import urlsplit

import etcd3gw
import pyetcd
import pytest

# Longer than an election, shorter than a developer's patience.
PATIENCE_SECONDS = 30


def setting(name):
    if name not in os.environ:
        pytest.exit(f"{name} is not set: run these tests with kind/clients.sh python")
    return os.environ[name]


def address(url):
    """What both clients want of a URL."""
    parts = urlsplit(url)
    return {"host": parts.hostname, "port": parts.port}


def certificates(names):
    """Paths of the CA's certificate and of the client's own, under the names that a client gives its arguments."""
    folder = setting("CLIENTS_CERTS")
    files = {"ca_cert": "ca.crt", "cert_cert": "client.crt", "cert_key": "client.key"}
    return {name: os.path.join(folder, files[name]) for name in names}


@pytest.fixture
def etcd():
    """The gRPC client at a single member."""
    with pyetcd.client(**address(setting("CLIENTS_PLAIN")), timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
def gateway():
    """The client that speaks JSON over HTTP, at the same member."""
    return etcd3gw.client(**address(setting("CLIENTS_PLAIN")), timeout=PATIENCE_SECONDS)


@pytest.fixture
def prefix(request):
    """Keys that no other test uses."""
    return request.node.nodeid + "/"
