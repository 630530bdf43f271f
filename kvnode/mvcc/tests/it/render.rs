//! How answers look in scripts.

use std::fmt::Write;

use kvnode_mvcc::{
    ApplyError, ChangeKind, ConfChangeOutcome, OpResult, RangeResult, Record, Response, Revision, TxnResult,
    auth::AuthResponse,
    watch::{AnswerKind, Fragment, WatchAnswer, WatchEvent},
};

pub fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    String::from_utf8_lossy(bytes).replace('\0', "\\0")
}

pub fn record(record: &Record) -> String {
    let kv = record.to_key_value();
    let mut line = format!(
        "{}={} create {} mod {} version {}",
        text(&kv.key),
        text(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    );
    if kv.lease != 0 {
        write!(line, " lease {}", kv.lease).unwrap();
    }
    line
}

fn previous(records: &[Record]) -> String {
    records.iter().map(|kv| format!("; was {}", record(kv))).collect()
}

pub fn range(result: &RangeResult) -> String {
    let more = if result.more { ", more" } else { "" };
    let kvs: String = result.kvs.iter().map(|kv| format!("\n  {}", record(kv))).collect();
    format!("@{} count {}{more}{kvs}", result.revision, result.count)
}

pub fn txn(result: &TxnResult, indent: usize) -> String {
    let header = result.revision.map_or_else(String::new, |revision| format!("@{revision} "));
    let mut out = format!("{header}{}", if result.succeeded { "then" } else { "else" });
    for op in &result.responses {
        let line = match op {
            OpResult::Range(result) => format!("range {}", range(result)),
            OpResult::Put(result) => {
                format!("put @{}{}", result.revision, previous(result.prev_kv.as_slice()))
            }
            OpResult::DeleteRange(result) => {
                format!("del @{} deleted {}{}", result.revision, result.deleted, previous(&result.prev_kvs))
            }
            OpResult::Txn(result) => format!("txn {}", txn(result, indent + 2)),
            OpResult::Empty => "nothing".to_owned(),
        };
        write!(out, "\n{:indent$}{}", "", line.replace("\n  ", &format!("\n{:indent$}  ", ""))).unwrap();
    }
    out
}

pub fn applied(result: Result<Response, ApplyError>, revision: Revision) -> String {
    match result {
        Err(error) => format!("error: {error}"),
        Ok(Response::Range(result)) => range(&result),
        Ok(Response::Put(result)) => format!("@{}{}", result.revision, previous(result.prev_kv.as_slice())),
        Ok(Response::DeleteRange(result)) => {
            format!("@{} deleted {}{}", result.revision, result.deleted, previous(&result.prev_kvs))
        }
        Ok(Response::Txn(result)) => txn(&result, 2),
        Ok(Response::LeaseGrant(lease)) => {
            format!("@{revision} lease {} ttl {}", lease.id.0, lease.ttl_seconds)
        }
        Ok(Response::Alarm(alarms)) => {
            let alarms: Vec<_> = alarms
                .iter()
                .map(|alarm| format!("{:x} {}", alarm.member_id, alarm.alarm().as_str_name()))
                .collect();
            format!("alarms: {}", alarms.join(", "))
        }
        Ok(Response::Auth(AuthResponse::Done)) => "ok".to_owned(),
        Ok(Response::Auth(response)) => format!("{response:?}"),
        Ok(_) => format!("@{revision} ok"),
    }
}

pub fn conf_change(outcome: &ConfChangeOutcome) -> String {
    match outcome {
        ConfChangeOutcome::Added(member) => format!("added {}", member.id),
        ConfChangeOutcome::Promoted(id) => format!("promoted {id}"),
        ConfChangeOutcome::Removed(id) => format!("removed {id}"),
        ConfChangeOutcome::Updated(id) => format!("updated {id}"),
    }
}

pub fn watch(answer: &WatchAnswer) -> String {
    let fragment = if answer.fragment == Fragment::More { ", more follows" } else { "" };
    let kind = match &answer.kind {
        AnswerKind::Created => "created".to_owned(),
        AnswerKind::Refused(reason) => format!("refused: {reason}"),
        AnswerKind::Canceled => "cancelled".to_owned(),
        AnswerKind::Compacted(at) => format!("cancelled, compacted at {at}"),
        AnswerKind::Events if answer.events.is_empty() => "progress".to_owned(),
        AnswerKind::Events => "events".to_owned(),
    };
    let event = |event: &WatchEvent| {
        let prev: String = event.prev_kv.iter().map(|kv| format!("; was {}", record(kv))).collect();
        let kind = if event.kind == ChangeKind::Put { "put" } else { "delete" };
        format!("\n    {kind} {}{prev}", record(&event.kv))
    };
    let events: String = answer.events.iter().map(event).collect();
    format!("{} @{} {kind}{fragment}{events}", answer.watch_id, answer.revision)
}
