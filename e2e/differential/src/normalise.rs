//! What is *not* compared, and why. Everything else is, to the last field and the last letter of an error.
//!
//! | what | why |
//! |---|---|
//! | what comes after a step at which etcd crashed, as it does when a transaction deletes a key and then puts it with `ignore_value` | it does so again at each start |
//! | compaction at the revision of a transaction that deleted and put | etcd loses a key that it deleted and put again, and crashes when it is read; never sent |
//! | an alarm request with an unknown action | etcd crashes; never sent |
//! | `MemberUpdate` of an existing member to something that is no URL | etcd takes it and crashes when it dials; never sent |
//! | `RangeStream` with a sort target but no order | etcd sorts each piece by itself and goes on behind its last key, so keys are lost; never sent |
//! | whether a simple token outlives a restart | depends on what etcd had flushed; users log in again |
//! | member and cluster ids of clusters of three, and of members added later | made from ports and the time; replaced by small numbers |
//! | peer ports in URLs | they must differ on one machine; replaced by names |
//! | ids of leases that the server chose | dice; replaced by one number |
//! | `raft_term` in clusters of three | depends on how many elections it took; single members are compared |
//! | `Status`: sizes, quota in use, raft index and term | other storage, other entries of the server's own |
//! | tokens | dice |
//! | `LeaseTimeToLive.TTL` within a few seconds, and by how much one side was slower | the two sides are asked at different moments |
//! | spaces in texts | Go's protobuf puts one or two between fields, by the build of the binary |
//! | order of alarms and of a lease's keys | etcd keeps them in Go maps |
//! | whether progress is told on a stream with a watch that was cancelled by compaction | etcd keeps counting the watch as one that lags, and stays silent for ever; kvnode answers |
//! | leases that the server named, on keys | `HashKV` covers their ids; never attached |
//! | order of leases | ends that lie together are in no defined order |
//! | order of members | by id, see above |
//! | order of more than 12 keys that are sorted by anything but the key, and which of those that are equal by it a limit keeps | etcd's sort is not stable beyond 12 |
//! | `Hash` once there are passwords, members added later or leases of the server's choice | the hash covers them |
//! | in clusters of three, `HashKV` at a compaction whose hash only kvnode's member kept | one that catches up keeps it in etcd only if it was done with the compaction before |
//! | what a stop within a tenth of a second leaves of a compaction | depends on what etcd had flushed; the driver waits |
//! | snapshot bytes | other page layout; the content is compared, see [`crate::snapshot`] |
//! | how events are spread over responses, their headers, whether progress is told | see [`crate::watch`] |
//! | texts of the transport's own refusals (`grpc: ...` about sizes) past their first words | they name Go's internals |

use std::{collections::HashMap, time::Duration};

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use crate::schema::number;

/// What has another name on the other side.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub ids: HashMap<u64, u64>,
    /// Text and what stands for it.
    pub texts: Vec<(String, String)>,
    pub assigned: Vec<i64>,
    pub members: usize,
    /// Whether something that is made by dice lies in the data.
    pub unlike: bool,
}

/// Stands for the first lease that the server chose; the next are counted up from here.
const ASSIGNED: i64 = i64::MIN;

/// What the two sides' clocks for leases may differ by, beside how much slower one of them was.
const TTL_SLACK: Duration = Duration::from_secs(5);

/// Go's sort is stable up to this length.
const STABLE_SORT_MAX: usize = 12;

/// What keys can be sorted by, as a request writes it by name or by number, and the field that holds it.
const SORT_TARGETS: [(&str, &str, &str); 4] = [
    ("VERSION", "1", "version"),
    ("CREATE", "2", "create_revision"),
    ("MOD", "3", "mod_revision"),
    ("VALUE", "4", "value"),
];

/// Fields that are never compared, by message.
const MASKED: &[(&str, &[&str])] = &[
    ("etcdserverpb.StatusResponse", &["dbSize", "dbSizeInUse", "raftIndex", "raftTerm", "raftAppliedIndex"]),
    ("etcdserverpb.AuthenticateResponse", &["token"]),
];

impl Names {
    /// Another text for what has another name on the other side.
    pub fn text(&self, text: &str) -> String {
        let renamed = self.texts.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        renamed.replace("  ", " ")
    }

