//! Leases: granted, kept alive, looked at, revoked, expired.

use futures::future::join_all;
use kvnode_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, kv_client::KvClient, lease_client::LeaseClient,
};
use tonic::Code;

use crate::support::{Etcdctl, Member, block_on};

#[test]
fn a_lease_lives_as_long_as_it_is_kept_and_takes_its_keys_along() {
    let member = Member::start();
    block_on(async {
        let mut leases = LeaseClient::new(member.channel());
        let mut kv = KvClient::new(member.channel());
        let granted = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 }).await.unwrap().into_inner();
        assert!(granted.id > 0 && granted.ttl == 60);
        kv.put(PutRequest { key: "k".into(), lease: granted.id, ..PutRequest::default() }).await.unwrap();

        let asked = LeaseTimeToLiveRequest { id: granted.id, keys: true };
        let left = leases.lease_time_to_live(asked).await.unwrap().into_inner();
        assert!((58..=60).contains(&left.ttl), "{left:?}");
        assert_eq!((left.granted_ttl, left.keys), (60, vec!["k".into()]));
        let all = leases.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
        assert_eq!(all.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [granted.id]);

        let renewals = [granted.id, 4711].map(|id| LeaseKeepAliveRequest { id });
        let mut renewed = leases.lease_keep_alive(tokio_stream::iter(renewals)).await.unwrap().into_inner();
        assert_eq!(renewed.message().await.unwrap().unwrap().ttl, 60);
        assert_eq!(renewed.message().await.unwrap().unwrap().ttl, 0, "an unknown lease has nothing left");
        assert_eq!(renewed.message().await.unwrap(), None);

        leases.lease_revoke(LeaseRevokeRequest { id: granted.id }).await.unwrap();
        let gone = kv.range(RangeRequest { key: "k".into(), ..RangeRequest::default() }).await.unwrap();
        assert_eq!(gone.into_inner().count, 0);
        let asked = LeaseTimeToLiveRequest { id: granted.id, keys: false };
        assert_eq!(leases.lease_time_to_live(asked).await.unwrap().into_inner().ttl, -1);
        let error = leases.lease_revoke(LeaseRevokeRequest { id: granted.id }).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::NotFound, "etcdserver: requested lease not found")
        );
        let error = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 9_000_000_001 }).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::OutOfRange, "etcdserver: too large lease TTL"));
    });
}

#[test]
fn a_revocation_answers_with_the_revision_of_its_deletions() {
    let member = Member::start();
    block_on(async {
        let put = |key: String, lease: i64| {
            let mut kv = KvClient::new(member.channel());
            let request = PutRequest { key: key.into(), lease, ..PutRequest::default() };
            async move { kv.put(request).await.unwrap().into_inner().header.unwrap().revision }
        };
        for round in 0..10 {
            let mut leases = LeaseClient::new(member.channel());
            let id = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 }).await.unwrap().into_inner().id;
            put(format!("leased-{round}"), id).await;
            // Others write meanwhile; each revision but that of the deletion is one of theirs.
            let others = join_all((0..50).map(|n| put(format!("other-{n}"), 0)));
            let revoke = leases.lease_revoke(LeaseRevokeRequest { id });
            let (written, revoked) = tokio::join!(others, revoke);
            let revision = revoked.unwrap().into_inner().header.unwrap().revision;
            assert!(!written.contains(&revision), "round {round}: {revision} is a write of somebody else");
        }
    });
}

#[test]
fn an_expired_lease_deletes_its_keys_as_a_watcher_sees() {
    let member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    let granted = etcdctl.ok("lease grant 1");
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl.ok(&format!("put k v --lease={id}"));
    assert_eq!(etcdctl.ok("get k --print-value-only"), "v");
    // The watch ends the wait: no polling, no sleeping.
    let output =
        etcdctl.command("watch k --rev=3 --prev-kv").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = output;
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(output.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    output.kill().unwrap();
    output.wait().unwrap();
    assert_eq!(line.trim(), "DELETE");
    assert_eq!(etcdctl.ok("get k"), "");
}
