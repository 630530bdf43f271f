//! Sends the same operations to real etcd and to kvnode and compares all that comes back.
//!
//! A case ([`case`]) comes from a seed ([`generate`]) or from `cases/`; [`run`] takes it step by step on two fresh clusters
//! ([`side`]) and stops at the first difference, which [`shrink`] then makes small. What is not compared, and why, stands in
//! [`normalise`].
//!
//! Never: decides what is right. etcd does; where kvnode is not to follow, a row in [`normalise`] says so.

mod audit;
mod bindings;
mod case;
mod generate;
mod listen;
mod normalise;
mod process;
mod run;
mod schema;
mod shrink;
mod side;
mod snapshot;
mod watch;
mod wire;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;

use case::Case;
use process::Programs;
use run::Difference;
use schema::Schema;

/// Compares kvnode with etcd by random operations: first the cases found before, then new ones until the time is over.
#[derive(Parser)]
struct Arguments {
    /// Minutes to try new cases.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seed of the first new case, each further one takes the next; without it a few fixed ones, then fresh ones.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps of a case.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Only this case.
    #[arg(long)]
    case: Option<PathBuf>,
    /// Only the case of the seed, written to standard output instead of run.
    #[arg(long)]
    print: bool,
    /// Go on after a difference, and do not make its case small.
    #[arg(long)]
    survey: bool,
    #[arg(long, env = "ETCD", default_value = "etcd")]
    etcd: PathBuf,
    #[arg(long, env = "KVNODE", default_value = "target/debug/kvnode")]
    kvnode: PathBuf,
    /// Where data lies meanwhile; best in memory.
    #[arg(long, default_value = "/dev/shm")]
    scratch: PathBuf,
}

/// Seeds that are tried every time before fresh ones.
const FIXED_SEEDS: u64 = 3;

/// How long a long run says nothing.
const A_WORD_EVERY: Duration = Duration::from_secs(60);

/// How long a case may be made smaller: whoever waits for the outcome wants it more than the smallest case.
const SHRINKING: Duration = Duration::from_secs(300);

/// What the whole program works with.
struct Driver {
    schema: Schema,
    programs: Programs,
    survey: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    if arguments.print {
        print!("{}", generate::case(seed, arguments.steps));
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = if arguments.scratch.is_dir() { arguments.scratch } else { std::env::temp_dir() };
    let programs = Programs { etcd: arguments.etcd, kvnode: arguments.kvnode, scratch };
    let driver = Driver { schema: Schema::load()?, programs, survey: arguments.survey };
    if let Some(path) = &arguments.case {
        return driver.replay(path).await.map(exit_code);
    }
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut same = driver.replay_all(&known).await?;
    if same || arguments.survey {
        let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
        if arguments.seed.is_none() {
            same &= driver.explore(0..FIXED_SEEDS, arguments.steps, until).await?;
        }
        if same || arguments.survey {
            same &= driver.explore(seed..u64::MAX, arguments.steps, until).await?;
        }
    }
    Ok(exit_code(same))
}

fn exit_code(same: bool) -> ExitCode {
    if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Another seed every time, which is printed.
fn fresh_seed() -> u64 {
    rand::random::<u32>().into()
}

impl Driver {
    /// Every case of a folder; whether both sides were the same in all of them.
    async fn replay_all(&self, folder: &Path) -> Result<bool> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            files.push(entry?.path());
        }
        files.sort();
        let mut same = true;
        for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "txt")) {
            same &= self.replay(file).await?;
        }
        println!("{} known cases: {}", files.len(), if same { "all the same" } else { "differences" });
        Ok(same)
    }

    async fn replay(&self, file: &Path) -> Result<bool> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let case: Case = text.parse().with_context(|| format!("read {}", file.display()))?;
        let outcome = self.run(&case).await.with_context(|| format!("run {}", file.display()))?;
        if let Some(difference) = &outcome {
            println!("{}: {difference}", file.display());
        }
        Ok(outcome.is_none())
    }

    /// New cases until the time is over or the seeds are used up; whether both sides were the same in all of them.
    async fn explore(&self, seeds: Range<u64>, steps: usize, until: Instant) -> Result<bool> {
        let (mut cases, mut taken, mut same) = (0, 0, true);
        println!("new cases: seeds from {} on", seeds.start);
        let mut word = Instant::now() + A_WORD_EVERY;
        for seed in seeds {
            if Instant::now() > word {
                println!("{cases} new cases, {taken} steps so far; now seed {seed}");
                word = Instant::now() + A_WORD_EVERY;
            }
            if Instant::now() > until {
                break;
            }
            let case = generate::case(seed, steps);
            let outcome = self.run(&case).await.with_context(|| format!("run the case of seed {seed}"))?;
            (cases, taken) = (cases + 1, taken + case.steps.len());
            if let Some(difference) = outcome {
                same = false;
                println!("seed {seed}: {difference}");
                if !self.survey {
                    println!("looking for a smaller case, for {} s at most", SHRINKING.as_secs());
                    println!("shortest case found:\n{}", self.shorten(case, &difference).await);
                    return Ok(false);
                }
            }
        }
        println!("{cases} new cases, {taken} steps: {}", if same { "all the same" } else { "differences" });
        Ok(same)
    }

    async fn run(&self, case: &Case) -> Result<Option<Difference>> {
        run::run(case, &self.schema, &self.programs).await
    }

    /// A small case that differs in the same call.
    async fn shorten(&self, mut case: Case, difference: &Difference) -> Case {
        case.steps.truncate(difference.step + 1);
        let kind = kind(difference).to_owned();
        let until = Instant::now() + SHRINKING;
        shrink::shrink(case, async |smaller: &Case| {
            Instant::now() < until
                && matches!(self.run(smaller).await, Ok(Some(found)) if self::kind(&found) == kind)
        })
        .await
    }
}

/// The method in which the sides differ.
fn kind(difference: &Difference) -> &str {
    difference.what.split(' ').next().unwrap_or_default()
}
