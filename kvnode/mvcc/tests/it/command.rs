//! The commands of scripts.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kvnode_mvcc::{
    BUCKETS, CompactionHashes, Config, MemberId, PastCompaction, RaftIndex, Readiness, Revision,
    ScrubProgress, Store, Term, View, is_read_only,
    membership::{
        Member,
        json::{ChangeContext, encode_context, encode_member},
    },
    validate,
    watch::{WatchHub, WatchLimits, WatchStream},
};
use kvnode_proto::{
    authpb::{Permission, UserAddOptions, permission},
    etcdserverpb::{
        AlarmRequest, AlarmType, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest,
        AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
        AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
        AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest,
        AuthUserListRequest, AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest,
        InternalAuthenticateRequest, InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest,
        LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, RequestOp,
        TxnRequest, WatchCreateRequest,
        alarm_request::AlarmAction,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        watch_create_request::FilterType,
    },
    membershippb::{
        Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
    },
    raftpb::{ConfChange, ConfChangeType, ConfState},
};

use crate::render;

/// A store and what a script did to it.
pub struct World {
    store: Store,
    config: Config,
    header: RequestHeader,
    hub: WatchHub,
    streams: BTreeMap<String, WatchStream>,
    hashes: CompactionHashes,
}

impl Default for World {
    fn default() -> Self {
        let config = Config::default();
        let store = Store::new(config);
        let limits = WatchLimits { batch_revisions: 3, fragment_bytes: 150, ..WatchLimits::default() };
        let hub = WatchHub::new(store.view(), limits);
        Self {
            store,
            config,
            header: RequestHeader::default(),
            hub,
            streams: BTreeMap::new(),
            hashes: CompactionHashes::default(),
        }
    }
}

/// Words of a command: plain ones in order, `name=value` by name, and flags.
pub struct Words<'a> {
    plain: Vec<&'a str>,
    named: HashMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Self {
        let (named, plain) = line.split_whitespace().partition::<Vec<_>, _>(|word| word.contains('='));
        let named = named.into_iter().filter_map(|word| word.split_once('=')).collect();
        Self { plain, named }
    }

    pub fn get(&self, at: usize) -> &'a str {
        self.plain.get(at).copied().unwrap_or_default()
    }

    pub fn bytes(&self, at: usize) -> Bytes {
        bytes(self.get(at))
    }

    pub fn number(&self, at: usize) -> i64 {
        self.get(at)
            .parse()
            .unwrap_or_else(|_| panic!("not a number: {:?} in {:?}", self.get(at), self.plain))
    }

    pub fn named(&self, name: &str) -> i64 {
        self.named.get(name).map_or(0, |value| value.parse().unwrap())
    }

    pub fn text(&self, name: &str) -> &'a str {
        self.named.get(name).copied().unwrap_or_default()
    }

    pub fn has(&self, flag: &str) -> bool {
        self.plain.contains(&flag)
    }
}

/// `""` is empty, `\0` a zero byte, `x*100` a hundred times x.
pub fn bytes(word: &str) -> Bytes {
    if let Some((pattern, times)) = word.split_once('*') {
        return pattern.repeat(times.parse().unwrap()).into();
    }
    word.replace("\"\"", "").replace("\\0", "\0").into()
}

impl World {
    /// Runs one command and returns what it prints.
    pub fn run(&mut self, command: &[&str]) -> String {
        let words = Words::new(command[0]);
        let printed = match words.get(0) {
            "put" | "del" | "txn" => self.propose(parse_op(command)),
            "range" => self.range(&words),
            "compact" => self.apply(&InternalRaftRequest {
                compaction: Some(CompactionRequest { revision: words.number(1), physical: false }),
                ..request()
            }),
            "scrub" => self.scrub(&words),
            "grant" | "revoke" | "checkpoint" | "lease" => self.lease(&words),
            "alarm" | "config" => self.alarm(&words),
            "member" | "members" | "ready" | "version" | "downgrade" => self.member(&words),
            "auth" | "user" | "role" => self.auth(&words),
            "watch" | "cancel" | "progress" | "tick" | "read" => self.watch(&words),
            "as" => {
                self.header.username = words.get(1).to_owned();
                self.header.auth_revision = words.number(2).cast_unsigned();
                return String::new();
            }
            "hash" | "rows" | "restore" | "size" | "leaves" => self.files(&words),
            other => panic!("unknown command {other:?}"),
        };
        if printed.is_empty() { printed } else { format!("{printed}\n") }
    }

