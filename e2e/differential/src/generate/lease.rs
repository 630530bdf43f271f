//! Requests to the Lease service. Leases live long, except those that are watched until they expire.

use super::{Plan, dice::Dice};
use crate::case::Step;

/// Seconds, all longer than a case takes.
const TTLS: [i64; 6] = [300, 1000, 5000, 100_000, 9_000_000_000, 60 * 60 * 24];

impl Plan {
    pub(super) fn lease(&mut self) {
        match self.dice.below(100) {
            0..=34 => {
                let body = grant(&mut self.dice);
                self.call("Lease/LeaseGrant", &body);
            }
            35..=44 => {
                let body = format!("ID: {}", self.dice.lease());
                self.call("Lease/LeaseRevoke", &body);
            }
            45..=59 => {
                let body = format!("ID: {}", self.dice.lease());
                self.call("Lease/LeaseKeepAlive", &body);
            }
            60..=84 => {
                let body = format!("ID: {}", self.dice.lease()) + &self.dice.flag(60, "keys");
                self.call("Lease/LeaseTimeToLive", &body);
            }
            85..=97 => self.call("Lease/LeaseLeases", ""),
            _ if self.profile.auth == 0 => self.expiry(),
            _ => {}
        }
    }

    /// A lease that ends, and its keys with it.
    fn expiry(&mut self) {
        let lease = 90 + self.dice.below(3);
        let ttl = self.dice.from(&[1, 0, -1, i64::MIN]);
        self.steps.push(Step::call(0, "Lease/LeaseGrant", format!("TTL: {ttl} ID: {lease}")));
        for key in ["k2", "a", "\\377"] {
            self.steps.push(Step::call(
                0,
                "KV/Put",
                format!("key: \"{key}\" value: \"gone\" lease: {lease}"),
            ));
        }
        self.steps.push(Step::Expire { lease });
        self.steps.push(Step::Audit);
    }
}

fn grant(dice: &mut Dice) -> String {
    let ttl = match dice.below(20) {
        0 => 9_000_000_001,
        1 => i64::MAX,
        _ => dice.from(&TTLS),
    };
    // An id of the server's choice is different on both sides, so few leases have one.
    let id = if dice.chance(5) { "0".to_owned() } else { dice.lease() };
    format!("TTL: {ttl} ID: {id}")
}
