//! Log lines as etcd's zap writes them: one JSON object a line, `level`, `ts`, `caller`, `msg`, then the fields.
//!
//! Tools and tests read etcd's log by these keys and by its texts, so a text that etcd has is used for the same event.
//! Events of libraries are written from `warn` up only.

pub(crate) mod rotation;

use std::{
    fmt::{Debug, Write as _},
    fs::OpenOptions,
    io::{self, Write},
};

use parking_lot::Mutex;
use serde_json::Value;
use thiserror::Error;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

use rotation::RotatedFile;

use crate::flags::config::{LogConfig, LogFormat, LogLevel};

/// Why logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("--log-outputs: cannot open {path}: {source}")]
    Open { path: String, source: io::Error },
    #[error("logging was already set up in this process")]
    Twice,
}

/// Sends all events of this process where `--log-outputs` says.
///
/// # Errors
/// A file that cannot be opened for appending, or a second call.
pub fn install(config: &LogConfig) -> Result<(), LogError> {
    let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
    for name in &config.outputs {
        let open = |source| LogError::Open { path: name.clone(), source };
        outputs.push(match name.as_str() {
            "default" | "stderr" | "systemd/journal" => Box::new(io::stderr()),
            "stdout" => Box::new(io::stdout()),
            path => match config.rotation {
                Some(rotation) => Box::new(RotatedFile::open(path.as_ref(), rotation).map_err(open)?),
                None => Box::new(OpenOptions::new().create(true).append(true).open(path).map_err(open)?),
            },
        });
    }
    let lines = Lines { level: filter(config.level), format: config.format, outputs: Mutex::new(outputs) };
    tracing::subscriber::set_global_default(Registry::default().with(lines)).map_err(|_| LogError::Twice)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

struct Lines {
    level: LevelFilter,
    format: LogFormat,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let least = if metadata.target().starts_with("kvnode") { self.level } else { LevelFilter::WARN };
        *metadata.level() <= least.min(self.level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let line = match self.format {
            LogFormat::Json => json(event.metadata(), &now, &fields),
            LogFormat::Console => console(event.metadata(), &now, &fields),
        };
        for output in self.outputs.lock().iter_mut() {
            // There is nowhere left to report that a log line was lost.
            let _ = output.write_all(line.as_bytes());
        }
    }
}

/// The fields of one event, in the order given.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// The file in its directory and the line, as zap's short caller.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or(metadata.target());
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[start..], metadata.line().unwrap_or(0))
}

fn json(metadata: &Metadata<'_>, now: &str, fields: &Fields) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let mut line = format!(
        "{{\"level\":\"{}\",\"ts\":\"{now}\",\"caller\":{},\"msg\":{}",
        level_name(*metadata.level()),
        text(&caller(metadata)),
        text(&fields.message),
    );
    for (name, value) in &fields.others {
        let _ = write!(line, ",{}:{value}", text(name));
    }
    line.push_str("}\n");
    line
}

fn console(metadata: &Metadata<'_>, now: &str, fields: &Fields) -> String {
    let mut line =
        format!("{now}\t{}\t{}\t{}", level_name(*metadata.level()), caller(metadata), fields.message);
    if !fields.others.is_empty() {
        let object: serde_json::Map<String, Value> =
            fields.others.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let _ = write!(line, "\t{}", Value::Object(object));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat, events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let lines = Lines { level: filter(level), format, outputs: Mutex::new(vec![Box::new(kept.clone())]) };
        tracing::subscriber::with_default(Registry::default().with(lines), events);
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_line_is_an_object_with_zaps_keys() {
        let text = logged(LogLevel::Info, LogFormat::Json, || {
            tracing::info!("local-member-id" = "8e9e05c52164694d", took_ms = 3, "ready \"now\"");
            tracing::debug!("unseen");
            tracing::info!(target: "h2::codec", "a library's chatter");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Map<String, Value> = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "ready \"now\"");
        assert_eq!(line["local-member-id"], "8e9e05c52164694d");
        assert_eq!(line["took_ms"], 3);
        assert!(line["caller"].as_str().unwrap().starts_with("src/log.rs:"), "{text}");
        assert!(line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let order = ["\"level\"", "\"ts\"", "\"caller\"", "\"msg\"", "\"local-member-id\""]
            .map(|key| text.find(key).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn the_level_is_kept_to() {
        let text = logged(LogLevel::Error, LogFormat::Console, || {
            tracing::warn!("unseen");
            tracing::error!(code = 7, "seen");
        });
        assert!(text.ends_with("\tseen\t{\"code\":7}\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
