//! Runs `testdata/*.txt`: commands, `----`, and what the planner does, in its own words.
//!
//! `UPDATE=1 cargo test -p operator-plan --test it script` rewrites the expectations.

use std::fmt::Write as _;
use std::path::Path;

use crds::names::PAUSED_ANNOTATION;
use operator_plan::Plan;
use operator_plan::identity::IdentityRecord;
use operator_plan::observed::StorageClassView;

use crate::world::{Cut, World, plan, spec};

#[test]
fn scripts_read_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "txt")) {
        let text = std::fs::read_to_string(file).unwrap();
        let played = play(&text);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, played).unwrap();
        } else {
            assert!(text == played, "{} differs; with UPDATE=1 it would read:\n{played}", file.display());
        }
    }
}

/// The script with its expectations as they are now.
fn play(text: &str) -> String {
    let mut out = String::new();
    let mut world = World::new(spec(3));
    for block in text.split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        let mut said = String::new();
        for line in commands.lines() {
            let _ = writeln!(out, "{line}");
            if !line.trim_start().starts_with('#') && !line.trim().is_empty() {
                command(&mut world, line.trim(), &mut said);
            }
        }
        if !said.is_empty() {
            let _ = writeln!(out, "----\n{}", said.trim_end());
        }
        out.push('\n');
    }
    format!("{}\n", out.trim_end())
}

fn command(world: &mut World, line: &str, said: &mut String) {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let argument = words.next();
    let number = || argument.and_then(|a| a.parse::<u32>().ok()).expect("a number");
    match verb {
        "cluster" => *world = World::new(spec(i32::try_from(number()).unwrap())),
        "from-backup" => {
            let reference = serde_json::json!({"fromBackup": {"backupRef": {"name": argument.unwrap()}}});
            world.cluster.spec.bootstrap = Some(serde_json::from_value(reference).unwrap());
        }
        "backup" => world.backups.push(crate::backups::succeeded(argument.unwrap(), "core")),
        "restore-fails" => world.restore_fails = Some(line.split_once(' ').unwrap().1.to_owned()),
        "restore-works" => world.restore_fails = None,
        "delete-restore-job" => world.restore_job = None,
        "run" => run(world, argument.map_or(60, |_| number()), said),
        "tick" => (0..argument.map_or(1, |_| number())).for_each(|_| world.tick()),
        "kill" => world.kill(number()),
        "wipe" => world.wipe(number()),
        "lose-claim" => world.lose_claim(number()),
        "partition" => {
            world.partitioned.insert(number());
        }
        "heal" => world.partitioned.clear(),
        "unready" => {
            world.unready.insert(number());
        }
        "all-ready" => world.unready.clear(),
        "operator-dies" => {
            world.cut = Some(if argument == Some("half-way") { Cut::Half } else { Cut::Before });
        }
        "member-remove" => crate::toy::remove_by_hand(world, number()),
        "scale" => world.scale(i32::try_from(number()).unwrap()),
        "member-update" => world.update_url(number()),
        "urls-back" => world.put_url_back(),
        "scale-set" => world.scale_set(number()),
        "orphan-pods" => world.delete_set(),
        "image" => world.cluster.spec.image = argument.map(str::to_owned),
        "bad-image" => {
            world.bad_images.insert(argument.unwrap().to_owned());
        }
        "auth-enable" => world.denies = true,
        "fixed-size" => world.fixed_size = true,
        "any-size" => world.fixed_size = false,
        "grow" => world.cluster.spec.storage.size = argument.unwrap().to_owned(),
        "pause" => {
            let annotation = (PAUSED_ANNOTATION.to_owned(), "true".to_owned());
            world.cluster.metadata.annotations = Some([annotation].into_iter().collect());
        }
        "unpause" => world.cluster.metadata.annotations = None,
        "no-storage-class" => {
            world.storage_class = StorageClassView::Missing { name: argument.unwrap().to_owned() }
        }
        "storage-class" => world.storage_class = StorageClassView::Usable,
        "forget-identity" => world.identity = None,
        "identity-of" => world.identity = Some((IdentityRecord::begun(argument.unwrap()), 1)),
        "status" => status(world, said),
        other => panic!("no such command: {other}"),
    }
}

/// Passes until nothing changes any more; one line for each that says something new.
fn run(world: &mut World, most: u32, said: &mut String) {
    let mut last = String::new();
    let mut quiet = 0;
    for _ in 0..most {
        let line = render(&world.pass());
        world.tick();
        if line == last {
            quiet += 1;
        } else {
            let _ = writeln!(said, "{line}");
            quiet = 0;
        }
        last = line;
        // Nothing new for longer than anything in this world takes.
        if quiet > 8 {
            return;
        }
    }
}

/// What a pass decided, in one line.
fn render(plan: &Plan) -> String {
    let mut line = match (&plan.action, &plan.waiting) {
        (Some(action), _) => format!("act   {action}"),
        (None, Some(waiting)) => format!("wait  {waiting} [{}]", waiting.reason().as_str()),
        (None, None) => "rest".to_owned(),
    };
    let Some(objects) = &plan.objects else {
        line.push_str(" | nothing applied");
        return line;
    };
    let set = objects.stateful_set.as_ref().and_then(|s| s.spec.as_ref()).and_then(|s| s.replicas);
    if let Some(replicas) = set {
        let _ = write!(line, " | pods {replicas}");
    }
    let budget = objects.pod_disruption_budget.as_ref().and_then(|b| b.spec.as_ref());
    if let Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(keep)) =
        budget.and_then(|s| s.min_available.clone())
    {
        let _ = write!(line, ", keep {keep}");
    }
    if objects.seed_claim.is_some() {
        line.push_str(", seed claim");
    }
    if objects.restore_job.is_some() {
        line.push_str(", restore job");
    }
    line
}

fn status(world: &World, said: &mut String) {
    let plan = plan(&world.observe());
    let status = plan.report.status;
    let _ = writeln!(
        said,
        "{} ready {} version {} leader {}",
        status.summary.unwrap_or_default(),
        status.ready.unwrap_or_default(),
        status.version.unwrap_or_default(),
        status.leader.unwrap_or_default(),
    );
    for member in status.members {
        let id = member.id.unwrap_or_default();
        let _ = writeln!(said, "  {} {id} {:?} healthy {:?}", member.name, member.role, member.healthy);
    }
    for condition in status.conditions {
        let _ = writeln!(
            said,
            "  {}={} {}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
}
