//! Messages as JSON, by their descriptors: the mapping of protobuf with etcd's options (names as in the .proto files,
//! fields at their default left out, unknown fields ignored; `server/embed/serve.go`, `registerGateway`).

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::de::IgnoredAny;
use serde_json::error::Category;
use tonic::Status;

/// Encodes the first JSON value of `text`; nothing but white space is a message without fields. What follows the value
/// is not looked at, as in grpc-gateway.
///
/// # Errors
/// What is wrong with the text. Syntax errors are worded as Go's `encoding/json` words them.
pub fn to_message(text: &[u8], kind: &MessageDescriptor) -> Result<Vec<u8>, String> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    match values.next() {
        None => return Ok(Vec::new()),
        Some(Err(error)) => return Err(syntax(&error, text)),
        Some(Ok(_)) => {}
    }
    let value = text[..values.byte_offset()].trim_ascii();
    if value.first() != Some(&b'{') {
        let token = if value.starts_with(b"[") { "[".into() } else { String::from_utf8_lossy(value) };
        return Err(format!("proto: syntax error (line 1:1): unexpected token {token}"));
    }
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut reader = serde_json::Deserializer::from_slice(value);
    DynamicMessage::deserialize_with_options(kind.clone(), &mut reader, &options)
        .map(|message| message.encode_to_vec())
        .map_err(|error| format!("proto: {error}"))
}

/// Go's words for what `serde_json` found.
fn syntax(error: &serde_json::Error, text: &[u8]) -> String {
    if error.classify() == Category::Eof {
        return "unexpected EOF".to_owned();
    }
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(error.column().saturating_sub(1)).map_or('\u{fffd}', |byte| char::from(*byte));
    let said = error.to_string();
    let place = [
        ("expected `:`", "after object key"),
        ("key must be a string", "looking for beginning of object key string"),
        ("trailing comma", "looking for beginning of value"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
    ];
    let place = place.iter().find(|(start, _)| said.starts_with(start));
    let place = place.map_or("looking for beginning of value", |(_, place)| place);
    format!("invalid character {found:?} {place}")
}

/// An encoded message as JSON.
///
/// # Errors
/// `Internal`, if it is not of this kind.
pub fn from_message(message: &[u8], kind: &MessageDescriptor) -> Result<String, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind.clone(), message).map_err(|error| internal(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut text = Vec::with_capacity(message.encoded_len() * 2);
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
        .map_err(|error| internal(&error))?;
    String::from_utf8(text).map_err(|error| internal(&error))
}

/// A status as JSON (`google.rpc.Status` without details).
pub fn from_status(status: &Status) -> String {
    let code = status.code() as i32;
    if status.message().is_empty() {
        return format!("{{\"code\":{code}}}");
    }
    format!("{{\"code\":{code},\"message\":{}}}", serde_json::Value::from(status.message()))
}

/// One line of a stream. Go escapes what HTML would take for markup there, though not in answers that stand alone.
pub fn line(name: &str, value: &str) -> String {
    let mut line = format!("{{\"{name}\":");
    for character in value.chars() {
        match character {
            '<' => line.push_str("\\u003c"),
            '>' => line.push_str("\\u003e"),
            '&' => line.push_str("\\u0026"),
            '\u{2028}' => line.push_str("\\u2028"),
            '\u{2029}' => line.push_str("\\u2029"),
            other => line.push(other),
        }
    }
    line.push_str("}\n");
    line
}

/// Finds where JSON objects end in a text that arrives in pieces. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct Splitter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Bytes of the text already looked at.
    seen: usize,
}

/// Something that no object begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnObject;

