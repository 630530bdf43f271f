//! One of the two clusters, with all that the driver knows of it: connections, tokens, streams, ids.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Result, bail};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::Code;

use crate::{
    bindings::Bindings,
    case::{Call, End, Setup},
    listen::Listening,
    normalise::Names,
    process::Cluster,
    schema::{self, Schema, id, number_in, text},
    watch::WatchStream,
    wire::{Answer, Client},
};

/// One cluster.
pub struct Side {
    pub bindings: Bindings,
    pub names: Names,
    pub streams: BTreeMap<String, WatchStream>,
    pub cluster: Cluster,
    tokens: HashMap<String, String>,
    clients: Vec<Client>,
    schema: Schema,
}

/// An answer with its messages read.
pub struct Heard {
    pub answer: Answer,
    pub messages: Vec<DynamicMessage>,
}

impl Side {
    /// Starts a cluster and waits until it serves.
    pub async fn start(program: &Path, setup: &Setup, schema: &Schema, scratch: &Path) -> Result<Self> {
        let mut cluster = Cluster::launch(program, setup, scratch)?;
        cluster.wait_until_ready().await?;
        let clients =
            (0..cluster.len()).map(|n| Client::new(cluster.client_port(n))).collect::<Result<_>>()?;
        let mut side = Self {
            bindings: Bindings::default(),
            names: Names { members: setup.members, unlike: setup.members > 1, ..Names::default() },
            streams: BTreeMap::new(),
            cluster,
            tokens: HashMap::new(),
            clients,
            schema: schema.clone(),
        };
        side.learn_ids().await?;
        Ok(side)
    }

    async fn learn_ids(&mut self) -> Result<()> {
        let status = self.ask(0, "Maintenance/Status", "").await?;
        let header = status.get_field_by_name("header");
        let cluster =
            header.as_ref().and_then(|header| header.as_message()).map(|header| id(header, "cluster_id"));
        let list = self.ask(0, "Cluster/MemberList", "").await?;
        let members = list.get_field_by_name("members");
        let mut found: Vec<(String, u64)> = members
            .iter()
            .flat_map(|members| members.as_list().unwrap_or_default())
            .filter_map(|member| member.as_message())
            .map(|member| (text(member, "name"), id(member, "ID")))
            .collect();
        found.sort();
        self.bindings.members = found.iter().map(|(_, id)| *id).collect();
        if self.cluster.len() == 1 {
            return Ok(());
        }
        self.names.ids.insert(cluster.unwrap_or_default(), 1_000);
        for (n, id) in (0..).zip(self.bindings.members.clone()) {
            self.rename(id, n + 1);
        }
        for n in 0..self.cluster.len() {
            self.names.texts.push((format!("127.0.0.1:{}", self.cluster.peer_port(n)), format!("peer{n}")));
        }
        Ok(())
    }

    fn rename(&mut self, id: u64, name: u64) {
        self.names.ids.insert(id, name);
        self.names.texts.push((id.to_string(), name.to_string()));
        self.names.texts.push((format!("{id:x}"), name.to_string()));
    }

    /// Remembers a member whose id was made from the time.
    pub fn learn_added(&mut self, id: u64) {
        self.bindings.added = id;
        self.names.unlike = true;
        let name = 100 + self.names.ids.len() as u64;
        self.rename(id, name);
    }

    /// A call that must succeed, for the driver's own needs.
    async fn ask(&self, member: usize, method: &str, body: &str) -> Result<DynamicMessage> {
        let user = Some("root".to_owned());
        let call = Call { member, user, method: method.to_owned(), body: body.to_owned() };
        let (method, request) = self.request(&call)?;
        let heard = self.send(&call, &method, request.encode_to_vec().into()).await?;
        match heard.messages.into_iter().next() {
            Some(message) => Ok(message),
            None => bail!("{}: {:?} {}", call.method, heard.answer.code, heard.answer.text),
        }
    }

    /// The method and message of a call, with this side's ids.
    pub fn request(&self, call: &Call) -> Result<(MethodDescriptor, DynamicMessage)> {
        let method = self.schema.method(&call.method)?;
        let request = schema::parse(method.input(), &self.bindings.fill(&call.body)?)?;
        Ok((method, request))
    }

