//! A call under way: what was heard until now, and how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::wire::Client;

/// A call under way; given up when dropped.
pub struct Listening {
    heard: Arc<Mutex<Heard>>,
    reader: JoinHandle<()>,
}

/// All that a server said so far.
#[derive(Clone, Default)]
pub struct Heard {
    pub messages: Vec<DynamicMessage>,
    pub ended: Option<(Code, String)>,
}

impl Listening {
    pub fn new(
        client: &Client,
        method: MethodDescriptor,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        token: Option<String>,
    ) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (client, sink) = (client.clone(), Arc::clone(&heard));
        let reader = tokio::spawn(async move {
            let ended = match client.stream(&method, requests, token.as_deref()).await {
                Ok(Ok(mut responses)) => loop {
                    match responses.next().await {
                        Some(Ok(bytes)) => match DynamicMessage::decode(method.output(), bytes) {
                            Ok(message) => lock(&sink).messages.push(message),
                            Err(error) => break (Code::DataLoss, error.to_string()),
                        },
                        Some(Err(status)) => break (status.code(), status.message().to_owned()),
                        None => break (Code::Ok, String::new()),
                    }
                },
                Ok(Err(status)) => (status.code(), status.message().to_owned()),
                Err(error) => (Code::Unavailable, error.to_string()),
            };
            lock(&sink).ended = Some(ended);
        });
        Self { heard, reader }
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