impl Splitter {
    /// Length of the first object in `text`, with white space before it; `None` if there is more to come. Called again
    /// with the same text and more behind it, or with what follows the object that was found.
    pub fn next(&mut self, text: &[u8]) -> Result<Option<usize>, NotAnObject> {
        while let Some(byte) = text.get(self.seen) {
            self.seen += 1;
            if self.step(*byte)? {
                let length = self.seen;
                *self = Self::default();
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Whether the byte ends the object.
    fn step(&mut self, byte: u8) -> Result<bool, NotAnObject> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' => self.depth += 1,
            b'[' if self.depth > 0 => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            b'"' if self.depth > 0 => self.in_string = true,
            _ if self.depth > 0 || byte.is_ascii_whitespace() => {}
            _ => return Err(NotAnObject),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use kvnode_proto::{
        etcdserverpb::{
            AlarmMember, AlarmResponse, AlarmType, RangeRequest, RangeResponse, ResponseHeader,
            StatusResponse, WatchRequest, watch_request::RequestUnion,
        },
        mvccpb::KeyValue,
    };
    use prost_reflect::DescriptorPool;

    use super::*;

    fn kind(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(kvnode_proto::DESCRIPTORS).unwrap();
        pool.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap()
    }

    fn read<M: Message + Default>(text: &str) -> Result<M, String> {
        let name = std::any::type_name::<M>().rsplit("::").next().unwrap();
        to_message(text.as_bytes(), &kind(name)).map(|bytes| M::decode(bytes.as_slice()).unwrap())
    }

    fn written<M: Message>(message: &M) -> String {
        let name = std::any::type_name::<M>().rsplit("::").next().unwrap();
        from_message(&message.encode_to_vec(), &kind(name)).unwrap()
    }

    #[test]
    fn answers_are_written_as_etcds() {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 3, raft_term: 4 };
        let kv = KeyValue {
            key: "foo".into(),
            value: vec![0xff, 0xfe].into(),
            mod_revision: 3,
            ..KeyValue::default()
        };
        let range = RangeResponse { header: Some(header), kvs: vec![kv], more: true, count: 2 };
        assert_eq!(
            written(&range),
            "{\"header\":{\"cluster_id\":\"18446744073709551615\",\"member_id\":\"2\",\"revision\":\"3\",\"raft_term\":\"4\"},\
             \"kvs\":[{\"key\":\"Zm9v\",\"mod_revision\":\"3\",\"value\":\"//4=\"}],\"more\":true,\"count\":\"2\"}"
        );
        assert_eq!(written(&RangeResponse::default()), "{}");
        let status =
            StatusResponse { db_size: 1, is_learner: true, raft_index: 7, ..StatusResponse::default() };
        assert_eq!(written(&status), "{\"dbSize\":\"1\",\"raftIndex\":\"7\",\"isLearner\":true}");
        let alarm = AlarmMember { member_id: 1, alarm: AlarmType::Nospace.into() };
        let alarms = AlarmResponse { alarms: vec![alarm], ..AlarmResponse::default() };
        assert_eq!(written(&alarms), "{\"alarms\":[{\"memberID\":\"1\",\"alarm\":\"NOSPACE\"}]}");
    }

    #[test]
    fn requests_are_read_leniently() {
        let foo = RangeRequest { key: "foo".into(), limit: 5, sort_order: 2, ..RangeRequest::default() };
        for text in [
            r#"{"key":"Zm9v","limit":5,"sort_order":"DESCEND"}"#,
            r#" {"key":"Zm9v","limit":"5","sortOrder":2,"unheard_of":[1,{"a":null}]} "#,
            r#"{"key":"Zm9v","range_end":null,"limit":5.0,"sort_order":"DESCEND"} and more"#,
        ] {
            assert_eq!(read::<RangeRequest>(text).as_ref(), Ok(&foo), "{text}");
        }
        for text in ["", "\n", "{}"] {
            assert_eq!(read::<RangeRequest>(text), Ok(RangeRequest::default()), "{text:?}");
        }
        // Both alphabets of base64, with and without padding.
        for text in [r#"{"key":"-_8="}"#, r#"{"key":"+/8="}"#, r#"{"key":"-_8"}"#] {
            assert_eq!(read::<RangeRequest>(text).unwrap().key, vec![0xfb, 0xff], "{text}");
        }
        let watch = read::<WatchRequest>(r#"{"create_request":{"key":"Zm9v"}}"#).unwrap();
        assert!(
            matches!(watch.request_union, Some(RequestUnion::CreateRequest(create)) if create.key == "foo")
        );
    }

    #[test]
    fn mistakes_are_worded_as_go_words_them() {
        for (text, expected) in [
            ("{\"key\":", "unexpected EOF"),
            ("{\"key\":}", "invalid character '}' looking for beginning of value"),
            ("{\"key\" 1}", "invalid character '1' after object key"),
            ("{key:1}", "invalid character 'k' looking for beginning of object key string"),
            ("{\"limit\":1 \"key\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("\n*", "invalid character '*' looking for beginning of value"),
            ("[1]", "proto: syntax error (line 1:1): unexpected token ["),
            ("null", "proto: syntax error (line 1:1): unexpected token null"),
        ] {
            assert_eq!(read::<RangeRequest>(text), Err(expected.to_owned()), "{text}");
        }
        for text in [r#"{"key":"!"}"#, r#"{"limit":"x"}"#, r#"{"key":7}"#] {
            let error = read::<RangeRequest>(text).unwrap_err();
            assert!(error.starts_with("proto: "), "{text}: {error}");
        }
    }

    #[test]
    fn a_stream_of_objects_is_cut_where_each_ends() {
        let text = br#" {"a":{"b":"}\"]"}}{"c":[{},[]]}
            {"d":1}"#;
        let mut splitter = Splitter::default();
        let (mut start, mut found) = (0, Vec::new());
        // One byte more at a time.
        for end in 0..=text.len() {
            while let Some(length) = splitter.next(&text[start..end]).unwrap() {
                found.push(std::str::from_utf8(&text[start..start + length]).unwrap().trim().to_owned());
                start += length;
            }
        }
        assert_eq!(found, [r#"{"a":{"b":"}\"]"}}"#, r#"{"c":[{},[]]}"#, r#"{"d":1}"#]);
        assert_eq!(Splitter::default().next(b" 7"), Err(NotAnObject));
        assert_eq!(Splitter::default().next(b"]"), Err(NotAnObject));
    }

    #[test]
    fn lines_of_streams_are_safe_in_html() {
        assert_eq!(line("result", "{\"a\":\"<b>&\"}"), "{\"result\":{\"a\":\"\\u003cb\\u003e\\u0026\"}}\n");
        assert_eq!(from_status(&Status::not_found("no \"x\"")), "{\"code\":5,\"message\":\"no \\\"x\\\"\"}");
    }
}
