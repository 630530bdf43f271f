//! What a snapshot holds, whatever its pages look like.
//!
//! Compared are keys with their whole history, leases, alarms, roles, and how far compaction went. Not compared: users
//! (their passwords are salted), members (ids, see [`crate::normalise`]), and how far the log was applied.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kvnode_storage::{bolt::Reader, vfs::RealDisk};
use prost_reflect::DynamicMessage;

use crate::wire::Answer;

const BUCKETS: &[&str] = &["key", "lease", "alarm", "authRoles"];
const META: &[&str] = &["scheduledCompactRev", "finishedCompactRev"];

/// One line per item of the compared buckets.
pub fn content(answer: &Answer, messages: &[DynamicMessage], scratch: &Path) -> Result<Vec<String>> {
    if answer.code != tonic::Code::Ok {
        return Ok(vec![format!("{:?}: {}", answer.code, answer.text)]);
    }
    let path = scratch.join("snapshot");
    std::fs::write(&path, bytes_of(messages)?)?;
    let reader = Reader::open(&RealDisk, &path).context("read a snapshot")?;
    let mut lines = Vec::new();
    for bucket in BUCKETS {
        for item in reader.items(bucket) {
            let (key, value) = item?;
            lines.push(format!("{bucket}: {key:?} = {value:?}"));
        }
    }
    for key in META {
        lines.push(format!("meta: {key} = {:?}", reader.get("meta", key.as_bytes())?));
    }
    Ok(lines)
}

/// The file, checked as etcd's client would: sizes that count down to nothing, then a hash.
fn bytes_of(messages: &[DynamicMessage]) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut left = None;
    for message in messages {
        let blob: Bytes = match message.get_field_by_name("blob").as_deref() {
            Some(prost_reflect::Value::Bytes(blob)) => blob.clone(),
            _ => bail!("a snapshot's message has no blob"),
        };
        let remaining = message.get_field_by_name("remaining_bytes").and_then(|value| value.as_u64());
        let remaining = remaining.unwrap_or_default();
        if let Some(left) = left {
            ensure!(
                remaining + blob.len() as u64 == left || remaining == 0,
                "{remaining} bytes after {left}"
            );
        }
        left = Some(remaining);
        file.extend_from_slice(&blob);
    }
    ensure!(file.len() % 512 == 32, "a snapshot of {} bytes has no hash behind it", file.len());
    Ok(file)
}
