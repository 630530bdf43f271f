//! Certificates: issued once, renewed in time, and a user's never overwritten.

use std::collections::{BTreeMap, BTreeSet};

use crds::conditions::{ConditionType, find};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use operator_plan::pki::{CertificatesPlan, Purpose, Role, check, issue, plan_certificates};
use operator_plan::plan_cluster;
use operator_plan::validate::{ValidatedCluster, validate};

use crate::world::{World, settings, spec};

fn cluster() -> ValidatedCluster {
    validate(&World::new(spec(3)).cluster, &settings()).unwrap()
}

fn now() -> Timestamp {
    "2026-11-23T06:00:00Z".parse().unwrap()
}

fn days(n: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * n)
}

/// Does what a plan asks for, as the shell does.
fn follow(secrets: &mut BTreeMap<String, Secret>, plan: &CertificatesPlan) {
    for request in &plan.issue {
        let key = rcgen::KeyPair::generate().unwrap();
        let secret = issue(request, &key, secrets.get("core-ca")).unwrap();
        secrets.insert(secret.metadata.name.clone().unwrap(), secret);
    }
}

fn issued() -> BTreeMap<String, Secret> {
    let (cluster, mut secrets) = (cluster(), BTreeMap::new());
    let first = plan_certificates(&cluster, &secrets, now());
    assert_eq!(first.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Authority]);
    follow(&mut secrets, &first);
    let second = plan_certificates(&cluster, &secrets, now());
    assert_eq!(second.issue.len(), 4);
    follow(&mut secrets, &second);
    secrets
}

fn put(secret: &mut Secret, key: &str, value: &[u8]) {
    secret.data.as_mut().unwrap().insert(key.to_owned(), ByteString(value.to_vec()));
}

#[test]
fn five_secrets_are_issued_in_two_passes_and_then_none() {
    let secrets = issued();
    let names: Vec<&str> = secrets.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["core-ca", "core-client-tls", "core-operator-tls", "core-peer-tls", "core-server-tls"]
    );
    let plan = plan_certificates(&cluster(), &secrets, now());
    assert!(plan.usable() && plan.issue.is_empty());
    assert_eq!(plan.expires, Some(days(90)));
}

#[test]
fn leaves_are_renewed_at_two_thirds_of_their_life_while_the_old_ones_serve() {
    let mut secrets = issued();
    assert!(plan_certificates(&cluster(), &secrets, days(59)).issue.is_empty());
    let due = plan_certificates(&cluster(), &secrets, days(61));
    assert_eq!(due.issue.len(), 4, "the authority lives on");
    assert!(due.usable(), "renewal disturbs nobody");
    for request in &due.issue {
        let key = rcgen::KeyPair::generate().unwrap();
        let secret = issue(request, &key, secrets.get("core-ca")).unwrap();
        secrets.insert(secret.metadata.name.clone().unwrap(), secret);
    }
    let after = plan_certificates(&cluster(), &secrets, days(61));
    assert!(after.issue.is_empty());
    assert_eq!(after.expires, Some(days(151)));
}

#[test]
fn a_damaged_or_missing_leaf_is_issued_anew() {
    for damage in ["gone", "no key", "garbage", "foreign key"] {
        let mut secrets = issued();
        let foreign = rcgen::KeyPair::generate().unwrap().serialize_pem();
        match damage {
            "gone" => drop(secrets.remove("core-peer-tls")),
            "no key" => put(secrets.get_mut("core-peer-tls").unwrap(), "tls.key", b""),
            "garbage" => put(secrets.get_mut("core-peer-tls").unwrap(), "tls.crt", b"garbage"),
            _ => put(secrets.get_mut("core-peer-tls").unwrap(), "tls.key", foreign.as_bytes()),
        }
        let plan = plan_certificates(&cluster(), &secrets, now());
        assert_eq!(plan.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Peer], "{damage}");
    }
}

#[test]
fn a_changed_dns_domain_reissues_the_names_it_is_in() {
    let secrets = issued();
    let mut moved = cluster();
    moved.dns_domain = "corp.example".into();
    let plan = plan_certificates(&moved, &secrets, now());
    assert_eq!(plan.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Server, Role::Peer]);
    assert!(plan.usable(), "the old ones serve meanwhile");
}

/// Whether each certificate is good in the eyes of everyone who has the other's Secret.
fn all_trust_each_other(one: &BTreeMap<String, Secret>, other: &BTreeMap<String, Secret>) -> bool {
    let leaves = ["core-server-tls", "core-peer-tls", "core-client-tls", "core-operator-tls"];
    leaves.iter().all(|shown| {
        leaves.iter().all(|seen_by| {
            let mut probe = one[*shown].clone();
            let theirs = other[*seen_by].data.clone().unwrap()["ca.crt"].0.clone();
            put(&mut probe, "ca.crt", &theirs);
            check(&probe, &Purpose::default(), now()).is_ok()
        })
    })
}

