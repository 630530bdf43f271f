//! From a seed to a case. Pure: the same seed and size give the same case.
//!
//! Words are few on purpose (a handful of keys, leases, users), so that operations meet: a random delete mostly finds its
//! key, a random lease mostly exists. Every operation is sometimes given what no client should send.

mod auth;
mod cluster;
mod dice;
mod kv;
mod lease;
mod maintenance;
mod recipe;
mod txn;
mod watch;

use crate::case::{Case, End, Setup, Step};
use dice::Dice;

/// Steps between two audits.
const AUDIT_EVERY: usize = 40;

/// What a case is mostly about.
#[derive(Clone, Copy, Debug)]
struct Profile {
    members: usize,
    /// Of a thousand steps.
    txn: u32,
    lease: u32,
    watch: u32,
    cluster: u32,
    maintenance: u32,
    recipe: u32,
    auth: u32,
    restart: u32,
}

/// The case of a seed, of about `size` steps.
pub fn case(seed: u64, size: usize) -> Case {
    let mut dice = Dice::new(seed);
    let profile = profile(&mut dice);
    let setup = Setup { members: profile.members, flags: flags(&mut dice, profile) };
    let mut plan = Plan { dice, profile, steps: Vec::new(), streams: 0 };
    while plan.steps.len() < size {
        let before = plan.steps.len();
        plan.step();
        if before / AUDIT_EVERY != plan.steps.len() / AUDIT_EVERY {
            plan.steps.push(Step::Audit);
        }
    }
    Case { setup, steps: plan.steps }
}

fn profile(dice: &mut Dice) -> Profile {
    let plain = Profile {
        members: if dice.chance(15) { 3 } else { 1 },
        txn: 150,
        lease: 120,
        watch: 120,
        cluster: 20,
        maintenance: 40,
        recipe: 20,
        auth: 0,
        restart: 5,
    };
    match dice.below(9) {
        0 => Profile { watch: 500, ..plain },
        1 => Profile { lease: 500, ..plain },
        2 => Profile { txn: 600, ..plain },
        3 => Profile { cluster: 200, maintenance: 200, ..plain },
        4 => Profile { restart: 30, ..plain },
        5 | 6 => Profile { auth: 300, ..plain },
        7 => Profile { recipe: 400, ..plain },
        _ => plain,
    }
}

fn flags(dice: &mut Dice, profile: Profile) -> Vec<String> {
    let mut flags = Vec::new();
    if dice.chance(25) {
        flags.push(format!("--max-txn-ops={}", dice.from(&[1, 2, 4, 8])));
    }
    if dice.chance(15) {
        flags.push("--max-request-bytes=2000".to_owned());
    }
    if profile.auth > 0 {
        flags.push("--bcrypt-cost=4".to_owned());
    }
    flags
}

/// A case under construction.
struct Plan {
    dice: Dice,
    profile: Profile,
    steps: Vec<Step>,
    /// Watch streams opened so far.
    streams: usize,
}

impl Plan {
    fn step(&mut self) {
        let profile = self.profile;
        let mut roll = self.dice.below(1000);
        let mut falls = |share: u32| {
            let hit = roll < share;
            roll = roll.wrapping_sub(if hit { 0 } else { share });
            hit
        };
        if falls(profile.txn) {
            let body = txn::request(&mut self.dice, 2);
            self.call("KV/Txn", &body);
        } else if falls(profile.lease) {
            self.lease();
        } else if falls(profile.watch) {
            self.watch();
        } else if falls(profile.cluster) {
            self.cluster();
        } else if falls(profile.maintenance) {
            self.maintenance();
        } else if falls(profile.recipe) {
            self.recipe();
        } else if falls(profile.auth) {
            self.auth();
        } else if falls(profile.restart) {
            self.restart();
        } else {
            let (method, body) = kv::request(&mut self.dice);
            self.call(method, &body);
        }
    }

    /// A call to some member by some user.
    fn call(&mut self, method: &str, body: &str) {
        let member = self.member();
        self.call_to(member, method, body);
    }

    fn call_to(&mut self, member: usize, method: &str, body: &str) {
        let user = self.user();
        self.steps.push(Step::call(member, method, body.trim()).by(user));
    }

    fn member(&mut self) -> usize {
        self.dice.below(self.profile.members)
    }

    /// Mostly root, so that most things are allowed.
    fn user(&mut self) -> Option<&'static str> {
        if self.profile.auth == 0 || self.dice.chance(5) {
            return None;
        }
        Some(if self.dice.chance(50) { "root" } else { self.dice.from(&crate::audit::USERS) })
    }

    fn restart(&mut self) {
        let member = self.member();
        let how = if self.dice.chance(50) { End::Kill } else { End::Term };
        if self.profile.members == 1 || self.dice.chance(30) {
            self.steps.push(Step::Restart { member, how });
            return self.log_in_again();
        }
        self.steps.push(Step::Stop { member, how });
        for _ in 0..self.dice.below(20) {
            let other = (member + 1 + self.dice.below(self.profile.members - 1)) % self.profile.members;
            let (method, body) = kv::request(&mut self.dice);
            self.call_to(other, method, &body);
        }
        self.steps.push(Step::Start { member });
        self.log_in_again();
    }

    fn log_in_again(&mut self) {
        if self.profile.auth > 0 {
            for user in crate::audit::USERS {
                let body = format!("name: \"{user}\" password: \"{user}\"");
                self.steps.push(Step::call(0, "Auth/Authenticate", body));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bindings::Bindings, schema, schema::Schema};

    #[test]
    fn a_seed_always_gives_the_same_case() {
        assert!(case(7, 300) == case(7, 300));
        assert!(case(7, 300) != case(8, 300));
    }

    #[test]
    fn cases_can_be_written_down() {
        for seed in 0..20 {
            let case = case(seed, 300);
            assert!(case.to_string().parse::<Case>().unwrap() == case, "seed {seed}");
        }
    }

    #[test]
    fn every_request_can_be_sent() {
        let schema = Schema::load().unwrap();
        let bindings = Bindings { members: vec![1, 2, 3], ..Bindings::default() };
        let watch = schema.method("Watch/Watch").unwrap().input();
        for seed in 0..50 {
            for step in case(seed, 300).steps {
                let (kind, body) = match &step {
                    Step::Call(call) | Step::Begin { call, .. } => {
                        (schema.method(&call.method).unwrap().input(), &call.body)
                    }
                    Step::Send { body, .. } => (watch.clone(), body),
                    _ => continue,
                };
                let filled = bindings.fill(body).unwrap();
                if let Err(error) = schema::parse(kind, &filled) {
                    panic!("{step}: {error:#}");
                }
            }
        }
    }
}