    /// Sends a request and reads every answer to it.
    pub async fn send(&self, call: &Call, method: &MethodDescriptor, request: Bytes) -> Result<Heard> {
        let token = self.token(call.user.as_ref());
        let answer = self.clients[call.member].call(method, request, token.as_deref()).await?;
        let read = |bytes: &Bytes| DynamicMessage::decode(method.output(), bytes.clone());
        let messages = answer.messages.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Heard { answer, messages })
    }

    /// Sends a request whose answers may take until later steps.
    pub fn begin(&self, call: &Call) -> Result<Listening> {
        let (method, request) = self.request(call)?;
        let token = self.token(call.user.as_ref());
        let requests = futures::stream::iter([request.encode_to_vec().into()]);
        Ok(Listening::new(&self.clients[call.member], method, requests, token))
    }

    fn token(&self, user: Option<&String>) -> Option<String> {
        self.tokens.get(user?).cloned()
    }

    pub fn log_in(&mut self, user: String, token: String) {
        self.tokens.insert(user, token);
    }

    pub fn open(&mut self, stream: &str, member: usize, user: Option<&String>) -> Result<()> {
        let token = self.token(user);
        let opened = WatchStream::open(&self.schema, &self.clients[member], member, token)?;
        self.streams.insert(stream.to_owned(), opened);
        Ok(())
    }

    pub async fn stop(&mut self, n: usize, how: End) -> Result<()> {
        self.streams.retain(|_, stream| stream.member != n);
        self.cluster.stop(n, how).await
    }

    pub async fn start_again(&mut self, n: usize) -> Result<()> {
        self.tokens.clear();
        self.cluster.start(n)?;
        self.clients[n] = Client::new(self.cluster.client_port(n))?;
        self.wait_until_ready().await?;
        self.log_root_in(n).await
    }

    /// Only root may ask who leads while authentication is on. A refusal says that it is off.
    async fn log_root_in(&mut self, member: usize) -> Result<()> {
        let method = "Auth/Authenticate".to_owned();
        let body = "name: \"root\" password: \"root\"".to_owned();
        let call = Call { member, user: None, method, body };
        let (method, request) = self.request(&call)?;
        let heard = self.send(&call, &method, request.encode_to_vec().into()).await?;
        if let Some(message) = heard.messages.first() {
            self.log_in("root".to_owned(), text(message, "token"));
        }
        Ok(())
    }

    pub async fn wait_until_ready(&mut self) -> Result<()> {
        self.cluster.wait_until_ready().await
    }

    /// Has a member catch up with what the cluster has agreed on; its revision then, if root may read.
    pub async fn catch_up(&self, member: usize) -> Result<Option<i64>> {
        self.read(member, "key:\"\\000\" count_only:true").await
    }

    /// Has a member read every key that it has.
    pub async fn read_all(&self, member: usize) -> Result<()> {
        self.read(member, "key:\"\\000\" range_end:\"\\000\" serializable:true").await.map(|_| ())
    }

    /// Whether the read is allowed makes no difference.
    async fn read(&self, member: usize, body: &str) -> Result<Option<i64>> {
        let (user, method) = (Some("root".to_owned()), "KV/Range".to_owned());
        let call = Call { member, user, method, body: body.to_owned() };
        let (method, request) = self.request(&call)?;
        let heard = self.send(&call, &method, request.encode_to_vec().into()).await?;
        Ok(heard.messages.first().map(|message| number_in(message, "header", "revision")))
    }

    /// Position of the leader, as some member that runs knows it.
    pub async fn leader(&mut self) -> Result<Option<usize>> {
        let Some(asked) = (0..self.cluster.len()).find(|n| self.cluster.runs(*n)) else { return Ok(None) };
        let mut status = self.ask(asked, "Maintenance/Status", "").await;
        if status.is_err() {
            self.log_root_in(asked).await?;
            status = self.ask(asked, "Maintenance/Status", "").await;
        }
        let status = status?;
        let leader = id(&status, "leader");
        Ok(self.bindings.members.iter().position(|id| *id == leader))
    }

    /// Moves leadership to a position.
    pub async fn lead(&self, from: usize, to: usize) -> Result<()> {
        let body = format!("targetID: {}", self.bindings.members[to]);
        // The caller looks again who leads, so a refusal is only a reason to try once more.
        let _ = self.ask(from, "Maintenance/MoveLeader", &body).await;
        Ok(())
    }
}

impl Heard {
    pub fn ok(&self) -> bool {
        self.answer.code == Code::Ok
    }
}
