//! How messages become bytes: as prost does it, except for answers that are put together from stored records.
//!
//! A record in the store is already the encoded `mvccpb.KeyValue`, so a range of ten thousand keys is ten thousand
//! copies of bytes into the answer and nothing else: no fields are decoded or encoded.

use bytes::{Buf, BufMut};
use kvnode_mvcc::{RangeResult, Record, RequestError};
use kvnode_proto::etcdserverpb::ResponseHeader;
use prometheus::IntCounter;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::client::error::status;

/// Something that can be written as a protobuf message.
pub trait Wire {
    /// Length in bytes.
    fn wire_len(&self) -> usize;
    /// Appends the message, which is [`Self::wire_len`] bytes long.
    fn write(&self, buf: &mut impl BufMut);
}

impl<M: Message> Wire for M {
    fn wire_len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, buf: &mut impl BufMut) {
        self.encode_raw(buf);
    }
}

/// An `etcdserverpb.RangeResponse` that holds stored records.
#[derive(Clone, Debug)]
pub struct RangeAnswer {
    pub header: Option<ResponseHeader>,
    pub kvs: Vec<Record>,
    pub more: bool,
    pub count: i64,
}

impl RangeAnswer {
    pub fn new(header: ResponseHeader, result: RangeResult) -> Self {
        Self { header: Some(header), kvs: result.kvs, more: result.more, count: result.count }
    }
}

impl Wire for RangeAnswer {
    fn wire_len(&self) -> usize {
        let header =
            self.header.as_ref().map_or(0, |header| prost::encoding::message::encoded_len(1, header));
        let kvs: usize = self.kvs.iter().map(|record| field_len(2, record.bytes().len())).sum();
        let more = if self.more { prost::encoding::bool::encoded_len(3, &true) } else { 0 };
        let count = if self.count == 0 { 0 } else { prost::encoding::int64::encoded_len(4, &self.count) };
        header + kvs + more + count
    }

    fn write(&self, buf: &mut impl BufMut) {
        if let Some(header) = &self.header {
            prost::encoding::message::encode(1, header, buf);
        }
        for record in &self.kvs {
            put_field(2, record.bytes(), buf);
        }
        if self.more {
            prost::encoding::bool::encode(3, &true, buf);
        }
        if self.count != 0 {
            prost::encoding::int64::encode(4, &self.count, buf);
        }
    }
}

/// An `etcdserverpb.RangeStreamResponse`.
#[derive(Clone, Debug)]
pub struct RangeChunk(pub RangeAnswer);

impl Wire for RangeChunk {
    fn wire_len(&self) -> usize {
        field_len(1, self.0.wire_len())
    }

    fn write(&self, buf: &mut impl BufMut) {
        encode_key(1, WireType::LengthDelimited, buf);
        encode_varint(self.0.wire_len() as u64, buf);
        self.0.write(buf);
    }
}

/// Length of a length-delimited field whose content takes `len` bytes.
pub fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// Writes a length-delimited field that is encoded already.
pub fn put_field(tag: u32, content: &[u8], buf: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(content.len() as u64, buf);
    buf.put_slice(content);
}

/// Reads requests by prost, writes answers by [`Wire`], and counts the bytes of both.
#[derive(Clone)]
pub struct Codec<Req, Resp> {
    received: IntCounter,
    sent: IntCounter,
    types: std::marker::PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp> Codec<Req, Resp> {
    pub fn new(received: &IntCounter, sent: &IntCounter) -> Self {
        Self { received: received.clone(), sent: sent.clone(), types: std::marker::PhantomData }
    }
}

impl<Req, Resp> tonic::codec::Codec for Codec<Req, Resp>
where
    Req: Message + Default + Send + 'static,
    Resp: Wire + Send + 'static,
{
    type Encode = Resp;
    type Decode = Req;
    type Encoder = Writer<Resp>;
    type Decoder = Reader<Req>;

    fn encoder(&mut self) -> Self::Encoder {
        Writer { sent: self.sent.clone(), types: std::marker::PhantomData }
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader { received: self.received.clone(), types: std::marker::PhantomData }
    }
}

/// Writes answers of one call.
pub struct Writer<Resp> {
    sent: IntCounter,
    types: std::marker::PhantomData<fn(Resp)>,
}

impl<Resp: Wire> Encoder for Writer<Resp> {
    type Item = Resp;
    type Error = Status;

    fn encode(&mut self, item: Resp, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let len = item.wire_len();
        buf.reserve(len);
        let before = buf.remaining_mut();
        item.write(buf);
        debug_assert_eq!(before - buf.remaining_mut(), len, "the announced length is the written one");
        self.sent.inc_by(len as u64);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Reads requests of one call.
pub struct Reader<Req> {
    received: IntCounter,
    types: std::marker::PhantomData<fn() -> Req>,
}

impl<Req: Message + Default> Decoder for Reader<Req> {
    type Item = Req;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Req>, Status> {
        self.received.inc_by(buf.remaining() as u64);
        Message::decode(buf).map(Some).map_err(|error| unreadable(&error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// The answer to a request that cannot be decoded.
fn unreadable(error: &str) -> Status {
    if error.ends_with(kvnode_proto::TOO_DEEP) {
        // Each of those within each other is an operation.
        return status(RequestError::TooManyOps);
    }
    // As grpc-go words it. Which fields of fields it was in may be longer than a header may be.
    let cause = error.rsplit(": ").next().unwrap_or_default();
    Status::internal(format!("grpc: error unmarshalling request: {cause}"))
}

/// What a call's buffers begin with: most messages fit, and two of them are made for each call.
const BUFFER_BYTES: usize = 1024;
/// Answers of a stream are gathered up to this size before they go to the transport.
const YIELD_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kvnode_proto::{etcdserverpb::RangeResponse, mvccpb::KeyValue};

    use super::*;

    #[test]
    fn a_range_is_written_as_prost_would() {
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let kvs: Vec<KeyValue> = (0..3)
            .map(|n| KeyValue {
                key: Bytes::from(format!("key-{n}")),
                value: Bytes::from(vec![b'v'; n * 100]),
                create_revision: 2,
                mod_revision: 2 + n as i64,
                version: 1,
                lease: 0,
            })
            .collect();
        for (more, count) in [(false, 0), (true, 300)] {
            let answer = RangeAnswer {
                header: Some(header),
                kvs: kvs.iter().map(Record::encode).collect(),
                more,
                count,
            };
            let expected = RangeResponse { header: Some(header), kvs: kvs.clone(), more, count };
            let mut bytes = Vec::new();
            answer.write(&mut bytes);
            assert_eq!(bytes, expected.encode_to_vec());
            assert_eq!(answer.wire_len(), bytes.len());

            let mut chunk = Vec::new();
            let len = RangeChunk(answer.clone()).wire_len();
            RangeChunk(answer).write(&mut chunk);
            let wrapped = kvnode_proto::etcdserverpb::RangeStreamResponse { range_response: Some(expected) };
            assert_eq!((chunk.len(), chunk), (len, wrapped.encode_to_vec()));
        }
    }
}
