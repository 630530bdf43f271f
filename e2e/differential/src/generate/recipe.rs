//! Requests to the Lock and Election services. Single ones are about a contest that is entered by the one lease that it is
//! named after, so that nobody waits; those who do wait are in [`Plan::contest`].

use super::Plan;
use crate::case::{Call, Step};

/// The call that sees who is elected.
const OBSERVER: &str = "o";

impl Plan {
    pub(super) fn recipe(&mut self) {
        // Waiting ends in time only if everybody may do everything.
        if self.profile.auth == 0 && self.dice.chance(15) {
            return self.contest();
        }
        // A session without a lease gets one of the server's choice, and keys keep its id.
        let lease = 1 + self.dice.below(6);
        let value = self.dice.value();
        let leader = format!(
            "leader {{ name: \"elect{lease}\" key: \"elect{lease}/{lease}\" rev: {} lease: {lease} }}",
            if self.dice.chance(85) { "$elected".to_owned() } else { self.dice.revision() }
        );
        let (method, body) = match self.dice.below(10) {
            0..=2 => ("Lock/Lock", format!("name: \"lock{lease}\" lease: {lease}")),
            3 => ("Lock/Unlock", format!("key: \"lock{lease}/{lease}\"")),
            4 | 5 => {
                ("Election/Campaign", format!("name: \"elect{lease}\" lease: {lease} value: \"{value}\""))
            }
            6 => ("Election/Leader", format!("name: \"elect{lease}\"")),
            7 | 8 => ("Election/Proclaim", format!("{leader} value: \"{value}\"")),
            _ => ("Election/Resign", leader),
        };
        self.call(method, &body);
    }

    /// Three want the same lock, or the same office, and get it one after the other, give up, or lose their leases.
    fn contest(&mut self) {
        let contest = Contest { number: self.dice.below(3), election: self.dice.chance(50) };
        for lease in CONTESTANTS {
            self.call("Lease/LeaseGrant", &format!("TTL: 1000 ID: {lease}"));
        }
        for (at, lease) in CONTESTANTS.into_iter().enumerate() {
            let value = self.dice.value();
            self.begin(&waiting(at), contest.enter(lease, &value));
            self.meanwhile(&contest);
        }
        self.steps.push(Step::End { name: waiting(0) });
        if contest.election {
            self.begin(OBSERVER, ("Election/Observe", format!("name: \"{}\"", contest.name())));
        }
        // The next in the queue is then served at a moment of its own, so nothing else may be written until all are.
        let somebody_leaves = self.dice.chance(50);
        if somebody_leaves {
            let at = 1 + self.dice.below(2);
            if self.dice.chance(50) {
                self.steps.push(Step::Close { stream: waiting(at) });
            } else {
                self.call("Lease/LeaseRevoke", &format!("ID: {}", CONTESTANTS[at]));
            }
        }
        for (at, lease) in CONTESTANTS.into_iter().enumerate() {
            if !somebody_leaves {
                self.meanwhile(&contest);
            }
            if contest.election && self.dice.chance(50) {
                let value = self.dice.value();
                self.call("Election/Proclaim", &format!("{} value: \"{value}\"", contest.leader(lease)));
                self.steps.push(Step::Hear { name: OBSERVER.to_owned() });
            }
            let (method, body) = match self.dice.below(3) {
                0 => ("Lease/LeaseRevoke", format!("ID: {lease}")),
                _ => contest.give_back(lease),
            };
            self.call(method, &body);
            self.steps.push(Step::End { name: waiting(at + 1) });
            self.steps.push(Step::Hear { name: OBSERVER.to_owned() });
        }
        self.steps.push(Step::Close { stream: OBSERVER.to_owned() });
        // Whatever came of it: nobody waits any more.
        for lease in CONTESTANTS {
            self.call("Lease/LeaseRevoke", &format!("ID: {lease}"));
        }
    }

    fn begin(&mut self, name: &str, (method, body): (&str, String)) {
        let call = Call { member: self.member(), user: None, method: method.to_owned(), body };
        self.steps.push(Step::Begin { name: name.to_owned(), call });
    }

    /// What others do while somebody waits.
    fn meanwhile(&mut self, contest: &Contest) {
        for _ in 0..self.dice.below(3) {
            if contest.election {
                self.call("Election/Leader", &format!("name: \"{}\"", contest.name()));
            }
            let put = format!("key: \"{}\" value: \"{}\"", self.dice.key(), self.dice.value());
            self.call("KV/Put", &put);
        }
    }
}

/// The leases of those who compete.
const CONTESTANTS: [i64; 3] = [0x71, 0x72, 0x73];

/// The name of a contestant's call.
fn waiting(at: usize) -> String {
    format!("c{at}")
}

/// A lock or an office that is wanted.
struct Contest {
    number: usize,
    election: bool,
}

impl Contest {
    fn name(&self) -> String {
        format!("{}{}", if self.election { "vote" } else { "queue" }, self.number)
    }

    fn enter(&self, lease: i64, value: &str) -> (&'static str, String) {
        let (method, more) = match self.election {
            true => ("Election/Campaign", format!(" value: \"{value}\"")),
            false => ("Lock/Lock", String::new()),
        };
        (method, format!("name: \"{}\" lease: {lease}{more}", self.name()))
    }

    fn leader(&self, lease: i64) -> String {
        let (name, key) = (self.name(), self.key(lease));
        format!("leader {{ name: \"{name}\" key: \"{key}\" rev: $elected lease: {lease} }}")
    }

    fn give_back(&self, lease: i64) -> (&'static str, String) {
        match self.election {
            true => ("Election/Resign", self.leader(lease)),
            false => ("Lock/Unlock", format!("key: \"{}\"", self.key(lease))),
        }
    }

    fn key(&self, lease: i64) -> String {
        format!("{}/{lease:x}", self.name())
    }
}
