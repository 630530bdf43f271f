import grpc
import pytest


def test_put_counts_versions_and_revisions(etcd, prefix):
    first = etcd.put(prefix + "a", "1").header.revision
    second = etcd.put(prefix + "a", "2", prev_kv=True)

    assert second.prev_kv.value == b"1"
    value, meta = etcd.get(prefix + "a")
    assert value == b"2"
    assert (meta.create_revision, meta.mod_revision, meta.version) == (first, second.header.revision, 2)


def test_get_by_prefix_limits_sorts_and_counts(etcd, prefix):
    for name in ["b", "a", "d", "c"]:
        etcd.put(prefix + name, name)

    page = etcd.get_prefix_response(prefix, limit=2)
    assert [kv.value for kv in page.kvs] == [b"a", b"b"]
    assert (page.more, page.count) == (True, 4)

    def values(**options):
        return [value for value, _ in etcd.get_prefix(prefix, **options)]

    assert values(sort_order="descend", sort_target="key") == [b"d", b"c", b"b", b"a"]
    assert values(sort_order="ascend", sort_target="create") == [b"b", b"a", b"d", b"c"]
    assert values(keys_only=True) == [b"", b"", b"", b""]
    assert etcd.get_prefix_response(prefix, count_only=True).count == 4
    assert [value for value, _ in etcd.get_range(prefix + "b", prefix + "d")] == [b"b", b"c"]


def test_get_from_the_past_and_from_this_member_alone(etcd, prefix):
    past = etcd.put(prefix + "a", "old").header.revision
    etcd.put(prefix + "a", "new")

    assert etcd.get(prefix + "a", revision=past)[0] == b"old"
    assert etcd.get(prefix + "a", serializable=True)[0] == b"new"
    with pytest.raises(grpc.RpcError) as refused:
        etcd.get(prefix + "a", revision=past + 1000)
    assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE


def test_delete_returns_what_it_removed(etcd, prefix):
    for name in ["a", "b", "c"]:
        etcd.put(prefix + name, name)

    removed = etcd.delete(prefix + "a", prev_kv=True, return_response=True)
    assert [kv.value for kv in removed.prev_kvs] == [b"a"]
    assert etcd.delete_prefix(prefix).deleted == 2
    assert not etcd.delete(prefix + "a")


def test_transaction_chooses_a_branch(etcd, prefix):
    on = etcd.transactions

    def create():
        return etcd.transaction(
            compare=[on.create(prefix + "a") == 0, on.version(prefix + "b") < 1],
            success=[on.put(prefix + "a", "made"), on.put(prefix + "b", "made")],
            failure=[on.get(prefix + "a"), on.delete(prefix + "b")],
        )

    succeeded, _ = create()
    assert succeeded
    succeeded, (read, deleted) = create()
    assert not succeeded
    assert read[0][0] == b"made"
    assert deleted.response_delete_range.deleted == 1

    assert etcd.replace(prefix + "a", "made", "changed")
    assert not etcd.replace(prefix + "a", "made", "changed")


def test_transaction_in_a_transaction(etcd, prefix):
    on = etcd.transactions
    etcd.put(prefix + "a", "m")
    succeeded, (inner,) = etcd.transaction(
        compare=[on.value(prefix + "a") > "l", on.value(prefix + "a") < "n", on.mod(prefix + "a") != 1],
        success=[on.txn(compare=[on.version(prefix + "b") == 0], success=[on.put(prefix + "b", "nested")], failure=[])],
        failure=[],
    )
    assert succeeded and inner.response_txn.succeeded
    assert etcd.get(prefix + "b")[0] == b"nested"


def test_compaction_forgets_the_past(etcd, prefix):
    past = etcd.put(prefix + "a", "old").header.revision
    now = etcd.put(prefix + "a", "new").header.revision
    etcd.compact(now, physical=True)

    with pytest.raises(grpc.RpcError, match="required revision has been compacted") as refused:
        etcd.get(prefix + "a", revision=past)
    assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert etcd.get(prefix + "a", revision=now)[0] == b"new"
    with pytest.raises(grpc.RpcError, match="required revision has been compacted"):
        etcd.compact(past)


def test_maintenance(etcd, tmp_path):
    status = etcd.status()
    assert status.version.startswith("3.7.")
    assert status.leader.name == "plain"
    assert [member.name for member in etcd.members] == ["plain"]
    assert list(etcd.list_alarms()) == []
    etcd.defragment()

    with open(tmp_path / "snapshot.db", "wb") as file:
        etcd.snapshot(file)
    assert (tmp_path / "snapshot.db").stat().st_size % 512 == 32, "pages, then a SHA-256"
