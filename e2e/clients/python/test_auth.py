import grpc
import pyetcd
import pytest
from conftest import address, certificates, setting


def log_in(user, password):
    return pyetcd.client(
        **address(setting("CLIENTS_AUTH")), **certificates(["ca_cert"]), user=user, password=password, timeout=10
    )


def test_user_does_what_its_role_permits(prefix):
    with log_in("root", "root") as root, log_in("alice", "secret") as alice:
        root.put("public/" + prefix, "for all")
        assert alice.get("public/" + prefix)[0] == b"for all"
        for refused in [lambda: alice.put("public/" + prefix, ""), lambda: alice.get("private/" + prefix)]:
            with pytest.raises(grpc.RpcError, match="permission denied") as error:
                refused()
            assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED

        events, cancel = alice.watch_prefix("public/" + prefix)
        root.put("public/" + prefix, "changed")
        assert next(events).value == b"changed"
        cancel()


def test_wrong_password_is_refused():
    with pytest.raises(grpc.RpcError, match="authentication failed, invalid user ID or password"):
        log_in("alice", "wrong")


def test_nobody_is_refused():
    with pyetcd.client(**address(setting("CLIENTS_AUTH")), **certificates(["ca_cert"]), timeout=10) as nobody:
        with pytest.raises(grpc.RpcError, match="user name is empty"):
            nobody.get("public/a")
