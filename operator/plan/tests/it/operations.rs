//! One-shot work: begun at rest, done once, told how it went.

use crds::EtcdOperation;
use crds::operation::OperationPhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_plan::operation::{Expiry, ObservedOperation, OperationAction, OperationPlan, plan_operation};

use crate::world::{World, plan, spec};

fn world() -> World {
    let mut world = World::new(spec(3));
    (0..40).for_each(|_| {
        world.pass();
        world.tick();
    });
    world.pass();
    world
}

fn operation(type_: &str, world: &World) -> EtcdOperation {
    let mut operation: EtcdOperation = serde_json::from_value(serde_json::json!({
        "apiVersion": "kvnode.io/v1alpha1",
        "kind": "EtcdOperation",
        "metadata": {"name": "op", "namespace": "db", "uid": "op-uid"},
        "spec": {"clusterRef": {"name": "core"}, "type": type_, "ttlSecondsAfterFinished": 60},
    }))
    .unwrap();
    operation.metadata.creation_timestamp = Some(Time(world.now));
    operation
}

fn next(operation: &EtcdOperation, world: &World) -> OperationPlan {
    let observed = world.observe();
    let cluster_plan = plan(&observed);
    plan_operation(&ObservedOperation {
        operation: operation.clone(),
        cluster: Some((&observed, &cluster_plan)),
        ahead: Vec::new(),
        now: world.now,
    })
}

#[test]
fn defragmentation_takes_followers_first_and_the_leader_last() {
    let world = world();
    let mut operation = operation("Defragment", &world);
    let leader = plan(&world.observe()).report.status.leader.unwrap();
    let mut order = Vec::new();
    loop {
        let plan = next(&operation, &world);
        let mut status = plan.status;
        match plan.action {
            Some(OperationAction::Defragment { member }) => {
                order.push(member.name.clone());
                status.members_done.push(member.name);
            }
            None => {
                assert_eq!(status.phase, Some(OperationPhase::Succeeded));
                assert_eq!(plan.events.len(), 1);
                break;
            }
            other => panic!("{other:?}"),
        }
        operation.status = Some(status);
    }
    assert_eq!(order.len(), 3);
    assert_eq!(order.last(), Some(&leader));
}

#[test]
fn leadership_moves_once_and_only_to_a_healthy_voter() {
    let mut world = world();
    let mut operation = operation("MoveLeader", &world);
    let plan = next(&operation, &world);
    let Some(OperationAction::MoveLeader { from, to }) = plan.action else { panic!("{:?}", plan.status) };
    assert_ne!(from, to);
    world.leader = Some(to.id);
    operation.status = Some(plan.status);
    let done = next(&operation, &world);
    assert_eq!((done.action, done.status.phase), (None, Some(OperationPhase::Succeeded)));
    operation.status = None;
    operation.spec.member = Some("core-9".into());
    let refused = next(&operation, &world);
    assert_eq!(refused.status.phase, Some(OperationPhase::Failed));
}

#[test]
fn a_restart_goes_through_every_member_and_ends() {
    let mut world = world();
    let mut operation = operation("Restart", &world);
    let before: Vec<String> = world.pods.values().map(|p| p.uid.clone()).collect();
    let first = next(&operation, &world);
    let Some(OperationAction::AnnotateRestart { value }) = first.action else { panic!("{:?}", first.status) };
    world.cluster.metadata.annotations =
        Some([("kvnode.io/restartedAt".to_owned(), value)].into_iter().collect());
    operation.status = Some(first.status);
    for _ in 0..80 {
        world.pass();
        world.tick();
        let plan = next(&operation, &world);
        assert!(plan.action.is_none(), "asked for once");
        operation.status = Some(plan.status);
        if operation.status.as_ref().unwrap().phase == Some(OperationPhase::Succeeded) {
            break;
        }
    }
    assert_eq!(operation.status.as_ref().unwrap().phase, Some(OperationPhase::Succeeded));
    assert!(world.pods.values().all(|p| !before.contains(&p.uid)), "every pod is another one");
    // Done is done, and goes when its time has come.
    assert_eq!(next(&operation, &world).delete, Expiry::Keep);
    world.now += jiff::SignedDuration::from_secs(61);
    assert_eq!(next(&operation, &world).delete, Expiry::Delete);
}

#[test]
fn a_paused_cluster_is_left_alone() {
    let mut world = world();
    world.cluster.spec.paused = true;
    for type_ in ["Defragment", "MoveLeader", "Restart"] {
        let plan = next(&operation(type_, &world), &world);
        assert_eq!((plan.action, plan.status.phase), (None, Some(OperationPhase::Pending)), "{type_}");
    }
    world.cluster.spec.paused = false;
    assert!(next(&operation("Defragment", &world), &world).action.is_some());
}

#[test]
fn work_waits_for_a_cluster_at_rest_and_gives_up_in_time() {
    let mut world = world();
    let mut operation = operation("Defragment", &world);
    world.partitioned.insert(2);
    let plan = next(&operation, &world);
    assert_eq!((plan.action, plan.status.phase), (None, Some(OperationPhase::Pending)));
    operation.spec.timeout_seconds = 10;
    world.now += jiff::SignedDuration::from_secs(11);
    assert_eq!(next(&operation, &world).status.phase, Some(OperationPhase::Failed));
}
