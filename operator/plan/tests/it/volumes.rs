//! What becomes of the volumes when something is deleted.

use crds::cluster::DeletionPolicy;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use operator_plan::identity::IdentityRecord;
use operator_plan::observed::VolumeView;

use crate::world::{UID, World, plan, spec};

fn run(world: &mut World, passes: u32) {
    (0..passes).for_each(|_| {
        world.pass();
        world.tick();
    });
}

fn formed(policy: DeletionPolicy) -> World {
    let mut world = World::new(spec(3));
    world.cluster.spec.deletion_policy = policy;
    run(&mut world, 60);
    assert_eq!(world.members.len(), 3);
    world
}

/// The claims that are left once the cluster was deleted.
fn left_behind(mut world: World) -> usize {
    world.delete_cluster();
    (0..5).for_each(|_| world.tick());
    world.volumes.len()
}

#[test]
fn a_deleted_stateful_set_costs_no_data_whatever_the_policy() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let mut world = formed(policy);
        let claims = |world: &World| world.volumes.values().map(|v| v.uid.clone()).collect::<Vec<_>>();
        let before = claims(&world);
        world.delete_set();
        (0..3).for_each(|ordinal| world.kill(ordinal));
        run(&mut world, 30);
        assert_eq!(claims(&world), before, "{policy:?}");
        assert!(world.has_quorum(), "{policy:?}");
    }
}

#[test]
fn claims_go_with_the_cluster_if_the_policy_says_so() {
    assert_eq!(left_behind(formed(DeletionPolicy::Delete)), 0);
    assert_eq!(left_behind(formed(DeletionPolicy::Retain)), 3);
}

#[test]
fn those_of_removed_members_too() {
    let mut world = formed(DeletionPolicy::Delete);
    world.scale(1);
    run(&mut world, 40);
    assert_eq!((world.members.len(), world.volumes.len()), (1, 3));
    assert_eq!(left_behind(world), 0);
}

#[test]
fn who_waits_for_the_generation_finds_the_claims_as_the_policy_says() {
    for (from, to, left) in [
        (DeletionPolicy::Retain, DeletionPolicy::Delete, 0),
        (DeletionPolicy::Delete, DeletionPolicy::Retain, 3),
    ] {
        let mut world = formed(from);
        world.deletion_policy(to);
        let generation = world.cluster.metadata.generation;
        let told = |world: &World| world.cluster.status.as_ref().unwrap().observed_generation;
        let mut passes = 0;
        while told(&world) != generation {
            // The report goes out first: it must not promise what is about to be done only.
            let said = plan(&world.observe()).report.status.observed_generation;
            if said == generation {
                assert_eq!(left_behind(world.clone()), left, "{to:?}");
            }
            world.pass();
            passes += 1;
            assert!(passes < 5, "{to:?}");
        }
        assert_eq!(left_behind(world), left, "{to:?}");
    }
}

#[test]
fn claims_that_are_not_this_clusters_are_left_alone() {
    let mut world = formed(DeletionPolicy::Delete);
    world.volumes.values_mut().for_each(|volume| volume.owned = false);
    let changed = |world: &World| {
        let objects = plan(&world.observe()).objects;
        objects.map_or(0, |objects| objects.claim_owners.len())
    };
    assert_eq!(changed(&world), 3);
    let mut without_record = world.clone();
    without_record.identity = None;
    assert_eq!(changed(&without_record), 0);
    world.identity = Some((IdentityRecord::begun("another"), 1));
    assert_eq!(changed(&world), 0);
}

#[test]
fn a_record_that_is_lost_lets_nobody_believe_that_claims_stay() {
    let mut world = formed(DeletionPolicy::Delete);
    world.identity = None;
    world.deletion_policy(DeletionPolicy::Retain);
    let told = plan(&world.observe()).report.status.observed_generation;
    assert_ne!(told, world.cluster.metadata.generation);
}

#[test]
fn owners_are_read_from_the_claim() {
    let claim: PersistentVolumeClaim = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "data-core-1", "ownerReferences": [
            {"apiVersion": "kvnode.io/v1alpha1", "kind": "EtcdCluster", "name": "core", "uid": UID},
        ]},
    }))
    .unwrap();
    let view = VolumeView::from_object(&claim, &World::new(spec(3)).names()).unwrap();
    assert_eq!(view.owners, [UID]);
}
