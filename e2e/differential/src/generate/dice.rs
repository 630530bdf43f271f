//! Random choices and the words that requests are made of.

use rand::{Rng, SeedableRng, distr::uniform::SampleUniform, rngs::StdRng};

/// Keys, as protobuf's text format writes them between quotes.
const KEYS: [&str; 14] =
    ["a", "aa", "ab", "b", "b/1", "b/2", "b/3", "c", "d", "k0", "k1", "k2", "a\\000", "\\377"];

/// Numbers at which things tend to break.
const EDGES: [i64; 8] = [i64::MIN, -2, -1, 0, 1, 1 << 31, 1 << 53, i64::MAX];

/// A source of choices.
pub struct Dice {
    rng: StdRng,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    /// One of `0..end`.
    pub fn below<T: SampleUniform + PartialOrd + Default>(&mut self, end: T) -> T {
        self.rng.random_range(T::default()..end)
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub fn from<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    /// ` text` in so many of a hundred cases, else nothing.
    pub fn maybe(&mut self, percent: u32, text: impl FnOnce(&mut Self) -> String) -> String {
        if self.chance(percent) { format!(" {}", text(self)) } else { String::new() }
    }

    /// ` name: true` in so many of a hundred cases.
    pub fn flag(&mut self, percent: u32, name: &str) -> String {
        self.maybe(percent, |_| format!("{name}: true"))
    }

    /// One of few keys; rarely none at all or the smallest there is.
    pub fn key(&mut self) -> &'static str {
        match self.below(100) {
            0 => "",
            1 => "\\000",
            _ => self.from(&KEYS),
        }
    }

    /// `key` and mostly some `range_end`.
    pub fn range(&mut self) -> String {
        let key = self.key();
        let end = match self.below(10) {
            0..=3 => return format!("key: \"{key}\""),
            4 | 5 => return String::from("key: \"\\000\" range_end: \"\\000\""),
            6 => "\\000",
            7 => return self.prefix(),
            _ => self.key(),
        };
        format!("key: \"{key}\" range_end: \"{end}\"")
    }

    fn prefix(&mut self) -> String {
        let (from, to) = self.from(&[("a", "b"), ("b/", "b0"), ("k", "l"), ("b", "c")]);
        format!("key: \"{from}\" range_end: \"{to}\"")
    }

    /// A revision: of the recent past, near the edges of what exists, or nonsense.
    pub fn revision(&mut self) -> String {
        match self.below(20) {
            0..=8 => format!("$now-{}", self.below(30)),
            9 => "$now".to_owned(),
            10 => format!("$now+{}", self.from(&[1, 2, 1000])),
            11..=13 => "$compacted".to_owned(),
            14 | 15 => format!("$compacted{}", self.from(&["-1", "+1", "+2"])),
            16 => "1".to_owned(),
            _ => self.edge(),
        }
    }

    pub fn edge(&mut self) -> String {
        self.from(&EDGES).to_string()
    }

    /// One of few leases; rarely one that cannot be.
    pub fn lease(&mut self) -> String {
        match self.below(30) {
            0 => self.edge(),
            1 => "$assigned".to_owned(),
            _ => (1 + self.below(6)).to_string(),
        }
    }

    /// One of few leases, but none that the server named: keys keep the id of theirs, and hashes cover it.
    pub fn lease_of_key(&mut self) -> String {
        match self.below(30) {
            0 => self.edge(),
            _ => (1 + self.below(6)).to_string(),
        }
    }

    /// A value, as protobuf's text format writes it between quotes.
    pub fn value(&mut self) -> String {
        match self.below(40) {
            0 => self.from(&["$x3000", "$x3000", "$x3000", "$x1600000", "$x2200000"]).to_owned(),
            1 => String::new(),
            2 => "\\000\\377".to_owned(),
            _ => format!("v{}", self.below(100)),
        }
    }
}