    /// Masks and renames, all the way down.
    pub fn message(&self, message: &mut DynamicMessage) {
        let name = message.descriptor().full_name().to_owned();
        for field in MASKED.iter().filter(|(masked, _)| *masked == name).flat_map(|(_, fields)| *fields) {
            message.clear_field_by_name(field);
        }
        if name == "etcdserverpb.ResponseHeader" && self.members > 1 {
            message.clear_field_by_name("raft_term");
        }
        if name == "etcdserverpb.HashResponse" && self.unlike {
            message.clear_field_by_name("hash");
        }
        message.fields_mut().for_each(|(_, value)| self.value(value));
        if let Some(Value::List(keys)) = message.get_field_by_name_mut("keys") {
            keys.sort_by_key(|key| key.as_bytes().cloned());
        }
        for list in ["leases", "members", "alarms", "errors"] {
            if let Some(Value::List(items)) = message.get_field_by_name_mut(list) {
                items.sort_by_key(|item| {
                    (item.as_message().map(crate::schema::print), item.as_str().map(str::to_owned))
                });
            }
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::U64(id) => *id = self.ids.get(id).copied().unwrap_or(*id),
            Value::I64(number) => {
                if let Some(n) = self.assigned.iter().position(|id| id == number) {
                    *number = ASSIGNED + n as i64;
                }
            }
            Value::String(text) => *text = self.text(text),
            Value::Message(message) => self.message(message),
            Value::List(items) => items.iter_mut().for_each(|item| self.value(item)),
            _ => {}
        }
    }
}

/// Takes the hash of a compaction for the one computed on demand, where only our side kept it.
pub fn forget_kept_hash(reference: &DynamicMessage, ours: &mut DynamicMessage) {
    let [from, at] = ["compact_revision", "hash_revision"].map(|field| number(reference, field));
    if from == at && number(ours, "hash_revision") == at && number(ours, "compact_revision") < from {
        for field in ["hash", "compact_revision"] {
            if let Some(value) = reference.get_field_by_name(field) {
                ours.set_field_by_name(field, value.into_owned());
            }
        }
    }
}

/// Whether our side tells a hash that it kept, at a revision for which etcd, not having kept it, has nothing any more.
pub fn only_ours_kept(reference_ended: &str, ours: &[DynamicMessage]) -> bool {
    reference_ended.contains("required revision has been compacted")
        && ours.iter().any(|message| message.descriptor().name() == "HashKVResponse")
}

/// Removes what only seems different between two answers to one request. Until now one side was slower by `lag`.
pub fn reconcile(request: &str, lag: Duration, reference: &mut DynamicMessage, ours: &mut DynamicMessage) {
    if let (Some(Value::I64(left)), Some(Value::I64(right))) =
        (reference.get_field_by_name_mut("TTL"), ours.get_field_by_name_mut("TTL"))
        && left.abs_diff(*right) <= (TTL_SLACK + lag).as_secs()
        && left.signum() == right.signum()
    {
        *right = *left;
    }
    if request.contains("sort_target") {
        let field = sorted_by(request);
        settle_ties(reference, field);
        settle_ties(ours, field);
    }
}

/// The field by which a request sorts keys; none if it contains several ranges that sort by different ones.
fn sorted_by(request: &str) -> Option<&'static str> {
    let named = |target: &str, number: &str| {
        request.contains(&format!("sort_target: {target}"))
            || request.contains(&format!("sort_target: {number}"))
    };
    let mut named = SORT_TARGETS.iter().filter(|(target, number, _)| named(target, number));
    match (named.next(), named.next()) {
        (Some((_, _, field)), None) => Some(field),
        _ => None,
    }
}

/// Brings what a sort left undefined into one form: of a long range the order, and of one that a limit cut off also which
/// of the equal keys it kept.
fn settle_ties(message: &mut DynamicMessage, field: Option<&str>) {
    let many = usize::try_from(number(message, "count")).is_ok_and(|count| count > STABLE_SORT_MAX);
    let cut = many && message.get_field_by_name("more").is_some_and(|more| *more == Value::Bool(true));
    for (descriptor, value) in message.fields_mut() {
        match value {
            Value::List(items) if descriptor.name() == "kvs" && (cut || items.len() > STABLE_SORT_MAX) => {
                if cut {
                    items.iter_mut().filter_map(Value::as_message_mut).for_each(|kv| keep_only(kv, field));
                }
                items.sort_by_key(|item| item.as_message().map(crate::schema::print));
            }
            Value::List(items) => {
                items
                    .iter_mut()
                    .filter_map(Value::as_message_mut)
                    .for_each(|inner| settle_ties(inner, field));
            }
            Value::Message(inner) => settle_ties(inner, field),
            _ => {}
        }
    }
}

fn keep_only(message: &mut DynamicMessage, field: Option<&str>) {
    let others: Vec<_> = message.descriptor().fields().filter(|other| Some(other.name()) != field).collect();
    others.iter().for_each(|other| message.clear_field(other));
}
