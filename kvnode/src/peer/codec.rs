//! How messages stand in the two streams between peers: etcd's `message` and `msgappv2` framings.
//!
//! Pure: bytes in, messages out and back. Decoded entry data shares the received buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvnode_proto::raftpb::{Entry, Message, MessageType};
use prost::Message as _;

/// Largest message that is read (etcd's `readBytesLimit`): far above what anybody sends, so only damage exceeds it.
const MESSAGE_BYTES_MAX: u64 = 512 << 20;

/// Kinds of frame of a `msgappv2` stream.
const LINK_HEARTBEAT: u8 = 0;
const APP_ENTRIES: u8 = 1;
const APP: u8 = 2;

/// Why a stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("a peer's stream announces {0} bytes, more than a message may have")]
    TooLong(u64),
    #[error("a peer's stream holds a frame of unknown type {0}")]
    UnknownFrame(u8),
    #[error("a peer's stream holds a malformed message: {0}")]
    Malformed(String),
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Append messages from a leader, most of them without what the receiver can work out.
    Append,
    /// All other messages.
    Message,
}

impl StreamKind {
    /// The last part of its path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Append => "msgapp",
            Self::Message => "message",
        }
    }

    /// Its name in log lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "stream MsgApp v2",
            Self::Message => "stream Message",
        }
    }
}

/// A message that only keeps a `message` stream alive.
fn is_link_heartbeat(m: &Message) -> bool {
    m.r#type == MessageType::MsgHeartbeat as i32 && m.from == 0 && m.to == 0
}

/// Writes a length and a message: a frame of the `message` stream, and the head of a snapshot's body.
pub(crate) fn put_message(m: &Message, out: &mut BytesMut) {
    let length = m.encoded_len();
    out.reserve(8 + length);
    out.put_u64(length as u64);
    m.encode_raw(out);
}

/// Writes one of the streams.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: StreamKind,
    /// Term and index at which the next append would continue the last one.
    term: u64,
    index: u64,
}

impl Encoder {
    pub(crate) fn new(kind: StreamKind) -> Self {
        Self { kind, term: 0, index: 0 }
    }

    /// Appends a message.
    pub(crate) fn put(&mut self, m: &Message, out: &mut BytesMut) {
        if self.kind == StreamKind::Message {
            return put_message(m, out);
        }
        if self.index == m.index && self.term == m.log_term && m.log_term == m.term {
            out.put_u8(APP_ENTRIES);
            out.put_u64(m.entries.len() as u64);
            for entry in &m.entries {
                let length = entry.encoded_len();
                out.reserve(8 + length);
                out.put_u64(length as u64);
                entry.encode_raw(out);
            }
            out.put_u64(m.commit);
            self.index += m.entries.len() as u64;
        } else {
            out.put_u8(APP);
            put_message(m, out);
            self.term = m.term;
            self.index = m.entries.last().map_or(m.index, |e| e.index);
        }
    }

