//! The objects of a cluster, whole, so that a change of any field is seen in review.
//!
//! `UPDATE=1 cargo test -p operator-plan --test it rendered` rewrites `testdata/*.yaml`.

use std::path::Path;

use crds::EtcdBackup;
use operator_plan::resources::{self, JobContext, RestoreFrom, StatefulSetInput};
use operator_plan::validate::validate;
use serde::Serialize;

use crate::backups::succeeded;
use crate::world::{World, plan, settings, spec};

fn compare(name: &str, object: &impl Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = serde_saphyr::to_string(object).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; UPDATE=1 rewrites it. Now:\n{text}", path.display());
}

#[test]
fn stateful_set_of_the_smallest_cluster() {
    let world = World::new(spec(3));
    let cluster = validate(&world.cluster, &settings()).unwrap();
    let input = StatefulSetInput { replicas: 3, existing_template_storage: None };
    compare("statefulset.yaml", &resources::stateful_set(&cluster, &input));
}

#[test]
fn backup_and_restore_jobs() {
    let backup: EtcdBackup = succeeded("nightly", "core");
    let world = World::new(spec(3));
    let cluster = validate(&world.cluster, &settings()).unwrap();
    let context = JobContext {
        names: world.names(),
        members: 3,
        operator_secret: "core-operator-tls".into(),
        settings: settings(),
        key: "db/core/nightly.db".into(),
        image_pull_secrets: Vec::new(),
    };
    compare("backup-job.yaml", &resources::backup_job(&backup, &context));
    compare("delete-job.yaml", &resources::delete_job(&backup, &context));
    let from = RestoreFrom {
        store: backup.spec.store,
        key: "db/core/nightly.db".into(),
        sha256: Some("ab".repeat(32)),
        size_bytes: Some(4096),
        service_account_name: None,
    };
    compare("restore-job.yaml", &resources::restore_job(&cluster, &settings(), &from));
}

#[test]
fn a_restore_runs_where_members_may_and_as_who_made_the_backup() {
    let mut world = World::new(spec(3));
    world.cluster.spec = serde_json::from_value(serde_json::json!({
        "replicas": 3,
        "imagePullSecrets": [{"name": "registry"}],
        "scheduling": {"affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["db"]}]},
            ]}},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
            ]},
        }},
        "bootstrap": {"fromBackup": {"backupRef": {"name": "nightly"}}},
    }))
    .unwrap();
    let mut backup = succeeded("nightly", "core");
    backup.spec.service_account_name = Some("trusted".into());
    world.backups.push(backup);
    let mut pod = |own: Option<&str>| {
        let from = &mut world.cluster.spec.bootstrap.as_mut().unwrap().from_backup;
        from.service_account_name = own.map(str::to_owned);
        let mut world = world.clone();
        let job = (0..10).find_map(|_| {
            let job = world.pass().objects.and_then(|objects| objects.restore_job);
            world.tick();
            job
        });
        job.expect("a restore Job").spec.unwrap().template.spec.unwrap()
    };
    let restore = pod(None);
    assert_eq!(restore.service_account_name.as_deref(), Some("trusted"));
    assert_eq!(restore.image_pull_secrets.unwrap()[0].name, "registry");
    let affinity = restore.affinity.unwrap();
    assert!(affinity.node_affinity.is_some(), "its volume may be bound to the first node that uses it");
    assert!(affinity.pod_anti_affinity.is_none(), "there are no members to be apart from");
    assert_eq!(pod(Some("reader")).service_account_name.as_deref(), Some("reader"), "the cluster's own wins");
}

#[test]
fn services_and_budget() {
    let world = World::new(spec(3));
    let cluster = validate(&world.cluster, &settings()).unwrap();
    compare("peer-service.yaml", &resources::peer_service(&cluster));
    compare("client-service.yaml", &resources::client_service(&cluster));
    compare("pod-disruption-budget.yaml", &resources::pod_disruption_budget(&cluster, 3));
}

#[test]
fn the_same_observation_gives_the_same_objects() {
    let mut world = World::new(spec(3));
    (0..40).for_each(|_| {
        world.pass();
        world.tick();
    });
    let text = || format!("{:?}", plan(&world.observe()));
    assert_eq!(text(), text());
}

#[test]
fn the_seed_claim_is_the_one_the_stateful_set_would_make() {
    let world = World::new(spec(3));
    let cluster = validate(&world.cluster, &settings()).unwrap();
    let input = StatefulSetInput { replicas: 3, existing_template_storage: None };
    let set = resources::stateful_set(&cluster, &input).spec.unwrap();
    let template = set.volume_claim_templates.unwrap().remove(0);
    let seed = resources::seed_claim(&cluster);
    assert_eq!(seed.spec, template.spec);
    assert_eq!(seed.metadata.labels, template.metadata.labels);
    assert_eq!(seed.metadata.name.unwrap(), format!("{}-core-0", template.metadata.name.unwrap()));
    assert!(seed.metadata.owner_references.is_none(), "volumes are nobody's to delete");
    let retention = set.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(retention.when_deleted.as_deref(), Some("Retain"));
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"));
}

#[test]
fn the_template_hash_follows_what_pods_are_made_from_and_nothing_else() {
    let hash = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(spec(3));
        change(&mut world);
        let cluster = validate(&world.cluster, &settings()).unwrap();
        let replicas = cluster.replicas;
        let set = resources::stateful_set(
            &cluster,
            &StatefulSetInput { replicas, existing_template_storage: None },
        );
        let annotations = set.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
        annotations["kvnode.io/template-hash"].clone()
    };
    let plain = hash(&|_| {});
    assert_eq!(plain, hash(&|w| w.scale(5)));
    assert_eq!(plain, hash(&|w| w.cluster.spec.storage.size = "16Gi".into()));
    assert_ne!(plain, hash(&|w| w.cluster.spec.image = Some("other".into())));
    assert_ne!(
        plain,
        hash(&|w| {
            let annotation = ("kvnode.io/restartedAt".to_owned(), "now".to_owned());
            w.cluster.metadata.annotations = Some([annotation].into_iter().collect());
        })
    );
}