#[test]
fn an_authority_is_replaced_without_a_moment_of_distrust() {
    for (lost, at) in [("deleted", now()), ("damaged", now())] {
        let mut secrets = issued();
        let old_authority = secrets["core-ca"].clone();
        match lost {
            "deleted" => drop(secrets.remove("core-ca")),
            _ => put(secrets.get_mut("core-ca").unwrap(), "tls.key", b"garbage"),
        }
        let mut stages = vec![secrets.clone()];
        let mut time = at;
        let mut last = CertificatesPlan::default();
        for _ in 0..40 {
            last = plan_certificates(&cluster(), &secrets, time);
            assert!(last.usable(), "{lost}: what is in use stays so");
            follow(&mut secrets, &last);
            stages.push(secrets.clone());
            time += SignedDuration::from_secs(30);
        }
        assert!(last.issue.is_empty() && last.warning.is_none(), "{lost}: it comes to rest");
        // A member may be a few minutes behind with its files: ten stages are five minutes. Most stages are
        // alike, so each pair of different ones is looked at once.
        let mut versions: Vec<&BTreeMap<String, Secret>> = Vec::new();
        let mut number = Vec::new();
        for stage in &stages {
            let known = versions.iter().position(|v| *v == stage).unwrap_or(versions.len());
            if known == versions.len() {
                versions.push(stage);
            }
            number.push(known);
        }
        let mut pairs = BTreeSet::new();
        for (i, now) in number.iter().enumerate() {
            pairs.extend(number[i.saturating_sub(9)..=i].iter().map(|behind| (*now, *behind)));
        }
        assert!(versions.len() >= 4, "{lost}: lost, new authority, both trusted, new leaves");
        for (a, b) in pairs {
            let (a, b) = (versions[a], versions[b]);
            assert!(all_trust_each_other(a, b) && all_trust_each_other(b, a), "{lost}");
        }
        let signed_by = |authority: &Secret| {
            let mut probe = secrets["core-server-tls"].clone();
            let ca = authority.data.clone().unwrap()["tls.crt"].0.clone();
            put(&mut probe, "ca.crt", &ca);
            check(&probe, &Purpose::default(), now()).is_ok()
        };
        assert!(signed_by(&secrets["core-ca"]) && !signed_by(&old_authority));
        // The former authority is dropped when the leaves are renewed.
        let due = plan_certificates(&cluster(), &secrets, days(62));
        assert_eq!(due.issue.len(), 4);
        assert!(due.issue.iter().all(|r| r.carried_trust.is_empty()));
    }
}

/// Secrets whose authority was replaced, at rest, and the authority before.
fn replaced() -> (BTreeMap<String, Secret>, Secret) {
    let mut secrets = issued();
    let former = secrets.remove("core-ca").unwrap();
    for minute in 0..10 {
        let plan = plan_certificates(&cluster(), &secrets, now() + SignedDuration::from_mins(minute));
        follow(&mut secrets, &plan);
    }
    (secrets, former)
}

#[test]
fn an_authority_that_is_put_back_is_in_use_again_after_its_trust_had_time_to_spread() {
    let (mut secrets, former) = replaced();
    secrets.insert("core-ca".into(), former);
    let at = |seconds| days(1) + SignedDuration::from_secs(seconds);
    let before = secrets.clone();
    let first = plan_certificates(&cluster(), &secrets, at(0));
    assert_eq!(first.issue.len(), 4, "all trust it, and none says since when");
    follow(&mut secrets, &first);
    for (name, secret) in &before {
        assert_eq!(secrets[name].data, secret.data, "{name} keeps its certificate and what it trusts");
    }
    let waits = plan_certificates(&cluster(), &secrets, at(10));
    assert!(waits.issue.is_empty() && waits.usable());
    assert_eq!(waits.warning.as_ref().unwrap().reason.as_str(), "AuthorityReplaced");
    let later = plan_certificates(&cluster(), &secrets, at(299));
    assert_eq!(waits, later, "nothing is said anew while nothing changes");
    let spread = plan_certificates(&cluster(), &secrets, at(300));
    assert_eq!(spread.issue.len(), 4);
    follow(&mut secrets, &spread);
    let rest = plan_certificates(&cluster(), &secrets, at(310));
    assert!(rest.issue.is_empty() && rest.warning.is_none(), "it comes to rest");
    assert_eq!(plan_certificates(&cluster(), &secrets, days(63)).issue.len(), 4, "they are renewed in time");
}