    /// Appends what says "still here".
    pub(crate) fn put_heartbeat(&mut self, out: &mut BytesMut) {
        match self.kind {
            StreamKind::Append => out.put_u8(LINK_HEARTBEAT),
            StreamKind::Message => {
                put_message(&Message { r#type: MessageType::MsgHeartbeat as i32, ..Message::default() }, out);
            }
        }
    }
}

/// Reads one of the streams from pieces of any size.
#[derive(Debug)]
pub(crate) struct Decoder {
    kind: StreamKind,
    local: u64,
    remote: u64,
    term: u64,
    index: u64,
    buffer: BytesMut,
}

impl Decoder {
    pub(crate) fn new(kind: StreamKind, local: u64, remote: u64) -> Self {
        Self { kind, local, remote, term: 0, index: 0, buffer: BytesMut::new() }
    }

    /// Adds received bytes.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole message, if one is there. Link heartbeats are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, CodecError> {
        loop {
            let whole = match self.kind {
                StreamKind::Message => self.message_length(0)?,
                StreamKind::Append => self.append_length()?,
            };
            let Some(length) = whole.filter(|length| *length <= self.buffer.len()) else { return Ok(None) };
            let frame = self.buffer.split_to(length).freeze();
            let message = match self.kind {
                StreamKind::Message => decode(frame.slice(8..))?,
                StreamKind::Append => match self.append(frame)? {
                    Some(message) => message,
                    None => continue,
                },
            };
            if !is_link_heartbeat(&message) {
                return Ok(Some(message));
            }
        }
    }

    fn length_at(&self, at: usize) -> Result<Option<usize>, CodecError> {
        let Some(mut bytes) = self.buffer.get(at..at + 8) else { return Ok(None) };
        let length = bytes.get_u64();
        if length > MESSAGE_BYTES_MAX {
            return Err(CodecError::TooLong(length));
        }
        usize::try_from(length).map(Some).map_err(|_| CodecError::TooLong(length))
    }

    fn message_length(&self, at: usize) -> Result<Option<usize>, CodecError> {
        Ok(self.length_at(at)?.map(|length| at + 8 + length))
    }

    /// How many bytes the frame at the front has, as far as that can be told yet.
    fn append_length(&self) -> Result<Option<usize>, CodecError> {
        match self.buffer.first() {
            None => Ok(None),
            Some(&LINK_HEARTBEAT) => Ok(Some(1)),
            Some(&APP) => self.message_length(1),
            Some(&APP_ENTRIES) => {
                let Some(count) = self.length_at(1)? else { return Ok(None) };
                let mut at = 9;
                for _ in 0..count {
                    let Some(length) = self.length_at(at)? else { return Ok(None) };
                    at += 8 + length;
                    if at > self.buffer.len() {
                        return Ok(None);
                    }
                }
                Ok(Some(at + 8))
            }
            Some(&other) => Err(CodecError::UnknownFrame(other)),
        }
    }

    fn append(&mut self, mut frame: Bytes) -> Result<Option<Message>, CodecError> {
        match frame.get_u8() {
            LINK_HEARTBEAT => Ok(None),
            APP => {
                let message = decode(frame.slice(8..))?;
                self.term = message.term;
                self.index = message.entries.last().map_or(message.index, |e| e.index);
                Ok(Some(message))
            }
            _ => {
                let index = self.index;
                let count = frame.get_u64();
                let mut entries = Vec::new();
                for _ in 0..count {
                    // The whole frame is here, as its lengths say.
                    let length = usize::try_from(frame.get_u64()).unwrap_or(usize::MAX).min(frame.len());
                    entries.push(decode_entry(frame.split_to(length))?);
                }
                self.index += entries.len() as u64;
                Ok(Some(Message {
                    r#type: MessageType::MsgApp as i32,
                    to: self.local,
                    from: self.remote,
                    term: self.term,
                    log_term: self.term,
                    index,
                    entries,
                    commit: frame.get_u64(),
                    ..Message::default()
                }))
            }
        }
    }
}

/// Decodes a message.
pub(crate) fn decode(data: Bytes) -> Result<Message, CodecError> {
    Message::decode(data).map_err(|e| CodecError::Malformed(e.to_string()))
}

fn decode_entry(data: Bytes) -> Result<Entry, CodecError> {
    Entry::decode(data).map_err(|e| CodecError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(term: u64, log_term: u64, index: u64, entries: &[u64]) -> Message {
        Message {
            r#type: MessageType::MsgApp as i32,
            to: 2,
            from: 1,
            term,
            log_term,
            index,
            commit: 7,
            entries: entries
                .iter()
                .map(|index| Entry {
                    term,
                    index: *index,
                    data: Bytes::from(vec![b'x'; 300]),
                    ..Entry::default()
                })
                .collect(),
            ..Message::default()
        }
    }

    fn round_trip(kind: StreamKind, messages: &[Message], piece: usize) -> Vec<Message> {
        let (mut encoder, mut bytes) = (Encoder::new(kind), BytesMut::new());
        for message in messages {
            encoder.put(message, &mut bytes);
            encoder.put_heartbeat(&mut bytes);
        }
        let mut decoder = Decoder::new(kind, 2, 1);
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            while let Some(message) = decoder.next().expect("what was encoded") {
                out.push(message);
            }
        }
        out
    }

    #[test]
    fn messages_survive_pieces_of_any_size() {
        let messages = [
            append(3, 2, 4, &[5, 6]),
            append(3, 3, 6, &[7]),
            append(3, 3, 7, &[]),
            append(4, 3, 7, &[8]),
            append(4, 4, 6, &[7, 8]),
        ];
        for piece in [1, 7, 64, 100_000] {
            assert_eq!(round_trip(StreamKind::Append, &messages, piece), messages);
            assert_eq!(round_trip(StreamKind::Message, &messages, piece), messages);
        }
    }

    #[test]
    fn appends_that_continue_are_short() {
        let (mut encoder, mut bytes) = (Encoder::new(StreamKind::Append), BytesMut::new());
        encoder.put(&append(3, 3, 4, &[5]), &mut bytes);
        assert_eq!(bytes[0], APP);
        bytes.clear();
        encoder.put(&append(3, 3, 5, &[]), &mut bytes);
        assert_eq!(&bytes[..], [&[APP_ENTRIES][..], &[0; 8], &7u64.to_be_bytes()].concat());
    }

    #[test]
    fn damage_is_refused() {
        let mut decoder = Decoder::new(StreamKind::Append, 2, 1);
        decoder.feed(&[9]);
        assert_eq!(decoder.next(), Err(CodecError::UnknownFrame(9)));
        let mut decoder = Decoder::new(StreamKind::Message, 2, 1);
        decoder.feed(&u64::MAX.to_be_bytes());
        assert_eq!(decoder.next(), Err(CodecError::TooLong(u64::MAX)));
    }
}
