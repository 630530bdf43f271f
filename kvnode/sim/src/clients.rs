//! Clients: each does one thing at a time, at any member, and remembers when it asked and what it was told.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvnode_mvcc::{ApplyError, Response, View};
use kvnode_proto::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestHeader,
};
use prost::Message as _;

use crate::{
    oracle::{Done, Effect, Violation},
    random::Random,
};

const KEYS: u64 = 5;

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    Put { key: Bytes, value: Bytes },
    Read { key: Bytes },
    Compact { revision: i64 },
}

/// An operation under way.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    pub began: u64,
    pub wish: Wish,
}

/// All clients and their operations, by the number of the request.
#[derive(Debug, Default)]
pub struct Clients {
    pub open: BTreeMap<u64, Operation>,
    last_request: u64,
    /// The newest revision any client has heard of.
    pub newest_revision: i64,
}

impl Clients {
    /// A number that no other request or read has.
    pub fn number(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    pub fn draw(&mut self, random: &mut Random, client: usize, now: u64) -> (u64, Operation) {
        let number = self.number();
        let key = Bytes::from(format!("k{}", random.below(KEYS)));
        let wish = match random.below(100) {
            0..=1 if self.newest_revision > 20 => Wish::Compact { revision: self.newest_revision - 10 },
            0..=55 => {
                // Some values are long enough to need several sectors, some pages.
                let filler = [0, 0, 0, 40, 700, 5000][random.below(6) as usize];
                Wish::Put { key, value: format!("{number}:{}", "x".repeat(filler)).into() }
            }
            _ => Wish::Read { key },
        };
        let operation = Operation { client, began: now, wish };
        self.open.insert(number, operation.clone());
        (number, operation)
    }

    /// A request in the log was applied where its client waits.
    pub fn answer_write(
        &mut self,
        number: u64,
        response: &Result<Response, ApplyError>,
        now: u64,
    ) -> Result<Option<Done>, Violation> {
        let Some(Operation { began, wish, .. }) = self.open.remove(&number) else { return Ok(None) };
        match (wish, response) {
            (Wish::Put { key, value }, Ok(Response::Put(put))) => {
                let revision = put.revision.0;
                self.newest_revision = self.newest_revision.max(revision);
                Ok(Some(Done { key, began, ended: now, revision, effect: Effect::Wrote { value } }))
            }
            // Another client's compaction may be ahead.
            (Wish::Compact { .. }, Ok(Response::Compact) | Err(ApplyError::Read(_))) => Ok(None),
            (wish, response) => Err(Violation(format!("{wish:?} was answered {response:?}"))),
        }
    }

    /// A read was confirmed and everything up to its index is applied.
    pub fn answer_read(&mut self, number: u64, view: &View, now: u64) -> Result<Option<Done>, Violation> {
        let Some(Operation { began, wish: Wish::Read { key }, .. }) = self.open.remove(&number) else {
            return Ok(None);
        };
        let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let range = view.range(&request).map_err(|error| Violation(format!("reading {key:?}: {error}")))?;
        let found = range.kvs.first().map(|record| (record.value(), record.meta().mod_revision));
        let revision = range.revision.0;
        self.newest_revision = self.newest_revision.max(revision);
        Ok(Some(Done { key, began, ended: now, revision, effect: Effect::Read { found } }))
    }
}

/// The log entry of a write; `None` for a read.
pub fn encode(number: u64, wish: &Wish) -> Option<Bytes> {
    let mut request = InternalRaftRequest {
        header: Some(RequestHeader { id: number, ..RequestHeader::default() }),
        ..InternalRaftRequest::default()
    };
    match wish {
        Wish::Read { .. } => return None,
        Wish::Put { key, value } => {
            request.put =
                Some(PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() });
        }
        Wish::Compact { revision } => {
            request.compaction =
                Some(CompactionRequest { revision: *revision, ..CompactionRequest::default() });
        }
    }
    Some(request.encode_to_vec().into())
}
