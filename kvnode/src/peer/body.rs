//! Reading what another member sends, which must keep coming: a connection that stands still holds nothing for long.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time;

use super::limits;
use crate::tls::words;

/// Why a body could not be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("nothing came for {} s", limits::READ_TIMEOUT.as_secs())]
    Silent,
    #[error("reading: {}", words(.0))]
    Read(#[from] hyper::Error),
}

/// The next piece; `None` at the end.
pub(super) async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        let frame = time::timeout(limits::READ_TIMEOUT, body.frame()).await.map_err(|_| BodyError::Silent)?;
        let Some(frame) = frame.transpose()? else { return Ok(None) };
        if let Ok(piece) = frame.into_data()
            && !piece.is_empty()
        {
            return Ok(Some(piece));
        }
    }
}
