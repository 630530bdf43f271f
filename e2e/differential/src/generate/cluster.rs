//! Requests to the Cluster service: what it refuses, and learners that come and go without ever running.

use super::{Plan, dice::Dice};

/// Peer URLs nobody listens on, and some that are none.
const GOOD_URLS: [&str; 3] = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://m9.test:2380"];
const BAD_URLS: [&str; 8] = [
    "",
    "nonsense",
    "127.0.0.1:1",
    "http://127.0.0.1",
    "http://127.0.0.1:1/path",
    "ftp://127.0.0.1:1",
    "http://127.0.0.1:port",
    "http://a b:1",
];

impl Plan {
    pub(super) fn cluster(&mut self) {
        let dice = &mut self.dice;
        let (method, body) = match dice.below(10) {
            0 | 1 => ("MemberList", dice.flag(50, "linearizable").trim().to_owned()),
            2..=4 => ("MemberAdd", format!("{} isLearner: true", urls(dice))),
            // A voter that never runs would take the quorum with it; the URL keeps it out.
            5 => ("MemberAdd", format!("peerURLs: \"{}\"", dice.from(&BAD_URLS))),
            6 => ("MemberRemove", format!("ID: {}", stranger(dice))),
            7 => ("MemberUpdate", update(dice)),
            8 => ("MemberRemove", "ID: $added".to_owned()),
            _ => ("MemberPromote", format!("ID: {}", dice.from(&["$added", "$member0", "12345", "0"]))),
        };
        self.call(&format!("Cluster/{method}"), &body);
    }
}

fn urls(dice: &mut Dice) -> String {
    let count = dice.from(&[1, 1, 1, 2, 0]);
    let url = |dice: &mut Dice| if dice.chance(75) { dice.from(&GOOD_URLS) } else { dice.from(&BAD_URLS) };
    let urls: Vec<String> = (0..count).map(|_| format!("peerURLs: \"{}\"", url(dice))).collect();
    urls.join(" ")
}

/// etcd fails on a known member's URLs that are none, so only strangers get those.
fn update(dice: &mut Dice) -> String {
    if dice.chance(30) {
        return format!("ID: {} {}", dice.from(&["12345", "0"]), urls(dice));
    }
    format!("ID: $added peerURLs: \"{}\"", dice.from(&GOOD_URLS))
}

/// A member that is not one the cluster needs.
fn stranger(dice: &mut Dice) -> &'static str {
    dice.from(&["$added", "$added", "$added", "12345", "0", "18446744073709551615"])
}
