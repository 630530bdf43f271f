//! Calls over gRPC whose messages stay bytes: what a server sent is compared as it was sent.

use std::time::Duration;

use anyhow::{Result, anyhow};
use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt, stream};
use prost_reflect::MethodDescriptor;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::schema;

/// Longer than any answer takes: etcd itself gives up after some seven seconds.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Answers can be as large as the whole key space.
const ANSWER_MAX_BYTES: usize = 256 << 20;

/// All that a server said to one call.
#[derive(Clone, Debug)]
pub struct Answer {
    pub messages: Vec<Bytes>,
    pub code: Code,
    pub text: String,
}

/// A connection to one member.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects when it is first used, and again whenever the connection is lost.
    pub fn new(port: u16) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    /// Sends one request and collects every answer until the stream ends.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        request: Bytes,
        token: Option<&str>,
    ) -> Result<Answer> {
        let collected = self.collect(method, request, token);
        tokio::time::timeout(CALL_MAX, collected)
            .await
            .map_err(|_| anyhow!("{}: no answer within {CALL_MAX:?}", method.full_name()))?
    }

    async fn collect(
        &self,
        method: &MethodDescriptor,
        request: Bytes,
        token: Option<&str>,
    ) -> Result<Answer> {
        let mut answer = Answer { messages: Vec::new(), code: Code::Ok, text: String::new() };
        // As a stream of answers in any case: a unary call is one with a single answer.
        let outcome = self.stream(method, stream::iter([request]), token).await?;
        let ended = match outcome {
            Ok(mut messages) => loop {
                match messages.next().await {
                    Some(Ok(message)) => answer.messages.push(message),
                    Some(Err(status)) => break Some(status),
                    None => break None,
                }
            },
            Err(status) => Some(status),
        };
        if let Some(status) = ended {
            (answer.code, answer.text) = (status.code(), status.message().to_owned());
        }
        Ok(answer)
    }

    /// Opens a stream in both directions.
    pub async fn stream(
        &self,
        method: &MethodDescriptor,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        token: Option<&str>,
    ) -> Result<Result<Streaming<Bytes>, Status>> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES);
        grpc.ready().await.map_err(|error| anyhow!("connect for {}: {error}", method.full_name()))?;
        let mut request = Request::new(requests);
        if let Some(token) = token {
            request.metadata_mut().insert("token", MetadataValue::try_from(token)?);
        }
        let path = schema::path(method).parse()?;
        Ok(grpc.streaming(request, path, Raw).await.map(tonic::Response::into_inner))
    }
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
