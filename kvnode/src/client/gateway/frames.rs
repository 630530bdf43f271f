//! Messages on the wire of gRPC: a flag that says whether it is compressed, four bytes of length, the message. The
//! services never compress towards the gateway, which does not ask for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Code, Status, body::Body};

/// Bytes before each message.
const HEAD_BYTES: usize = 5;

/// Puts a message into its frame.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + message.len());
    framed.put_u8(0);
    // Longer ones do not come here: requests are limited to far less.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The answers to one call, as they arrive.
pub struct Answers {
    body: Body,
    buffer: BytesMut,
    /// When the caller stops waiting.
    deadline: Option<Instant>,
    /// How the call ended, once it did.
    ended: Option<Status>,
    /// The call counts as long as its answers are awaited.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Answers {
    pub fn of(
        response: Response<Body>,
        deadline: Option<Instant>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (head, body) = response.into_parts();
        let ended = Status::from_header_map(&head.headers);
        Self { body, buffer: BytesMut::new(), deadline, ended, _permit: permit }
    }

    /// The next message; `None` after the last one of a call that went well. Cancel-safe.
    ///
    /// # Errors
    /// The status of a call that did not, or the caller's deadline.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            if let Some(status) = &self.ended {
                return if status.code() == Code::Ok { Ok(None) } else { Err(status.clone()) };
            }
            let frame = within(self.deadline, self.body.frame()).await?;
            self.ended = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.buffer.put(data);
                        None
                    }
                    Err(frame) => frame.into_trailers().ok().and_then(|map| Status::from_header_map(&map)),
                },
                Some(Err(status)) => Some(status),
                None => Some(Status::internal("the answer ended without a status")),
            };
        }
    }

    /// A message that has arrived whole.
    fn take(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..HEAD_BYTES)?;
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        if self.buffer.len() < HEAD_BYTES + length {
            return None;
        }
        self.buffer.advance(HEAD_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// Waits as long as the caller does.
pub async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Status> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline, future)
            .await
            .map_err(|_| Status::deadline_exceeded("context deadline exceeded")),
    }
}