    fn next(&self) -> (RaftIndex, Term) {
        (RaftIndex(self.store.applied().0.0 + 1), Term(1))
    }

    fn apply(&mut self, request: &InternalRaftRequest) -> String {
        let (index, term) = self.next();
        let request = InternalRaftRequest { header: Some(self.header.clone()), ..request.clone() };
        let result = self.store.apply(index, term, &request);
        let batch = self.store.publish();
        batch.compactions.iter().map(PastCompaction::hash).for_each(|hash| self.hashes.remember(hash));
        self.hub.publish(&batch);
        let changes = batch.auth_changes;
        let changes: String = changes.iter().map(|change| format!("; {change:?}")).collect();
        format!("{}{changes}", render::applied(result, self.store.revision()))
    }

    /// Checks as the API does, then applies.
    fn propose(&mut self, op: RequestOp) -> String {
        let checked = match &op.request {
            Some(Request::RequestPut(put)) => validate::put(put),
            Some(Request::RequestDeleteRange(delete)) => validate::delete_range(delete),
            Some(Request::RequestTxn(txn)) => validate::txn(txn, 8),
            _ => Ok(()),
        };
        if let Err(error) = checked {
            return format!("refused: {error}");
        }
        match op.request {
            Some(Request::RequestPut(put)) => {
                self.apply(&InternalRaftRequest { put: Some(put), ..request() })
            }
            Some(Request::RequestDeleteRange(delete)) => {
                self.apply(&InternalRaftRequest { delete_range: Some(delete), ..request() })
            }
            Some(Request::RequestTxn(txn)) if is_read_only(&txn) => match self.store.view().txn(&txn) {
                Ok(result) => format!("read only {}", render::txn(&result, 2)),
                Err(error) => format!("error: {error}"),
            },
            Some(Request::RequestTxn(txn)) => {
                self.apply(&InternalRaftRequest { txn: Some(txn), ..request() })
            }
            _ => unreachable!("only these are parsed"),
        }
    }

    fn range(&mut self, words: &Words<'_>) -> String {
        let request = parse_range(words);
        if let Err(error) = validate::range(&request) {
            return format!("refused: {error}");
        }
        match self.store.view().range(&request) {
            Ok(result) => render::range(&result),
            Err(error) => format!("error: {error}"),
        }
    }

    fn scrub(&mut self, words: &Words<'_>) -> String {
        let mut steps = 1;
        while self.store.scrub(usize::try_from(words.named("budget").max(1)).unwrap()) == ScrubProgress::More
        {
            steps += 1;
        }
        format!("done after {}", if steps > 1 { "several steps" } else { "one step" })
    }

    fn lease(&mut self, words: &Words<'_>) -> String {
        let id = words.number(1);
        let request = match words.get(0) {
            "grant" => InternalRaftRequest {
                lease_grant: Some(LeaseGrantRequest { id, ttl: words.number(2) }),
                ..request()
            },
            "revoke" => InternalRaftRequest { lease_revoke: Some(LeaseRevokeRequest { id }), ..request() },
            "checkpoint" => InternalRaftRequest {
                lease_checkpoint: Some(LeaseCheckpointRequest {
                    checkpoints: vec![LeaseCheckpoint { id, remaining_ttl: words.number(2) }],
                }),
                ..request()
            },
            _ => {
                let view = self.store.view();
                let keys: Vec<_> =
                    view.lease_keys(kvnode_mvcc::LeaseId(id)).iter().map(|key| render::text(key)).collect();
                return match view.lease(kvnode_mvcc::LeaseId(id)) {
                    None => "no such lease".to_owned(),
                    Some(lease) => format!(
                        "ttl {} remaining {} keys {}",
                        lease.ttl_seconds,
                        lease.remaining_ttl_seconds,
                        keys.join(" ")
                    ),
                };
            }
        };
        self.apply(&request)
    }

    /// Every stream is opened by its first command.
    fn watch(&mut self, words: &Words<'_>) -> String {
        let hub = &mut self.hub;
        let stream = self.streams.entry(words.get(1).to_owned()).or_insert_with(|| WatchStream::open(hub));
        match words.get(0) {
            "watch" => {
                let filter = |word, filter: FilterType| words.has(word).then_some(filter as i32);
                let request = WatchCreateRequest {
                    key: words.bytes(2),
                    range_end: bytes(words.text("end")),
                    start_revision: words.named("start"),
                    progress_notify: words.has("progress_notify"),
                    filters: [filter("noput", FilterType::Noput), filter("nodelete", FilterType::Nodelete)]
                        .into_iter()
                        .flatten()
                        .collect(),
                    prev_kv: words.has("prev"),
                    watch_id: words.named("id"),
                    fragment: words.has("fragment"),
                };
                stream.create(hub, &request, Ok(()));
            }
            "cancel" => stream.cancel(hub, words.number(2)),
            "progress" => stream.request_progress(hub),
            "tick" => stream.tick(hub),
            _ => return Self::read(stream, hub),
        }
        String::new()
    }

