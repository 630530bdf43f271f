//! Requests to the Lock and Election services. Each contest is entered by the one lease that it is named after, so that
//! nobody ever waits; how those who wait are served is for tests that know when.

use super::Plan;

impl Plan {
    pub(super) fn recipe(&mut self) {
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
}
