//! Reading single flag values the way Go's `flag` package reads them. Pure.

use std::time::Duration;

/// Reads a Go duration: decimal numbers with units, such as `300ms`, `1.5h` or `2h45m`; `0` needs no unit.
/// A negative duration reads as zero, since every flag that takes one treats both alike.
pub fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("time: invalid duration {text:?}");
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..digits].parse().map_err(|_| error())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_seconds = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        rest = &rest[letters..];
        let part = Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| error())?;
        total = total.checked_add(part).ok_or_else(error)?;
    }
    Ok(if negative { Duration::ZERO } else { total })
}

/// Reads a Go boolean.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error, use true or false".to_owned()),
    }
}

/// Reads a whole number that fits `T`.
pub fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            "value out of range".to_owned()
        }
        _ => "parse error, use a whole number".to_owned(),
    })
}

/// Reads a comma-separated list; an empty text is an empty list.
pub fn strings(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Reads one word of a closed list.
pub fn one_of(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) { Ok(()) } else { Err(format!("use one of {}", words.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (text, milliseconds) in
            [("0", 0), ("100ms", 100), ("1m", 60_000), ("1.5s", 1_500), ("1h2m3s", 3_723_000), ("-1s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("10us"), Ok(Duration::from_micros(10)));
        for text in ["", "5", "ms", "1x", "1s5", "--1s", "1e400h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_say_what_is_wrong() {
        assert_eq!(number::<u16>("70000"), Err("value out of range".into()));
        assert_eq!(number::<u16>("x"), Err("parse error, use a whole number".into()));
        assert_eq!(number::<i64>("-1"), Ok(-1));
    }
}