    /// Reads what a stream sends until it is up to date.
    fn read(stream: &mut WatchStream, hub: &mut WatchHub) -> String {
        let mut lines = Vec::new();
        loop {
            stream.collect(hub);
            stream.process();
            while let Some(answer) = stream.next_answer() {
                lines.push(render::watch(&answer));
            }
            if !stream.is_behind() {
                break;
            }
        }
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
    }

    fn alarm(&mut self, words: &Words<'_>) -> String {
        if words.get(0) == "config" {
            self.config.quota_bytes = u64::try_from(words.named("quota")).ok().filter(|quota| *quota > 0);
            return self.restore();
        }
        let action = match words.get(1) {
            "activate" => AlarmAction::Activate,
            "deactivate" => AlarmAction::Deactivate,
            _ => AlarmAction::Get,
        };
        let alarm = AlarmType::from_str_name(words.get(2)).unwrap_or_default();
        self.apply(&InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: action as i32,
                member_id: words.named("member").cast_unsigned(),
                alarm: alarm as i32,
            }),
            ..request()
        })
    }

    fn auth(&mut self, words: &Words<'_>) -> String {
        let (first, second) = (words.bytes(2), words.bytes(3));
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let (name, role) = (text(&first), text(&second));
        let hashed_password = words.text("pw").to_owned();
        let mut r = request();
        match (words.get(0), words.get(1)) {
            ("auth", "enable") => r.auth_enable = Some(AuthEnableRequest {}),
            ("auth", "disable") => r.auth_disable = Some(AuthDisableRequest {}),
            ("auth", "status") => r.auth_status = Some(AuthStatusRequest {}),
            ("auth", _) => {
                let simple_token = "letters".to_owned();
                r.authenticate =
                    Some(InternalAuthenticateRequest { name, simple_token, ..Default::default() });
            }
            ("user", "add") => {
                let options = words.has("nopassword").then_some(UserAddOptions { no_password: true });
                r.auth_user_add = Some(AuthUserAddRequest {
                    name,
                    hashed_password,
                    options,
                    ..AuthUserAddRequest::default()
                });
            }
            ("user", "delete") => r.auth_user_delete = Some(AuthUserDeleteRequest { name }),
            ("user", "passwd") => {
                let change = AuthUserChangePasswordRequest { name, hashed_password, ..Default::default() };
                r.auth_user_change_password = Some(change);
            }
            ("user", "grant") => r.auth_user_grant_role = Some(AuthUserGrantRoleRequest { user: name, role }),
            ("user", "revoke") => r.auth_user_revoke_role = Some(AuthUserRevokeRoleRequest { name, role }),
            ("user", "get") => r.auth_user_get = Some(AuthUserGetRequest { name }),
            ("user", _) => r.auth_user_list = Some(AuthUserListRequest {}),
            ("role", "add") => r.auth_role_add = Some(AuthRoleAddRequest { name }),
            ("role", "delete") => r.auth_role_delete = Some(AuthRoleDeleteRequest { role: name }),
            ("role", "get") => r.auth_role_get = Some(AuthRoleGetRequest { role: name }),
            ("role", "grant") => {
                let kind = match words.get(3) {
                    "read" => Some(permission::Type::Read),
                    "write" => Some(permission::Type::Write),
                    "readwrite" => Some(permission::Type::Readwrite),
                    _ => None,
                };
                let perm = kind.map(|kind| Permission {
                    perm_type: kind as i32,
                    key: words.bytes(4),
                    range_end: bytes(words.text("end")),
                });
                r.auth_role_grant_permission = Some(AuthRoleGrantPermissionRequest { name, perm });
            }
            ("role", "revoke") => {
                let range_end = bytes(words.text("end"));
                let revoke = AuthRoleRevokePermissionRequest { role: name, key: second, range_end };
                r.auth_role_revoke_permission = Some(revoke);
            }
            _ => r.auth_role_list = Some(AuthRoleListRequest {}),
        }
        self.apply(&r)
    }

    fn member(&mut self, words: &Words<'_>) -> String {
        let id = MemberId(u64::from_str_radix(words.get(2), 16).unwrap_or_default());
        let urls =
            || words.get(3).split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let is_learner = words.has("learner");
        let member = Member { id, peer_urls: urls(), is_learner, ..Member::default() };
        match (words.get(0), words.get(1)) {
            ("members", _) => return self.members(),
            ("ready", "add") => return ready(self.store.view().check_readiness(Readiness::AddVoter)),
            ("ready", "promote") => return ready(self.store.view().check_readiness(Readiness::Promote)),
            ("ready", _) => return ready(self.store.view().check_readiness(Readiness::Remove(id))),
            ("version", version) => {
                let set = ClusterVersionSetRequest { ver: version.to_owned() };
                return self.apply(&InternalRaftRequest { cluster_version_set: Some(set), ..request() });
            }
            ("downgrade", version) => {
                let set = DowngradeInfoSetRequest { enabled: !version.is_empty(), ver: version.to_owned() };
                return self.apply(&InternalRaftRequest { downgrade_info_set: Some(set), ..request() });
            }
            (_, "started") => {
                let member_attributes =
                    Some(Attributes { name: words.get(3).to_owned(), client_urls: vec![] });
                let set = ClusterMemberAttrSetRequest { member_id: id.0, member_attributes };
                return self.apply(&InternalRaftRequest { cluster_member_attr_set: Some(set), ..request() });
            }
            _ => {}
        }
        let add = if is_learner {
            ConfChangeType::ConfChangeAddLearnerNode
        } else {
            ConfChangeType::ConfChangeAddNode
        };
        let (kind, context) = match words.get(1) {
            "add" => (add, encode_context(&ChangeContext::Add(member))),
            "promote" => (ConfChangeType::ConfChangeAddNode, encode_context(&ChangeContext::Promote(id))),
            "update" => (ConfChangeType::ConfChangeUpdateNode, encode_member(&member)),
            "remove" => (ConfChangeType::ConfChangeRemoveNode, Vec::new()),
            other => panic!("unknown membership change {other:?}"),
        };
        let change = ConfChange { id: 1, r#type: kind as i32, node_id: id.0, context: context.into() };
        let (index, term) = self.next();
        match self.store.apply_conf_change(index, term, &change) {
            Ok(outcome) => {
                self.store.set_conf_state(conf_state(&self.store.view()));
                render::conf_change(&outcome)
            }
            Err(error) => format!("error: {error}"),
        }
    }

    fn members(&self) -> String {
        let view = self.store.view();
        let member = |m: Member| {
            let kind = if m.is_learner { "learner" } else { "voter" };
            format!("{} {kind} {:?} {}", m.id, m.name, m.peer_urls.join(","))
        };
        let mut lines: Vec<_> = view.members().into_iter().map(member).collect();
        lines.extend(view.removed_members().iter().map(|id| format!("{id} removed")));
        lines.push(format!("cluster version {:?}, downgrade {:?}", view.cluster_version(), view.downgrade()));
        lines.join("\n")
    }

    fn files(&mut self, words: &Words<'_>) -> String {
        let view = self.store.view();
        match words.get(0) {
            "restore" => self.restore(),
            "size" => format!("{} keys {} bytes", view.key_count(), view.size_bytes()),
            "hash" if words.get(1).is_empty() => format!("{}", view.hash()),
            "hash" => match self
                .hashes
                .get(Revision(words.number(1)))
                .map_or_else(|| view.hash_kv(Revision(words.number(1))), Ok)
            {
                Ok(hash) => {
                    format!("{} compacted {} up to {}", hash.hash, hash.compact_revision, hash.hash_revision)
                }
                Err(error) => format!("error: {error}"),
            },
            _ => {
                let rows = view.bucket_items(words.get(1));
                let rows: Vec<_> = rows
                    .map(|(key, value)| format!("{} -> {}", key.escape_ascii(), value.escape_ascii()))
                    .collect();
                if rows.is_empty() { "no rows".to_owned() } else { rows.join("\n") }
            }
        }
    }

    /// Replaces the store by what its own files say.
    fn restore(&mut self) -> String {
        let view = self.store.view();
        let before = (view.hash(), view.hash_kv(Revision(0)));
        let rows: HashMap<&str, Vec<_>> =
            BUCKETS.iter().map(|bucket| (*bucket, view.bucket_items(bucket).collect())).collect();
        self.store = match Store::restore(self.config, |bucket| rows[bucket].clone()) {
            Ok(store) => store,
            Err(error) => return format!("error: {error}"),
        };
        let view = self.store.view();
        self.hub.reset(view.clone());
        assert_eq!(before, (view.hash(), view.hash_kv(Revision(0))), "the state does not survive its file");
        format!("revision {} compacted {}", view.revision(), view.compact_revision())
    }
}

