//! Passes the raft crate's log lines to a function of the caller.

use std::{fmt, fmt::Write as _, sync::Arc};

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warning,
    /// Elections, membership and snapshots.
    Info,
}

/// Receives the core's log lines: level and text with the values appended as `key=value`.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Debug and trace lines are not formatted at all: there is one per message.
pub(crate) fn logger(sink: Option<LogSink>) -> Logger {
    match sink {
        Some(sink) => Logger::root(SinkDrain(AssertUnwind(sink)).ignore_res(), slog::o!()),
        None => Logger::root(slog::Discard, slog::o!()),
    }
}

/// slog asks for unwind safety, which a closure cannot promise; a sink that panics ends the process anyway.
struct AssertUnwind(LogSink);

impl std::panic::UnwindSafe for AssertUnwind {}
impl std::panic::RefUnwindSafe for AssertUnwind {}

struct SinkDrain(AssertUnwind);

impl Drain for SinkDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let level = match record.level() {
            Level::Critical | Level::Error => LogLevel::Error,
            Level::Warning => LogLevel::Warning,
            Level::Info => LogLevel::Info,
            Level::Debug | Level::Trace => return Ok(()),
        };
        let mut text = Text(record.msg().to_string());
        // Writing to a string cannot fail; a value that cannot be shown is left out.
        let _ = record.kv().serialize(record, &mut text);
        (self.0.0)(level, &text.0);
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(Level::Info)
    }
}

struct Text(String);

impl Serializer for Text {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
