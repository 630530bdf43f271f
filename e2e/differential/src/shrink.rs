//! Makes a failing case small: leaves out steps, flags and fields as long as it still fails (delta debugging).
//!
//! Knows nothing of servers: whether a case still fails is for the caller to say.

use std::ops::Range;

use crate::case::{Case, Setup, Step};

/// The smallest case found for which `fails` still holds; it holds for `case`.
pub async fn shrink(case: Case, mut fails: impl AsyncFnMut(&Case) -> bool) -> Case {
    let mut case = shorten(case, &mut fails).await;
    for setup in simpler_setups(&case.setup) {
        let smaller = Case { setup, steps: case.steps.clone() };
        if fails(&smaller).await {
            case = smaller;
        }
    }
    simplify(case, &mut fails).await
}

/// Leaves out runs of steps, long ones first.
async fn shorten(mut case: Case, fails: &mut impl AsyncFnMut(&Case) -> bool) -> Case {
    let mut length = case.steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < case.steps.len() {
            let mut smaller = case.clone();
            smaller.steps.drain(from..(from + length).min(case.steps.len()));
            if fails(&smaller).await {
                case = smaller;
                shorter = true;
            } else {
                from += length;
            }
        }
        // At single steps, once more as long as that helps: what is gone may have been the reason for what is left.
        length = if length == 1 && shorter { 1 } else { length / 2 };
    }
    case
}

fn simpler_setups(setup: &Setup) -> Vec<Setup> {
    let one = Setup { members: 1, ..setup.clone() };
    let plain = Setup { flags: Vec::new(), ..setup.clone() };
    let both = Setup::default();
    [one, plain, both].into_iter().filter(|simpler| simpler != setup).collect()
}

/// Leaves out fields of requests.
async fn simplify(mut case: Case, fails: &mut impl AsyncFnMut(&Case) -> bool) -> Case {
    for n in 0..case.steps.len() {
        let mut field = 0;
        while let Some(body) = body(&mut case.steps[n]) {
            let Some(range) = fields(body).into_iter().nth(field) else { break };
            let mut smaller = case.clone();
            if let Some(body) = self::body(&mut smaller.steps[n]) {
                body.replace_range(range, "");
                *body = body.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if fails(&smaller).await {
                case = smaller;
            } else {
                field += 1;
            }
        }
    }
    case
}

fn body(step: &mut Step) -> Option<&mut String> {
    match step {
        Step::Call(call) | Step::Begin { call, .. } => Some(&mut call.body),
        Step::Send { body, .. } => Some(body),
        _ => None,
    }
}

/// Where each field of a message in text format stands, outer ones before those in them.
fn fields(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut start = None;
    let (mut quoted, mut escaped, mut valued) = (false, false, false);
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => quoted = true,
            '{' => {
                open.push(start.take());
                valued = false;
            }
            '}' => {
                if let Some(Some(begin)) = open.pop() {
                    found.push(begin..at + 1);
                }
            }
            ' ' if valued => {
                found.extend(start.take().map(|begin| begin..at));
                valued = false;
            }
            ' ' => {}
            ':' => valued = false,
            _ if start.is_none() => start = Some(at),
            _ => {}
        }
        // A field's name is over at the colon; the value behind it ends at the next space.
        if start.is_some() && !matches!(c, ' ' | ':') && text[start.unwrap_or(at)..at].contains(':') {
            valued = true;
        }
    }
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(case: &str, fails: impl Fn(&Case) -> bool) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(shrink(case.parse().unwrap(), async |case: &Case| fails(case))).to_string()
    }

    #[test]
    fn only_what_matters_is_left() {
        let lines: String =
            (0..40).map(|n| format!("0 KV/Put key: \"{n}\" value: \"x y\" prev_kv: true\n")).collect();
        let culprits = |case: &Case| {
            let text = case.to_string();
            text.contains("\"7\"") && text.contains("key: \"31\" value: \"x y\"")
        };
        let small = run(&format!("members 3\nflag --a\n{lines}"), culprits);
        assert_eq!(small, "members 1\n0 KV/Put key: \"7\"\n0 KV/Put key: \"31\" value: \"x y\"\n");
    }

    #[test]
    fn fields_are_found_at_every_depth() {
        let text = r#"compare { key: "a b" result: 1 } success { request_put { key: "}" } } limit: -3"#;
        let found: Vec<&str> = fields(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(
            found,
            [
                r#"compare { key: "a b" result: 1 }"#,
                r#"key: "a b""#,
                "result: 1",
                r#"success { request_put { key: "}" } }"#,
                r#"request_put { key: "}" }"#,
                r#"key: "}""#,
                "limit: -3",
            ]
        );
    }
}
