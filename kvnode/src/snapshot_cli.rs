//! `kvnode snapshot status` and `restore`: looks at a snapshot file, or makes a data directory of it, as `etcdutl` does.
//!
//! The files are `kvnode-storage`'s business and the ids `kvnode-mvcc`'s; here arguments become a plan, and results
//! become text. Results go to stdout; an error is one line on stderr.

use std::{process::ExitCode, sync::Arc};

use kvnode_mvcc::{
    MemberId,
    membership::{
        Member,
        id::{bootstrap_member_id, cluster_id},
        json::encode_member,
    },
};
use kvnode_proto::raftpb::ConfState;
use kvnode_raft::conf_change;
use kvnode_storage::{
    bolt::BoltError,
    identity::{HexId, IDENTITY_VERSION, Identity, Origin},
    layout::DataDir,
    restore::{RestoreError, RestorePlan, is_done, restore},
    snapshot_file::{self, SnapshotError, Trailer},
    status::{self, Status},
    vfs::{RealDisk, Vfs},
};
use thiserror::Error;

use crate::flags::{
    snapshot::{self, Output, Snapshot},
    url::Url,
};

/// Why a sub-command failed.
#[derive(Debug, Error)]
enum CliError {
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    #[error("{0}")]
    Bolt(#[from] BoltError),
    #[error("{0}")]
    Restore(#[from] RestoreError),
    #[error("the data directory {0} is not empty; name an empty or a new one with --data-dir")]
    NotEmpty(String),
}

/// Runs a sub-command to its exit code.
pub fn run(command: &Snapshot) -> ExitCode {
    let vfs: Arc<dyn Vfs> = Arc::new(RealDisk);
    let done = match command {
        Snapshot::Status(command) => show(&*vfs, command),
        Snapshot::Restore(command) => make(&vfs, command),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(vfs: &dyn Vfs, command: &snapshot::Status) -> Result<String, CliError> {
    // A file that ends with a hash must be the one that was hashed; etcdutl does not look, and shows damaged files.
    snapshot_file::verify(vfs, &command.file, Trailer::IfPresent)?;
    Ok(render(&status::status(vfs, &command.file)?, command.output))
}

fn render(status: &Status, output: Output) -> String {
    let cells = [
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        human_bytes(status.total_bytes),
        status.version.clone(),
    ];
    match output {
        Output::Simple => format!("{}\n", cells.join(", ")),
        Output::Table => table(&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"], &cells),
        Output::Json => format!(
            "{{\"hash\":{},\"revision\":{},\"totalKey\":{},\"totalSize\":{},\"version\":{}}}\n",
            status.hash,
            status.revision,
            status.total_keys,
            status.total_bytes,
            serde_json::Value::from(status.version.as_str()),
        ),
    }
}

/// Decimal units with two digits, as `etcdutl` prints sizes.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

fn table(titles: &[&str; 5], cells: &[String; 5]) -> String {
    let widths: Vec<usize> =
        titles.iter().zip(cells).map(|(title, cell)| title.len().max(cell.len())).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let head: String =
        titles.iter().zip(&widths).map(|(title, width)| format!("│ {title:^width$} ")).collect();
    let row: String = cells.iter().zip(&widths).map(|(cell, width)| format!("│ {cell:>width$} ")).collect();
    [rule("┌", "┬", "┐"), format!("{head}│\n"), rule("├", "┼", "┤"), format!("{row}│\n"), rule("└", "┴", "┘")]
        .concat()
}

fn make(vfs: &Arc<dyn Vfs>, command: &snapshot::Restore) -> Result<String, CliError> {
    let plan = plan(command);
    let (member, cluster) = (plan.identity.member_id, plan.identity.cluster_id);
    if command.unless_restored && is_done(&**vfs, &plan)? {
        return Ok(format!(
            "{} was restored before as member {member} ({}) of cluster {cluster}; it stays as it is\n",
            command.data_dir.display(),
            command.name,
        ));
    }
    let occupied = std::fs::read_dir(&command.data_dir).is_ok_and(|mut entries| entries.next().is_some());
    // What an operator's init container downloads may stand beside, but a member's data never may be written over.
    if occupied && command.data_dir.join("member").exists() {
        return Err(CliError::NotEmpty(command.data_dir.display().to_string()));
    }
    let bytes = restore(vfs, &plan)?;
    Ok(format!(
        "restored {} ({}) to {} as member {member} ({}) of cluster {cluster}\n",
        command.file.display(),
        human_bytes(bytes),
        command.data_dir.display(),
        command.name,
    ))
}

fn plan(command: &snapshot::Restore) -> RestorePlan {
    let token = &command.initial_cluster_token;
    let mut members: Vec<Member> = command
        .initial_cluster
        .iter()
        .map(|(name, urls)| {
            let peer_urls: Vec<String> = urls.iter().map(Url::to_string).collect();
            let id = bootstrap_member_id(&peer_urls, token);
            Member { id, name: name.clone(), peer_urls, ..Member::default() }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    let ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
    let own = members.iter().find(|member| member.name == command.name).map_or(0, |member| member.id.0);
    let mut rows: Vec<_> =
        members.iter().map(|member| (member.id.to_string().into(), encode_member(member).into())).collect();
    rows.sort();
    RestorePlan {
        snapshot: command.file.clone(),
        trailer: if command.skip_hash_check { Trailer::IfPresent } else { Trailer::Required },
        data_dir: DataDir::new(&command.data_dir),
        identity: Identity {
            version: IDENTITY_VERSION,
            cluster_uid: token.clone(),
            cluster_id: HexId(cluster_id(&ids).0),
            member_id: HexId(own),
            name: command.name.clone(),
            origin: Origin::Restored,
        },
        entries: (1..)
            .zip(&members)
            .map(|(index, member)| {
                let id = kvnode_raft::MemberId(member.id.0);
                conf_change::bootstrap_entry(index, id, encode_member(member).into())
            })
            .collect(),
        conf_state: ConfState { voters: ids.iter().map(|id| id.0).collect(), ..ConfState::default() },
        members: rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_etcdutls() {
        let status = Status {
            hash: 0xb7b9_80d1,
            revision: 20004,
            total_keys: 20000,
            total_bytes: 2_200_000,
            version: "3.7.0".into(),
        };
        assert_eq!(render(&status, Output::Simple), "b7b980d1, 20004, 20000, 2.2 MB, 3.7.0\n");
        let table = render(&status, Output::Table);
        assert_eq!(table.lines().nth(1), Some("│   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │"));
        assert_eq!(table.lines().nth(3), Some("│ b7b980d1 │    20004 │      20000 │     2.2 MB │   3.7.0 │"));
        let json: serde_json::Value = serde_json::from_str(&render(&status, Output::Json)).unwrap();
        assert_eq!((&json["totalKey"], &json["totalSize"]), (&20000.into(), &2_200_000.into()));
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (20_480, "20 kB"), (1_500_000, "1.5 MB")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