#[test]
fn certificates_of_a_new_authority_wait_for_the_secret_that_trusts_it_last() {
    let mut secrets = issued();
    secrets.remove("core-ca");
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    let authority = plan_certificates(&cluster(), &secrets, at(0));
    follow(&mut secrets, &authority);
    // One Secret could not be written at first.
    let mut first = plan_certificates(&cluster(), &secrets, at(0));
    first.issue.retain(|request| request.role != Role::Client);
    follow(&mut secrets, &first);
    let second = plan_certificates(&cluster(), &secrets, at(200));
    assert_eq!(second.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Client]);
    follow(&mut secrets, &second);
    let waits = plan_certificates(&cluster(), &secrets, at(499));
    assert!(waits.issue.is_empty(), "clients may not have read yet whom to trust");
    assert_eq!(plan_certificates(&cluster(), &secrets, at(500)).issue.len(), 4);
}

#[test]
fn an_old_authority_is_replaced_in_time() {
    let mut secrets = issued();
    let authority = secrets["core-ca"].clone();
    assert!(plan_certificates(&cluster(), &secrets, days(50)).issue.is_empty());
    let at = days(3650 * 2 / 3 + 1);
    let plan = plan_certificates(&cluster(), &secrets, at);
    assert_eq!(plan.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Authority]);
    follow(&mut secrets, &plan);
    assert_ne!(secrets["core-ca"], authority);
}

#[test]
fn a_strangers_secret_of_our_name_is_never_overwritten() {
    let mut secrets = issued();
    secrets.get_mut("core-client-tls").unwrap().metadata.owner_references = None;
    let plan = plan_certificates(&cluster(), &secrets, now());
    assert!(plan.issue.is_empty());
    assert_eq!(plan.trouble.unwrap().reason.as_str(), "ObjectNotOwned");
}

#[test]
fn a_users_secrets_are_checked_and_never_written() {
    let mut secrets = issued();
    let mut world = World::new(spec(3));
    let tls = serde_json::json!({
        "serverSecretRef": {"name": "my-server"},
        "peerSecretRef": {"name": "my-peer"},
        "operatorSecretRef": {"name": "my-operator"},
    });
    world.cluster.spec.tls = Some(serde_json::from_value(tls).unwrap());
    let cluster = validate(&world.cluster, &settings()).unwrap();
    let look = |secrets: &BTreeMap<String, Secret>, at| plan_certificates(&cluster, secrets, at);
    let missing = look(&secrets, now()).trouble.unwrap();
    assert_eq!(missing.reason.as_str(), "SecretMissing");
    assert!(missing.message.contains("my-server") && missing.message.contains("tls.key"));
    for (mine, theirs) in
        [("my-server", "core-server-tls"), ("my-peer", "core-peer-tls"), ("my-operator", "core-operator-tls")]
    {
        let copy = secrets[theirs].clone();
        secrets.insert(mine.to_owned(), copy);
    }
    assert!(look(&secrets, now()).usable());
    assert_eq!(look(&secrets, days(80)).warning.unwrap().reason.as_str(), "CertificateExpiring");
    let expired = look(&secrets, days(91));
    assert_eq!(expired.trouble.unwrap().reason.as_str(), "CertificateInvalid");
    assert!(expired.issue.is_empty());
    // A client's certificate does not do for a server, and the message says what lacks.
    let wrong = secrets["core-client-tls"].clone();
    secrets.insert("my-peer".into(), wrong);
    let trouble = look(&secrets, now()).trouble.unwrap();
    assert!(
        trouble.message.contains("my-peer") && trouble.message.contains("*.core-peers.db.svc"),
        "{}",
        trouble.message
    );
    put(secrets.get_mut("my-peer").unwrap(), "tls.crt", b"-----BEGIN NOTHING-----");
    assert_eq!(look(&secrets, now()).trouble.unwrap().reason.as_str(), "SecretMalformed");
}

#[test]
fn certificates_of_two_clusters_do_not_trust_each_other() {
    let (mut ours, theirs) = (issued(), issued());
    ours.insert("core-server-tls".into(), theirs["core-server-tls"].clone());
    let plan = plan_certificates(&cluster(), &ours, now());
    assert_eq!(plan.issue.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::Server]);
}

#[test]
fn leftovers_of_a_former_cluster_are_said_before_certificates_are_issued() {
    let mut world = World::new(spec(1));
    (0..20).for_each(|_| {
        world.pass();
        world.tick();
    });
    // The cluster is deleted and created again under the same name: volumes and record stay, the rest goes.
    world.set = None;
    world.pods.clear();
    world.cluster.metadata.uid = Some("another-uid".into());
    world.cluster.status = None;
    let plan = plan_cluster(&world.observe());
    assert!(plan.objects.is_none() && plan.action.is_none(), "nothing is touched");
    let waiting = plan.waiting.unwrap();
    assert_eq!(waiting.reason().as_str(), "LeftoverIdentity");
    let status = plan.report.status;
    assert_eq!(status.summary.as_deref(), Some("LeftoverIdentity"));
    let ready = find(&status.conditions, ConditionType::Ready).unwrap();
    for said in ["data-core-0", "core-identity", "kubectl"] {
        assert!(ready.message.contains(said), "{}", ready.message);
    }
}
