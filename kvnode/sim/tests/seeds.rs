//! Hundreds of clusters, each from its seed.
//!
//! `KVNODE_SIM_SEEDS=20000 cargo test --release -p kvnode-sim` runs more, `KVNODE_SIM_SEED=7` one again. A failing seed
//! prints itself and what happened before.

use kvnode_sim::{Settings, Sim, Stats};

const SECONDS: u64 = 30;

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
    if let Some(seed) = setting("KVNODE_SIM_SEED") {
        eprintln!("{:#?}", run(seed));
        return;
    }
    let mut total = Stats::default();
    for seed in 0..setting("KVNODE_SIM_SEEDS").unwrap_or(200) {
        total += run(seed);
    }
    eprintln!("{total:#?}");
}

#[test]
fn a_seed_is_a_whole_run() {
    assert_eq!(run(3), run(3));
}
