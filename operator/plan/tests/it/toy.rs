//! Whatever happens at whatever moment, the cluster ends as its spec says, and no step makes it worse.
//!
//! The world checks every action as it is taken (see `check_before` and `check_after` there): a cluster is
//! created once, one change at a time, never below quorum by our own hand, nothing that runs deleted without
//! quorum, no leader removed, no member's volume taken.

use crds::cluster::DeletionPolicy;
use operator_plan::Waiting;
use proptest::prelude::*;

use crate::world::{Cut, World, plan, spec};

/// Something that happens between two passes of the operator.
#[derive(Clone, Debug)]
enum Fault {
    /// Time passes.
    Wait(u8),
    /// A pod is killed; the kubelet and the StatefulSet bring it back.
    Kill(u32),
    /// A volume is blank from now on.
    Wipe(u32),
    /// A claim and its volume are lost.
    LoseClaim(u32),
    /// A member is cut off.
    Partition(u32),
    /// All members hear each other again.
    Heal,
    /// The operator dies before or in the middle of its next action.
    Cut(Cut),
    /// Someone deletes the status.
    EraseStatus,
    /// The spec wants another number of members.
    Scale(i32),
    /// The pod template changes.
    Restart(u8),
    /// A human removes a member behind the operator's back.
    RemoveMember(u32),
    /// A human changes a member's peer URL.
    UpdateUrl(u32),
    /// A human scales the StatefulSet behind the operator's back.
    ScaleSet(u32),
    /// A human says what is to become of the volumes.
    Policy(DeletionPolicy),
    /// A human deletes the StatefulSet, with its pods or without.
    DeleteSet(Orphans),
}

/// What becomes of the pods of a StatefulSet that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphans {
    Stay,
    Go,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => (1u8..6).prop_map(Fault::Wait),
        2 => (0u32..5).prop_map(Fault::Kill),
        1 => (0u32..5).prop_map(Fault::Wipe),
        1 => (0u32..5).prop_map(Fault::LoseClaim),
        1 => (0u32..5).prop_map(Fault::Partition),
        1 => Just(Fault::Heal),
        2 => prop_oneof![Just(Cut::Before), Just(Cut::Half)].prop_map(Fault::Cut),
        1 => Just(Fault::EraseStatus),
        1 => prop_oneof![Just(1), Just(3), Just(5)].prop_map(Fault::Scale),
        1 => any::<u8>().prop_map(Fault::Restart),
        1 => (0u32..5).prop_map(Fault::RemoveMember),
        1 => (0u32..5).prop_map(Fault::UpdateUrl),
        1 => (0u32..7).prop_map(Fault::ScaleSet),
        1 => prop_oneof![Just(DeletionPolicy::Retain), Just(DeletionPolicy::Delete)].prop_map(Fault::Policy),
        1 => prop_oneof![Just(Orphans::Stay), Just(Orphans::Go)].prop_map(Fault::DeleteSet),
    ]
}

fn step(world: &mut World) {
    let observed = world.observe();
    let mut without_status = observed.clone();
    without_status.cluster.status = None;
    let (with, without) = (plan(&observed), plan(&without_status));
    assert_eq!(with.action, without.action, "status decides nothing");
    assert_eq!(with.waiting, without.waiting, "status decides nothing");
    world.pass();
    world.tick();
}

fn inflict(world: &mut World, fault: &Fault) {
    match fault {
        Fault::Wait(passes) => (0..*passes).for_each(|_| step(world)),
        Fault::Kill(ordinal) => world.kill(*ordinal),
        Fault::Wipe(ordinal) if may_lose(world, *ordinal) => world.wipe(*ordinal),
        Fault::LoseClaim(ordinal) if may_lose(world, *ordinal) => world.lose_claim(*ordinal),
        Fault::Partition(ordinal) => {
            world.partitioned.insert(*ordinal);
        }
        Fault::Heal => world.partitioned.clear(),
        Fault::Cut(cut) => world.cut = Some(*cut),
        Fault::EraseStatus => world.cluster.status = None,
        Fault::Scale(replicas) => world.scale(*replicas),
        Fault::Restart(value) => {
            let value = format!("restart-{value}");
            world.cluster.metadata.annotations =
                Some([("kvnode.io/restartedAt".to_owned(), value)].into_iter().collect());
        }
        Fault::RemoveMember(ordinal) => remove_by_hand(world, *ordinal),
        Fault::UpdateUrl(ordinal) => world.update_url(*ordinal),
        Fault::ScaleSet(replicas) => world.scale_set(*replicas),
        Fault::Policy(policy) => world.deletion_policy(*policy),
        Fault::DeleteSet(orphans) => {
            world.delete_set();
            if *orphans == Orphans::Go {
                (0..7).for_each(|ordinal| world.kill(ordinal));
            }
        }
        Fault::Wipe(_) | Fault::LoseClaim(_) => {}
    }
}

