//! Condition types of all kinds, and the one way to change a condition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::reasons::Reason;
use crate::units::bounded;

/// Longest message kept in a condition; the API allows 32768, a table wants far less.
pub const MESSAGE_MAX: usize = 1024;

/// What a condition is about. Each is a state: `True` is the wished-for value except for `Progressing` and
/// `Degraded`, where `False` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Summary: the object is what its spec says and works. `kubectl wait --for=condition=Ready` waits on it.
    Ready,
    /// A recent linearizable read was answered: the cluster has quorum and serves.
    Available,
    /// The operator is changing something, or waiting for something that has to happen first.
    Progressing,
    /// Something is broken or missing; the message says what to do.
    Degraded,
    /// Every certificate in use is present, well-formed, trusted and not about to expire.
    TLSReady,
    /// The newest scheduled backup is there and not older than its schedule promises.
    BackupHealthy,
}

impl ConditionType {
    /// Every type, in the order status lists them.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Available,
        Self::Progressing,
        Self::Degraded,
        Self::TLSReady,
        Self::BackupHealthy,
    ];

    /// The name as it stands in `status.conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::TLSReady => "TLSReady",
            Self::BackupHealthy => "BackupHealthy",
        }
    }
}

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known (yet, or any more).
    Unknown,
}

impl ConditionStatus {
    /// The value as it stands in `status.conditions[].status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition should say now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// Which condition.
    pub type_: ConditionType,
    /// Its value.
    pub status: ConditionStatus,
    /// Why, from the closed set.
    pub reason: Reason,
    /// Why, for a human: names the thing and the next step.
    pub message: String,
}

/// Whether a condition's value changed, so that the caller knows to emit an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// `status` differs from before, or the condition is new.
    Flipped,
    /// Same value; reason or message may differ.
    Same,
}

/// Sets a condition in the list; `lastTransitionTime` becomes `now` only when the value flips.
///
/// The list stays sorted by first appearance, so an unchanged pass yields an identical list.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    new: NewCondition,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Transition {
    let NewCondition { type_, status, reason, message } = new;
    let message = bounded(&message, MESSAGE_MAX);
    let (type_, status) = (type_.as_str(), status.as_str().to_owned());
    let reason = reason.as_str().to_owned();
    let Some(current) = conditions.iter_mut().find(|c| c.type_ == type_) else {
        conditions.push(Condition {
            last_transition_time: Time(whole_seconds(now)),
            message,
            observed_generation,
            reason,
            status,
            type_: type_.to_owned(),
        });
        return Transition::Flipped;
    };
    let flipped = current.status != status;
    if flipped {
        current.last_transition_time = Time(whole_seconds(now));
        current.status = status;
    }
    current.reason = reason;
    current.message = message;
    current.observed_generation = observed_generation;
    if flipped { Transition::Flipped } else { Transition::Same }
}

/// The condition of a type, if it was ever written.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// True if the condition is there with this status.
pub fn is(conditions: &[Condition], type_: ConditionType, status: ConditionStatus) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == status.as_str())
}

/// Kubernetes keeps times in whole seconds: a fraction would come back changed and look like a difference.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, message: &str) -> NewCondition {
        NewCondition {
            type_: ConditionType::Ready,
            status,
            reason: Reason::Healthy,
            message: message.to_owned(),
        }
    }

    #[test]
    fn transition_time_moves_only_when_the_value_flips() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut list = Vec::new();
        assert_eq!(
            set_condition(&mut list, ready(ConditionStatus::False, "a"), Some(1), at(10)),
            Transition::Flipped
        );
        assert_eq!(
            set_condition(&mut list, ready(ConditionStatus::False, "b"), Some(2), at(20)),
            Transition::Same
        );
        assert_eq!(list[0].last_transition_time.0, at(10));
        assert_eq!((list[0].message.as_str(), list[0].observed_generation), ("b", Some(2)));
        assert_eq!(
            set_condition(&mut list, ready(ConditionStatus::True, "b"), Some(2), at(30)),
            Transition::Flipped
        );
        assert_eq!(list[0].last_transition_time.0, at(30));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut list = Vec::new();
        let now = Timestamp::UNIX_EPOCH;
        set_condition(&mut list, ready(ConditionStatus::True, &"x".repeat(5000)), None, now);
        assert_eq!(list[0].message.chars().count(), MESSAGE_MAX);
    }
}
