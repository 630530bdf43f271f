//! Transactions, nested ones too.

use super::{dice::Dice, kv};

/// A request with at most `depth` levels of transactions in it.
pub fn request(dice: &mut Dice, depth: usize) -> String {
    let mut fields = Vec::new();
    for _ in 0..dice.from(&[0, 0, 1, 1, 2, 3]) {
        fields.push(format!("compare {{ {} }}", compare(dice)));
    }
    for branch in ["success", "failure"] {
        for _ in 0..dice.from(&[0, 1, 1, 2, 3, 5]) {
            fields.push(format!("{branch} {{ {} }}", operation(dice, depth)));
        }
    }
    fields.join(" ")
}

fn compare(dice: &mut Dice) -> String {
    let mut text = dice.range();
    // Few compares of many keys hold.
    if dice.chance(60) {
        text = format!("key: \"{}\"", dice.key());
    }
    text += &dice.maybe(70, |dice| format!("result: {}", dice.from(&[0, 1, 2, 3, 0, 1, 2, 3, 4])));
    let (target, union) = match dice.below(10) {
        0 | 1 => (0, format!("version: {}", dice.below(4))),
        2 => (1, format!("create_revision: {}", dice.revision())),
        3 | 4 => (2, format!("mod_revision: {}", dice.revision())),
        5 | 6 => (3, format!("value: \"{}\"", dice.value())),
        7 => (4, format!("lease: {}", dice.lease())),
        8 => (dice.below(6), String::new()),
        _ => (dice.below(6), format!("version: {}", dice.edge())),
    };
    format!("{text} target: {target} {union}").trim().to_owned()
}

fn operation(dice: &mut Dice, depth: usize) -> String {
    match dice.below(20) {
        0..=7 => format!("request_put {{ {} }}", kv::put(dice)),
        8..=12 => format!("request_range {{ {} }}", range(dice)),
        13..=16 => format!("request_delete_range {{ {} }}", kv::delete_range(dice)),
        17 if dice.chance(20) => String::new(),
        _ if depth > 0 => format!("request_txn {{ {} }}", request(dice, depth - 1)),
        _ => format!("request_put {{ {} }}", kv::put(dice)),
    }
}

/// One bad range fails the whole transaction, so most are good.
fn range(dice: &mut Dice) -> String {
    if dice.chance(40) { kv::range(dice) } else { dice.range() }
}