/// Data is only lost where a quorum of intact copies remains: no operator brings back what nobody has.
fn may_lose(world: &World, ordinal: u32) -> bool {
    let formed = world.identity.as_ref().is_some_and(|(record, _)| record.formed_at.is_some());
    let voters = world.voters().len();
    formed && voters > 1 && world.intact_without(ordinal) > voters / 2
}

pub fn remove_by_hand(world: &mut World, ordinal: u32) {
    let names = world.names();
    let found = world.members.iter().find(|m| m.ordinal(&names).is_some_and(|o| o.0 == ordinal)).cloned();
    let Some(member) = found else { return };
    // etcd itself refuses to remove a member when that would cost quorum.
    let left: Vec<_> = world.voters().into_iter().filter(|m| m.id != member.id).collect();
    let alive = left.iter().filter(|m| world.alive(m)).count();
    if !world.has_quorum() || left.is_empty() || alive < left.len() / 2 + 1 {
        return;
    }
    world.members.retain(|m| m.id != member.id);
    world.removed.insert(member.id);
    if world.leader == Some(member.id) {
        world.leader = None;
    }
}

/// Who scaled the StatefulSet down or changed a URL reads the message about it and does what it says.
fn heed(world: &mut World) {
    if world.has_quorum() {
        world.put_url_back();
    }
    if let Some(Waiting::NoQuorum { scale_back: Some(back), .. }) = plan(&world.observe()).waiting {
        world.scale_set(back.replicas);
    }
}

/// Faults end; then the cluster is what the spec says within a bounded number of passes, and rests.
fn settle(world: &mut World) {
    world.partitioned.clear();
    world.cut = None;
    let passes = 250;
    for _ in 0..passes {
        step(world);
        heed(world);
        if rests(world) {
            break;
        }
    }
    let plan = plan(&world.observe());
    let status = &plan.report.status;
    assert!(
        rests(world),
        "not at rest after {passes} passes: action {:?}, waiting {:?}, members {:?}, identity {:?}",
        plan.action.map(|a| a.to_string()),
        plan.waiting.map(|w| w.to_string()),
        world.members,
        world.identity,
    );
    let target = u32::try_from(world.cluster.spec.replicas).unwrap();
    let mut ordinals: Vec<u32> =
        world.members.iter().filter_map(|m| m.ordinal(&world.names())).map(|o| o.0).collect();
    ordinals.sort_unstable();
    assert_eq!(ordinals, (0..target).collect::<Vec<_>>(), "members are the wished-for ordinals");
    assert!(world.members.iter().all(|m| !m.is_learner), "no learner is left behind");
    assert_eq!(status.ready.as_deref(), Some(format!("{target}/{target}").as_str()));
    assert_eq!(status.summary.as_deref(), Some("Healthy"));
    assert_eq!(world.creations, 1);
    assert_eq!(status.observed_generation, world.cluster.metadata.generation);
    let goes_along = world.cluster.spec.deletion_policy == DeletionPolicy::Delete;
    assert!(world.volumes.values().all(|volume| volume.owned == goes_along), "claims are as the policy says");
}

/// Nothing to do, nothing to wait for, and a second look would write nothing.
fn rests(world: &World) -> bool {
    let plan = plan(&world.observe());
    let written = world.cluster.status.as_ref() == Some(&plan.report.status);
    let pods = world.pods.values().all(|p| p.gone_in.is_none());
    plan.action.is_none() && plan.waiting.is_none() && written && pods && plan.report.events.is_empty()
}

/// A few seconds' worth; `PROPTEST_CASES=5000` for a long run.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(96);
    ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn ends_as_the_spec_says_whatever_happens(
        replicas in prop_oneof![Just(1), Just(3), Just(5)],
        faults in proptest::collection::vec(fault(), 0..40),
    ) {
        let mut world = World::new(spec(replicas));
        for fault in &faults {
            inflict(&mut world, fault);
            step(&mut world);
        }
        settle(&mut world);
    }
}
