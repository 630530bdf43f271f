//! Alarms: facts about members that make the whole cluster refuse work until somebody disarms them (etcd:
//! `server/etcdserver/api/v3alarm`, `server/etcdserver/apply/{capped,corrupt}.go`).

use kvnode_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction};

use crate::ids::MemberId;

/// Alarms raised and not disarmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    raised: imbl::OrdSet<(MemberId, i32)>,
}

impl Alarms {
    /// Whether any member raised `alarm`.
    pub(crate) fn any(&self, alarm: AlarmType) -> bool {
        self.raised.iter().any(|(_, raised)| *raised == alarm as i32)
    }

    /// Alarms of one type, or all for `None`, by member.
    pub(crate) fn list(&self, wanted: i32) -> Vec<AlarmMember> {
        let of_type = |alarm: i32| wanted == AlarmType::None as i32 || alarm == wanted;
        self.raised.iter().filter(|(_, alarm)| of_type(*alarm)).map(|entry| to_message(*entry)).collect()
    }

    pub(crate) fn insert(&mut self, alarm: &AlarmMember) {
        self.raised.insert((MemberId(alarm.member_id), alarm.alarm));
    }

    /// Asks, raises or disarms. Answers the alarms concerned: none if there was nothing to disarm.
    pub(crate) fn apply(&mut self, request: &AlarmRequest) -> Vec<AlarmMember> {
        let entry = (MemberId(request.member_id), request.alarm);
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(request.alarm),
            Ok(AlarmAction::Activate) if request.alarm != AlarmType::None as i32 => {
                self.raised.insert(entry);
                vec![to_message(entry)]
            }
            Ok(AlarmAction::Deactivate) if self.raised.remove(&entry).is_some() => vec![to_message(entry)],
            _ => Vec::new(),
        }
    }
}

fn to_message((member, alarm): (MemberId, i32)) -> AlarmMember {
    AlarmMember { member_id: member.0, alarm }
}