/// What raft makes of the members.
fn conf_state(view: &View) -> ConfState {
    let ids = |learner| {
        let members = view.members().into_iter();
        members.filter(|m| m.is_learner == learner).map(|m| m.id.0).collect()
    };
    ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() }
}

fn ready(result: Result<(), kvnode_mvcc::MembershipError>) -> String {
    result.map_or_else(|error| format!("error: {error}"), |()| "ready".to_owned())
}

fn request() -> InternalRaftRequest {
    InternalRaftRequest::default()
}

/// A range, put, deletion, or transaction with its indented lines.
fn parse_op(command: &[&str]) -> RequestOp {
    let line = command[0].trim();
    let words = Words::new(line);
    let request = match words.get(0) {
        "range" => Request::RequestRange(parse_range(&words)),
        "put" => Request::RequestPut(PutRequest {
            key: words.bytes(1),
            value: words.bytes(2),
            lease: words.named("lease"),
            prev_kv: words.has("prev"),
            ignore_value: words.has("ignore_value"),
            ignore_lease: words.has("ignore_lease"),
        }),
        "del" => Request::RequestDeleteRange(DeleteRangeRequest {
            key: words.bytes(1),
            range_end: bytes(words.text("end")),
            prev_kv: words.has("prev"),
        }),
        "txn" => Request::RequestTxn(parse_txn(&command[1..])),
        "nothing" => return RequestOp { request: None },
        other => panic!("unknown operation {other:?}"),
    };
    RequestOp { request: Some(request) }
}

