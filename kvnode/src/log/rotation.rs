//! A log file that is set aside when it has grown: `name-<time>.ext`, of which so many are kept (etcd:
//! `--enable-log-rotation`, which names and keeps files as lumberjack does).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value};

use crate::flags::config::Rotation;

/// The time in the name of a file that was set aside.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// A file that never grows beyond its limit, but for a line that is longer.
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Rotation,
}

impl RotatedFile {
    /// Goes on with the file of that name. Makes its directory, too, as lumberjack does; a plain log file needs one.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, rotation })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let zone = if self.rotation.local_time { TimeZone::system() } else { TimeZone::UTC };
        let time = Timestamp::now().to_zoned(zone).strftime(TIME).to_string();
        let (stem, extension) = self.name();
        fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{time}{extension}")))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.bytes = 0;
        self.forget()
    }

    /// The file's name before and from its last dot.
    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }

    /// Removes files set aside that are too many or too old.
    fn forget(&self) -> io::Result<()> {
        let mut aside = self.set_aside()?;
        // Their names are their times: newest first.
        aside.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = self.rotation.max_age.and_then(|age| SystemTime::now().checked_sub(age));
        for (number, path) in aside.iter().enumerate() {
            let too_many = self.rotation.max_backups.is_some_and(|most| number >= most);
            let changed = fs::metadata(path).and_then(|meta| meta.modified());
            let too_old = oldest.is_some_and(|oldest| changed.is_ok_and(|changed| changed < oldest));
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn set_aside(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, extension) = self.name();
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let ours = |name: &str| {
            let time = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?;
            jiff::civil::DateTime::strptime(TIME, time).ok()
        };
        let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.file_name().to_str().and_then(ours).is_some())
            .map(|entry| entry.path())
            .collect())
    }
}

impl Write for RotatedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.rotation.max_bytes {
            // A file that cannot be set aside goes on growing: better than losing lines.
            let _ = self.rotate();
        }
        let written = self.file.write(line)?;
        self.bytes += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads `--log-rotation-config-json`; zero is lumberjack's default, which is 100 MiB and no limit else. As in Go, keys
/// differ in case as they like, and null says nothing.
pub(crate) fn read(text: &str) -> Result<Rotation, String> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Json {
        maxsize: u64,
        maxage: u64,
        maxbackups: usize,
        localtime: bool,
        compress: bool,
    }
    let fault = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => format!("invalid log rotation config: {error}"),
        _ => format!("improperly formatted log rotation config: {error}"),
    };
    let given: Option<Map<String, Value>> = serde_json::from_str(text).map_err(fault)?;
    let said = given.into_iter().flatten().filter(|(_, value)| !value.is_null());
    let said = said.map(|(key, value)| (key.to_lowercase(), value)).collect();
    let json: Json = serde_json::from_value(Value::Object(said)).map_err(fault)?;
    if json.compress {
        return Err("invalid log rotation config: files are not compressed; set compress to false".to_owned());
    }
    let megabytes = if json.maxsize == 0 { 100 } else { json.maxsize };
    Ok(Rotation {
        max_bytes: megabytes.saturating_mul(1024 * 1024),
        max_age: (json.maxage > 0).then(|| Duration::from_secs(json.maxage.saturating_mul(24 * 3600))),
        max_backups: (json.maxbackups > 0).then_some(json.maxbackups),
        local_time: json.localtime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.log");
        fs::write(dir.path().join("kv-notes.log"), "not ours").unwrap();
        let rotation = Rotation { max_bytes: 10, max_backups: Some(2), ..read("{}").unwrap() };
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        for number in 0..5 {
            // Names have milliseconds.
            while file.set_aside().unwrap().iter().any(|name| name == &aside_now(&path)) {}
            file.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 4\n");
        let mut aside = file.set_aside().unwrap();
        aside.sort();
        let lines: Vec<String> = aside.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(lines, ["line 2\n", "line 3\n"]);
        assert!(dir.path().join("kv-notes.log").exists());
        // A restart goes on where it was.
        let mut file = RotatedFile::open(&path, rotation).unwrap();
        file.write_all(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 4\nx\n");
    }

    #[test]
    fn the_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/log/kv.log");
        let mut file = RotatedFile::open(&path, read("{}").unwrap()).unwrap();
        file.write_all(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
    }

    fn aside_now(path: &Path) -> PathBuf {
        let time = Timestamp::now().to_zoned(TimeZone::UTC).strftime(TIME).to_string();
        path.with_file_name(format!("kv-{time}.log"))
    }

    #[test]
    fn limits_are_read_as_lumberjacks() {
        let rotation = read(r#"{"maxsize":1,"maxage":2,"maxbackups":3,"localtime":true}"#).unwrap();
        assert_eq!(rotation.max_bytes, 1 << 20);
        assert_eq!((rotation.max_age, rotation.max_backups), (Some(Duration::from_secs(172_800)), Some(3)));
        assert_eq!(read(r#"{"MaxSize":1,"MAXAGE":2,"maxBackups":3,"LocalTime":true}"#), Ok(rotation));
        assert_eq!(read("{}").unwrap().max_bytes, 100 << 20);
        assert_eq!(read(r#"{"maxsize":null,"filename":"x"}"#), read("{}"));
        assert!(read("{").unwrap_err().starts_with("improperly formatted"));
        assert!(read(r#"{"maxsize":"x"}"#).unwrap_err().starts_with("invalid log rotation config"));
        assert!(read(r#"{"compress":true}"#).unwrap_err().contains("compress"));
    }
}
