//! The NOSPACE alarm: raised by the member that finds its store full, it has all of them refuse what makes theirs grow.

use kvnode_mvcc::{MemberId, View};
use kvnode_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use tracing::warn;

/// What raises it for `member`, and a warning if it does not stand yet.
pub(crate) fn alarm(view: &View, member: MemberId) -> AlarmRequest {
    if !stands(view) {
        warn!(
            alarm = "NOSPACE",
            "the database is full: raising an alarm; compact, defragment and disarm it, or raise --quota-backend-bytes"
        );
    }
    let action = AlarmAction::Activate as i32;
    AlarmRequest { action, member_id: member.0, alarm: AlarmType::Nospace as i32 }
}

/// Whether any member has raised it.
pub(crate) fn stands(view: &View) -> bool {
    !view.alarms(AlarmType::Nospace).is_empty()
}
