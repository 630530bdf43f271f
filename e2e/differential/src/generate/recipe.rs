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
        let (n, election) = (self.dice.below(3), self.dice.chance(50));
        let leases = [0x71, 0x72, 0x73];
        for lease in leases {
            self.call("Lease/LeaseGrant", &format!("TTL: 1000 ID: {lease}"));
        }
        for (at, lease) in leases.into_iter().enumerate() {
            let member = self.member();
            let (method, body) = if election {
                let value = self.dice.value();
                ("Election/Campaign", format!("name: \"vote{n}\" lease: {lease} value: \"{value}\""))
            } else {
                ("Lock/Lock", format!("name: \"queue{n}\" lease: {lease}"))
            };
            let call = Call { member, user: None, method: method.to_owned(), body };
            self.steps.push(Step::Begin { name: format!("c{at}"), call });
            self.meanwhile(election, n);
        }
        self.steps.push(Step::End { name: "c0".to_owned() });
        if election {
            let call = Call {
                member: self.member(),
                user: None,
                method: "Election/Observe".to_owned(),
                body: format!("name: \"vote{n}\""),
            };
            self.steps.push(Step::Begin { name: OBSERVER.to_owned(), call });
        }
        // The next in the queue is then served at a moment of its own, so nothing else may be written until all are.
        let somebody_leaves = self.dice.chance(50);
        if somebody_leaves {
            let at = 1 + self.dice.below(2);
            if self.dice.chance(50) {
                self.steps.push(Step::Close { stream: format!("c{at}") });
            } else {
                self.call("Lease/LeaseRevoke", &format!("ID: {}", leases[at]));
            }
        }
        for (at, lease) in leases.into_iter().enumerate() {
            if !somebody_leaves {
                self.meanwhile(election, n);
            }
            let leader = format!(
                "leader {{ name: \"vote{n}\" key: \"vote{n}/{lease:x}\" rev: $elected lease: {lease} }}"
            );
            if election && self.dice.chance(50) {
                let value = self.dice.value();
                self.call("Election/Proclaim", &format!("{leader} value: \"{value}\""));
                self.steps.push(Step::Hear { name: OBSERVER.to_owned() });
            }
            match self.dice.below(3) {
                0 => self.call("Lease/LeaseRevoke", &format!("ID: {lease}")),
                _ if election => self.call("Election/Resign", &leader),
                _ => self.call("Lock/Unlock", &format!("key: \"queue{n}/{lease:x}\"")),
            }
            self.steps.push(Step::End { name: format!("c{}", at + 1) });
            self.steps.push(Step::Hear { name: OBSERVER.to_owned() });
        }
        self.steps.push(Step::Close { stream: OBSERVER.to_owned() });
        // Whatever came of it: nobody waits any more.
        for lease in leases {
            self.call("Lease/LeaseRevoke", &format!("ID: {lease}"));
        }
    }

    /// What others do while somebody waits.
    fn meanwhile(&mut self, election: bool, n: usize) {
        for _ in 0..self.dice.below(3) {
            if election {
                self.call("Election/Leader", &format!("name: \"vote{n}\""));
            }
            let put = format!("key: \"{}\" value: \"{}\"", self.dice.key(), self.dice.value());
            self.call("KV/Put", &put);
        }
    }
}
