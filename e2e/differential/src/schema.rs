//! etcd's messages and services by name, read from kvnode's `.proto` files when the program starts.
//!
//! Messages are dynamic: a field that one server sends and the other does not know still shows up in the comparison.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, text_format::FormatOptions,
};

/// All services and messages.
#[derive(Clone)]
pub struct Schema {
    pool: DescriptorPool,
}

impl Schema {
    /// Compiles the `.proto` files of this repository.
    pub fn load() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kvnode/proto/proto");
        let mut files = Vec::new();
        for package in std::fs::read_dir(&root).with_context(|| format!("list {}", root.display()))? {
            for file in std::fs::read_dir(package?.path())? {
                files.push(file?.path());
            }
        }
        files.sort();
        let set = protox::compile(&files, [&root]).context("compile etcd's messages")?;
        Ok(Self { pool: DescriptorPool::from_file_descriptor_set(set)? })
    }

    /// A method by `Service/Method`, without its package.
    pub fn method(&self, name: &str) -> Result<MethodDescriptor> {
        let (service, method) = name.split_once('/').ok_or_else(|| anyhow!("{name}: not Service/Method"))?;
        let service = self.pool.services().find(|found| found.name() == service);
        let found = service.and_then(|service| service.methods().find(|found| found.name() == method));
        found.ok_or_else(|| anyhow!("no method {name}"))
    }
}

/// Path of a method on the wire.
pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Reads a message from protobuf's text format.
pub fn parse(kind: MessageDescriptor, text: &str) -> Result<DynamicMessage> {
    let name = kind.full_name().to_owned();
    DynamicMessage::parse_text_format(kind, text).with_context(|| format!("read a {name} from {text:?}"))
}

/// Writes a message in one line of protobuf's text format, unknown fields too.
pub fn print(message: &DynamicMessage) -> String {
    let options = FormatOptions::new().skip_unknown_fields(false).print_message_fields_in_index_order(true);
    message.to_text_format_with_options(&options)
}

/// A field that holds an id; 0 without one.
pub fn id(message: &DynamicMessage, field: &str) -> u64 {
    message.get_field_by_name(field).and_then(|value| value.as_u64()).unwrap_or_default()
}

/// A field that holds a number; 0 without one.
pub fn number(message: &DynamicMessage, field: &str) -> i64 {
    message.get_field_by_name(field).and_then(|value| value.as_i64()).unwrap_or_default()
}

/// A number in a message within the message; 0 without one.
pub fn number_in(message: &DynamicMessage, part: &str, field: &str) -> i64 {
    let part = message.get_field_by_name(part);
    part.and_then(|part| Some(number(part.as_message()?, field))).unwrap_or_default()
}

/// A field that holds text; empty without one.
pub fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_written_as_text() {
        let schema = Schema::load().unwrap();
        let put = schema.method("KV/Put").unwrap();
        assert_eq!(path(&put), "/etcdserverpb.KV/Put");
        let text = r#"key:"a\000",lease:-3,prev_kv:true"#;
        let message = parse(put.input(), text).unwrap();
        assert_eq!(print(&message), text);
        assert!(parse(put.input(), "kye: \"a\"").is_err());
        assert!(schema.method("KV/Get").is_err());
    }

    #[test]
    fn enum_values_that_nobody_knows_can_be_written() {
        let range = Schema::load().unwrap().method("KV/Range").unwrap();
        assert!(print(&parse(range.input(), "key: \"a\" sort_order: 7").unwrap()).contains('7'));
    }
}
