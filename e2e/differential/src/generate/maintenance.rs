//! Requests to the Maintenance service.

use super::{Plan, kv};

impl Plan {
    pub(super) fn maintenance(&mut self) {
        let dice = &mut self.dice;
        let (method, body) = match dice.below(12) {
            0 | 1 => ("Status", String::new()),
            2 => ("Defragment", String::new()),
            3 => ("Hash", String::new()),
            4 | 5 => ("HashKV", format!("revision: {}", dice.revision())),
            6 => ("Snapshot", String::new()),
            7 => {
                let target = dice.from(&["$member0", "$added", "0", "12345"]);
                ("MoveLeader", format!("targetID: {target}"))
            }
            8 => (
                "Alarm",
                "action: GET".to_owned() + &dice.maybe(50, |dice| format!("alarm: {}", dice.below(4))),
            ),
            _ => return self.alarm(),
        };
        self.call(&format!("Maintenance/{method}"), &body);
    }

    /// An alarm is raised, some requests meet it, and it is disarmed.
    fn alarm(&mut self) {
        let alarm = self.dice.from(&["NOSPACE", "NOSPACE", "CORRUPT", "NONE", "3"]);
        let member = self.dice.from(&["$member0", "0", "12345"]);
        let of = format!("memberID: {member} alarm: {alarm}");
        self.call("Maintenance/Alarm", &format!("action: ACTIVATE {of}"));
        for _ in 0..self.dice.below(8) {
            match self.dice.below(4) {
                0 => self.lease(),
                1 => self.call("Maintenance/Status", ""),
                _ => {
                    let (method, body) = kv::request(&mut self.dice);
                    self.call(method, &body);
                }
            }
        }
        self.call("Maintenance/Alarm", &format!("action: DEACTIVATE {of}"));
    }
}