fn parse_range(words: &Words<'_>) -> RangeRequest {
    let order = match words.text("order") {
        "ascend" => SortOrder::Ascend as i32,
        "descend" => SortOrder::Descend as i32,
        "" => SortOrder::None as i32,
        _ => 99,
    };
    let target = match words.text("sort") {
        "version" => SortTarget::Version,
        "create" => SortTarget::Create,
        "mod" => SortTarget::Mod,
        "value" => SortTarget::Value,
        _ => SortTarget::Key,
    };
    RangeRequest {
        key: words.bytes(1),
        range_end: bytes(words.text("end")),
        limit: words.named("limit"),
        revision: words.named("rev"),
        sort_order: order,
        sort_target: target as i32,
        serializable: false,
        keys_only: words.has("keys_only"),
        count_only: words.has("count_only"),
        min_mod_revision: words.named("min_mod"),
        max_mod_revision: words.named("max_mod"),
        min_create_revision: words.named("min_create"),
        max_create_revision: words.named("max_create"),
    }
}

/// Lines `if TARGET KEY OP VALUE [end=..]`, `then OPERATION`, `else OPERATION`; deeper lines belong to a nested one.
fn parse_txn(lines: &[&str]) -> TxnRequest {
    let mut txn = TxnRequest::default();
    let Some(first) = lines.first() else { return txn };
    let depth = first.len() - first.trim_start().len();
    let mut at = 0;
    while at < lines.len() {
        let next = (at + 1..lines.len()).find(|i| !lines[*i].starts_with(&" ".repeat(depth + 1)));
        let end = next.unwrap_or(lines.len());
        let (word, rest) = lines[at].trim().split_once(' ').unwrap();
        match word {
            "if" => txn.compare.push(parse_compare(rest)),
            "then" | "else" => {
                let mut command = vec![rest];
                command.extend(&lines[at + 1..end]);
                let branch = if word == "then" { &mut txn.success } else { &mut txn.failure };
                branch.push(parse_op(&command));
            }
            other => panic!("unknown part of a transaction {other:?}"),
        }
        at = end;
    }
    txn
}

fn parse_compare(text: &str) -> Compare {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let number = || parts[3].parse::<i64>().unwrap();
    let (target, wanted) = match parts[0] {
        "version" => (CompareTarget::Version, TargetUnion::Version(number())),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number())),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number())),
        _ => (CompareTarget::Value, TargetUnion::Value(bytes(parts[3]))),
    };
    let result = match parts[2] {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        _ => CompareResult::Greater,
    };
    Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(parts[1]),
        target_union: Some(wanted),
        range_end: parts.get(4).and_then(|part| part.strip_prefix("end=")).map(bytes).unwrap_or_default(),
    }
}
