//! Watch streams and what is asked on them.

use super::{Plan, dice::Dice};
use crate::case::Step;

/// Streams that are open at a time.
const STREAMS_MAX: usize = 4;

impl Plan {
    pub(super) fn watch(&mut self) {
        if self.streams == 0 || self.dice.chance(10) {
            self.open();
        }
        let stream = self.stream();
        match self.dice.below(20) {
            0 => self.steps.push(Step::Close { stream }),
            1 => self.steps.push(Step::Progress { stream }),
            2..=4 => {
                let body = format!("cancel_request {{ watch_id: {} }}", self.dice.below(7) - 1);
                self.steps.push(Step::Send { stream, body });
            }
            _ => {
                let body = format!("create_request {{ {} }}", create(&mut self.dice));
                self.steps.push(Step::Send { stream, body });
            }
        }
    }

    fn open(&mut self) {
        let stream = format!("w{}", self.streams % STREAMS_MAX);
        self.streams += 1;
        let (member, user) = (self.member(), self.user().map(str::to_owned));
        self.steps.push(Step::Close { stream: stream.clone() });
        self.steps.push(Step::Open { stream, member, user });
    }

    fn stream(&mut self) -> String {
        format!("w{}", self.dice.below(self.streams.min(STREAMS_MAX)))
    }
}

fn create(dice: &mut Dice) -> String {
    let mut text = dice.range();
    text += &dice.maybe(50, |dice| {
        // A watch of the far future never answers to progress.
        let revision = dice.revision();
        let far = revision.parse::<i64>().is_ok_and(|revision| revision > 1) || revision.ends_with("1000");
        format!("start_revision: {}", if far && dice.chance(80) { "$now-5".to_owned() } else { revision })
    });
    text += &dice.flag(30, "prev_kv");
    text += &dice.maybe(10, |_| "filters: 0".to_owned());
    text += &dice.maybe(10, |_| "filters: 1".to_owned());
    text += &dice.maybe(2, |_| "filters: 5".to_owned());
    text += &dice.maybe(20, |dice| format!("watch_id: {}", dice.from(&[-1, -2, 101, 102, 103, i64::MAX])));
    text += &dice.flag(15, "fragment");
    text += &dice.flag(15, "progress_notify");
    text
}
