//! Hundreds of clusters, each from its seed.
//!
//! `KVNODE_SIM_SEEDS=20000 cargo test --release -p kvnode-sim` runs more, `KVNODE_SIM_SEED=7` one again (both: that many
//! from that one on). A failing seed prints itself and what happened before.

use kvnode_sim::{Settings, Sim, Stats};

const SECONDS: u64 = 30;
const SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn run(seed: u64) -> Stats {
    match Sim::new(Settings { seed, seconds: SECONDS }).run() {
        Ok(stats) => stats,
        Err(violation) => panic!("{}\nrun again with KVNODE_SIM_SEED={seed}", violation.0),
    }
}

#[test]
fn clusters_keep_their_promises_in_every_storm() {
    let first = setting("KVNODE_SIM_SEED");
    let seeds = setting("KVNODE_SIM_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let mut total = Stats::default();
    for seed in first..first + seeds {
        total += run(seed);
    }
    eprintln!("{total:#?}");
    if seeds >= SEEDS {
        check_coverage(&total);
    }
}

/// A storm in which nothing happens proves nothing.
fn check_coverage(total: &Stats) {
    let each = [
        ("acknowledged writes", total.writes, 2000),
        ("linearizable reads", total.reads, 2000),
        ("operations of unknown outcome", total.unknown, 100),
        ("elections", total.elections, 300),
        ("kills", total.kills, 100),
        ("power cuts between steps", total.power_cuts, 100),
        ("power cuts within writes", total.cuts_in_write, 100),
        ("members lost with their disk", total.lost_members, 20),
        ("torn tails", total.torn_tails, 1),
        ("partitions", total.partitions, 100),
        ("checkpoints", total.checkpoints, 500),
        ("snapshots installed", total.snapshots, 20),
        ("membership changes", total.conf_changes, 100),
        ("leaders moved", total.transfers, 10),
        ("leaders whose disk hung", total.stepped_down, 10),
        ("rejects that came late", total.stale_rejects, 10),
        ("compactions", total.compactions, 20),
        ("hashes compared", total.hashes_compared, 500),
    ];
    assert!(total.quorums_gone * 50 <= total.lost_members, "too many runs end stuck: {}", total.quorums_gone);
    for (what, count, least) in each {
        assert!(count >= least, "only {count} {what}: the simulation no longer reaches what it is for");
    }
}

#[test]
fn a_seed_is_a_whole_run() {
    assert_eq!(run(3), run(3));
}
