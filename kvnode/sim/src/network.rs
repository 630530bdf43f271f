//! Cables and what becomes of messages in them.

use std::collections::BTreeSet;

use kvnode_proto::raftpb::Message;

use crate::random::Random;

/// What travels: a raft message, and the state if it brings a snapshot.
#[derive(Clone, Debug)]
pub struct Packet {
    pub message: Message,
    pub state: Option<Vec<u8>>,
}

/// How the network behaves. Times in microseconds, probabilities in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub drop_permille: u64,
    pub duplicate_permille: u64,
    /// How many messages are held back far longer than the others, and so overtaken.
    pub straggle_permille: u64,
    pub delay_max_us: u64,
    pub straggle_max_us: u64,
}

impl Weather {
    /// A quiet data centre.
    pub const CALM: Weather = Weather {
        drop_permille: 0,
        duplicate_permille: 0,
        straggle_permille: 0,
        delay_max_us: 2_000,
        straggle_max_us: 3_000,
    };

    /// Any kind, from calm to a storm that loses, repeats and reorders a third of everything.
    pub fn draw(random: &mut Random) -> Self {
        Self {
            drop_permille: [0, 10, 50, 200][random.below(4) as usize],
            duplicate_permille: [0, 20, 300][random.below(3) as usize],
            straggle_permille: [0, 20, 300][random.below(3) as usize],
            delay_max_us: [1_000, 10_000, 60_000][random.below(3) as usize],
            straggle_max_us: [50_000, 400_000, 3_000_000][random.below(3) as usize],
        }
    }
}

/// Who can reach whom.
#[derive(Debug)]
pub struct Network {
    pub weather: Weather,
    /// Directions that are cut.
    cut: BTreeSet<(u64, u64)>,
}

impl Network {
    pub fn new(weather: Weather) -> Self {
        Self { weather, cut: BTreeSet::new() }
    }

    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn reaches(&self, from: u64, to: u64) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// When the copies of a message that is sent now arrive: none, one or two delays in microseconds.
    pub fn delays(&self, random: &mut Random) -> Vec<u64> {
        let weather = &self.weather;
        if random.chance(weather.drop_permille) {
            return Vec::new();
        }
        let copies = if random.chance(weather.duplicate_permille) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let late = random.chance(weather.straggle_permille);
                random.between(100, if late { weather.straggle_max_us } else { weather.delay_max_us })
            })
            .collect()
    }
}
