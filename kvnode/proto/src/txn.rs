//! The one message that holds itself.
//!
//! The decoder's limit of 100 messages within each other counts from where it begins, so it would accept a transaction from
//! a client and then refuse the log entry that wraps it, on every member and for good. Nested transactions are counted by
//! themselves instead: how deep one may be does not depend on what it lies in.

use std::cell::Cell;

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{DecodeContext, WireType, message, skip_field},
};

use crate::etcdserverpb::{Compare, RequestOp};

/// Transactions within a transaction that can be read, each inside the one before. Each of them takes one of the
/// `--max-txn-ops`, which are 128 unless set. It bounds the stack: all of these together fit on a thread's usual 2 MiB.
const NESTED_TXNS_MAX: usize = 256;

/// Why more than that is not read: how the text of the error ends.
pub const TOO_DEEP: &str = "too many transactions within each other";

/// Compares, and what to do if all of them hold, or else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnRequest {
    /// What has to hold.
    pub compare: Vec<Compare>,
    /// What is done if it does.
    pub success: Vec<RequestOp>,
    /// What is done if it does not.
    pub failure: Vec<RequestOp>,
}

const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;

impl Message for TxnRequest {
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        let _inside = Inside::enter()?;
        let from_here = DecodeContext::default();
        match tag {
            COMPARE => message::merge_repeated(wire_type, &mut self.compare, buf, from_here),
            SUCCESS => message::merge_repeated(wire_type, &mut self.success, buf, from_here),
            FAILURE => message::merge_repeated(wire_type, &mut self.failure, buf, from_here),
            _ => skip_field(wire_type, tag, buf, from_here),
        }
    }

    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.compare.iter().for_each(|compare| message::encode(COMPARE, compare, buf));
        self.success.iter().for_each(|op| message::encode(SUCCESS, op, buf));
        self.failure.iter().for_each(|op| message::encode(FAILURE, op, buf));
    }

    fn encoded_len(&self) -> usize {
        message::encoded_len_repeated(COMPARE, &self.compare)
            + message::encoded_len_repeated(SUCCESS, &self.success)
            + message::encoded_len_repeated(FAILURE, &self.failure)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

thread_local! {
    /// Transactions that this thread is reading, each inside the one before.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A transaction is being read; until dropped.
struct Inside;

impl Inside {
    fn enter() -> Result<Self, DecodeError> {
        let depth = DEPTH.get();
        if depth > NESTED_TXNS_MAX {
            #[expect(deprecated, reason = "there is no other way yet for a message to refuse")]
            return Err(DecodeError::new(TOO_DEEP));
        }
        DEPTH.set(depth + 1);
        Ok(Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::{InternalRaftRequest, PutRequest, request_op::Request};

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn nested(depth: usize) -> TxnRequest {
        let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let innermost = TxnRequest { failure: vec![op(Request::RequestPut(put))], ..TxnRequest::default() };
        (0..depth).fold(innermost, |inner, _| TxnRequest {
            compare: vec![Compare { key: "c".into(), ..Compare::default() }],
            success: vec![op(Request::RequestTxn(inner))],
            ..TxnRequest::default()
        })
    }

    #[test]
    fn what_is_read_from_a_client_is_read_from_the_log() {
        for depth in [0, 1, 48, 49, 50, 51, 128, NESTED_TXNS_MAX] {
            let txn = nested(depth);
            let sent = txn.encode_to_vec();
            assert_eq!(sent.len(), txn.encoded_len());
            assert_eq!(TxnRequest::decode(&*sent), Ok(txn.clone()), "{depth} within each other");
            let entry = InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() };
            assert_eq!(InternalRaftRequest::decode(&*entry.encode_to_vec()), Ok(entry));
        }
        for depth in [NESTED_TXNS_MAX + 1, NESTED_TXNS_MAX + 2] {
            let txn = nested(depth);
            let refused = TxnRequest::decode(&*txn.encode_to_vec()).unwrap_err();
            assert!(refused.to_string().ends_with(TOO_DEEP), "{refused}");
            let entry = InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() };
            assert!(InternalRaftRequest::decode(&*entry.encode_to_vec()).is_err());
        }
        assert!(
            TxnRequest::decode(&*nested(1).encode_to_vec()).is_ok(),
            "nothing is left of what was refused"
        );
    }

    #[test]
    fn no_request_is_too_deep_for_the_stack() {
        // Half a million groups, and as many transactions.
        let groups = vec![0x0b_u8 | 9 << 3; 500_000];
        assert!(TxnRequest::decode(&*groups).is_err());
        let mut deep: Vec<u8> = Vec::new();
        for _ in 0..20_000 {
            let mut outer = Vec::new();
            for tag in [4, SUCCESS] {
                let inner = std::mem::take(&mut deep);
                outer.clear();
                prost::encoding::encode_key(tag, WireType::LengthDelimited, &mut outer);
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                std::mem::swap(&mut deep, &mut outer);
            }
        }
        assert!(TxnRequest::decode(&*deep).is_err());
    }
}
