//! Requests to the KV service, but for transactions.

use super::dice::Dice;

/// Method and request.
pub fn request(dice: &mut Dice) -> (&'static str, String) {
    match dice.below(100) {
        0..=44 => ("KV/Put", put(dice)),
        45..=69 => ("KV/Range", range(dice)),
        70..=75 => ("KV/RangeStream", stream(dice)),
        76..=91 => ("KV/DeleteRange", delete_range(dice)),
        92..=94 => ("Maintenance/HashKV", format!("revision: {}", dice.revision())),
        _ => ("KV/Compact", compaction(dice)),
    }
}

pub fn put(dice: &mut Dice) -> String {
    let mut text = format!("key: \"{}\"", dice.key());
    text += &dice.maybe(90, |dice| format!("value: \"{}\"", dice.value()));
    text += &dice.maybe(25, |dice| format!("lease: {}", dice.lease_of_key()));
    text += &dice.flag(25, "prev_kv");
    text += &dice.flag(6, "ignore_value");
    text += &dice.flag(6, "ignore_lease");
    // What goes with the flag, and is rarely drawn with it.
    if text.contains("ignore_value") && dice.chance(80) {
        text = without(&text, "value: \"");
    }
    if text.contains("ignore_lease") && dice.chance(80) {
        text = without(&text, "lease: ");
    }
    text
}

/// The text without the field that begins with ` name`.
fn without(text: &str, name: &str) -> String {
    let fields: Vec<&str> = text.split(' ').collect();
    let mut kept = Vec::new();
    let mut skip = false;
    for field in fields {
        if skip {
            skip = false;
        } else if name.starts_with(field) && field.ends_with(':') {
            skip = true;
        } else {
            kept.push(field);
        }
    }
    kept.join(" ")
}

pub fn range(dice: &mut Dice) -> String {
    let mut text = dice.range();
    text += &dice.maybe(40, |dice| format!("revision: {}", dice.revision()));
    text += &dice.maybe(35, |dice| {
        let limit = if dice.chance(85) { (1 + dice.below(6)).to_string() } else { dice.edge() };
        format!("limit: {limit}")
    });
    text += &dice.maybe(20, |dice| format!("sort_order: {}", dice.from(&[0, 1, 2, 1, 2, 1, 2, 3, -1])));
    text +=
        &dice.maybe(20, |dice| format!("sort_target: {}", dice.from(&[0, 1, 2, 3, 4, 1, 2, 3, 4, 5, -1])));
    text += &dice.flag(25, "serializable");
    text += &dice.flag(15, "keys_only");
    text += &dice.flag(12, "count_only");
    for filter in ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"] {
        text += &dice.maybe(5, |dice| format!("{filter}: {}", dice.revision()));
    }
    text
}

/// A sort target always with an order; see the table in `normalise`.
fn stream(dice: &mut Dice) -> String {
    let text = range(dice).replace("sort_order: 0", "sort_order: 1");
    if text.contains("sort_target") && !text.contains("sort_order") { text + " sort_order: 1" } else { text }
}

pub fn delete_range(dice: &mut Dice) -> String {
    // Not everything at once every time, or nothing would ever be there.
    let range = if dice.chance(70) { format!("key: \"{}\"", dice.key()) } else { dice.range() };
    range + &dice.flag(40, "prev_kv")
}

fn compaction(dice: &mut Dice) -> String {
    let revision = if dice.chance(60) { format!("$now-{}", dice.below(12)) } else { dice.revision() };
    format!("revision: {revision}") + &dice.flag(50, "physical")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_can_be_left_out() {
        assert_eq!(without("key: \"a\" value: \"v\" prev_kv: true", "value: \""), "key: \"a\" prev_kv: true");
    }
}
