//! `operator delete-backup`: removes a stored snapshot. One that is gone already is a success.

use object_store::ObjectStoreExt;
use serde::Serialize;

use super::JobError;
use crate::cli::DeleteArgs;
use crate::store::{self, Doing, StoreError};

/// What a deletion leaves in the termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteResult {
    /// URL of what is gone.
    pub deleted: String,
}

/// Runs the command.
pub async fn run(args: DeleteArgs) -> Result<DeleteResult, JobError> {
    let target = store::open(&args.store)?;
    match target.store.delete(&target.path).await {
        Ok(()) => {}
        Err(error) => match target.explain(Doing::Deleting, error) {
            StoreError::NoObject { .. } => {}
            other => return Err(other.into()),
        },
    }
    tracing::info!(location = target.location, "deleted");
    Ok(DeleteResult { deleted: target.location })
}
