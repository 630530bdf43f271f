//! Human-readable sizes and bounded text, as they appear in status columns.

/// A byte count in powers of 1000 with one decimal below ten, the way `etcdutl snapshot status` prints
/// TOTAL SIZE, so that both show the same text for the same file.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scaled = u128::from(bytes) * 10;
    // Tenths are kept in integers: rounding must not depend on floating point.
    let mut divisor = 1u128;
    while u128::from(bytes) >= divisor * 1000 {
        divisor *= 1000;
        unit += 1;
    }
    scaled = (scaled + divisor / 2) / divisor;
    if scaled < 100 && unit > 0 {
        format!("{}.{} {}", scaled / 10, scaled % 10, UNITS[unit])
    } else {
        // Halves go to the even neighbour, as printf rounds.
        let (whole, tenths) = (scaled / 10, scaled % 10);
        let up = tenths > 5 || (tenths == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(up), UNITS[unit])
    }
}

/// Cuts `text` to at most `max` characters, marking the cut, so that a long server message cannot make a
/// status update be refused.
pub fn bounded(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_etcdutl_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (24_576, "25 kB"),
            (1_500_000, "1.5 MB"),
            (9_940_000, "9.9 MB"),
            (9_950_000, "10 MB"),
            (24_500, "24 kB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn bounded_text_never_exceeds_its_bound() {
        assert_eq!(bounded("short", 10), "short");
        assert_eq!(bounded("0123456789abc", 10), "012345678…");
    }
}
