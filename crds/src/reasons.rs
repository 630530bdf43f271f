//! The closed set of reasons: what conditions and events may say, what each means, and what to do.

/// Declares the set once, so that name, meaning and next step cannot drift apart.
macro_rules! reasons {
    ($($name:ident: $meaning:literal => $next:literal,)*) => {
        /// Why a condition has its value, or why an event was emitted. Stable: scripts may match on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason, in the order it is documented.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as it stands in a condition or an event.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What a human can do about it.
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }
        }
    };
}

reasons! {
    // The usual states of a cluster.
    Healthy: "Every wished-for member votes, is healthy and runs what the spec says." => "Nothing.",
    Settled: "Nothing is being changed and nothing is waited for." => "Nothing.",
    NotYetObserved: "The operator has not looked yet." => "Wait a moment.",
    Paused: "Reconciling is paused by spec.paused or the annotation kvnode.io/paused." => "Remove the pause when you are done.",
    InvalidSpec: "The spec asks for something that cannot be done." => "Change the field that the message names.",
    Deleting: "The object is being deleted." => "Nothing.",

    // Work on a cluster.
    Bootstrapping: "The first member is being created or the others are joining." => "Wait; the message names what for.",
    Restoring: "The first member's volume is being filled from a backup." => "Wait.",
    RestoreFailed: "The backup could not be restored." => "Fix what the message names; the restore is tried again. Or delete the cluster and name another backup.",
    ScalingUp: "Members are being added, one at a time, as learners first." => "Wait.",
    ScalingDown: "Members are being removed, one at a time, the highest ordinal first." => "Wait.",
    ReplacingMember: "A member that lost its volume is being replaced under the same name." => "Wait.",
    Rolling: "Members are being restarted, one at a time, leader last." => "Wait.",
    ExpandingVolumes: "Volumes are being grown." => "Wait; if it lasts, see the volume claim's events.",
    DeadlineExceeded: "A step has taken longer than it should." => "See what the message waits for and remove the obstacle.",
    ActionFailed: "The last action was refused or failed; it is tried again." => "See the message.",

    // What a cluster waits for.
    WaitingForPod: "A pod does not exist, does not run yet, or does not pass its readiness probe." => "See the pod's events.",
    ImagePullFailed: "An image cannot be pulled." => "Correct spec.image or spec.imagePullSecrets, or make the registry reachable.",
    PodUnschedulable: "No node takes a pod." => "See the message: free resources, or change spec.scheduling or spec.resources.",
    PodFailing: "A member's container ends again and again." => "Read its log: kubectl logs --previous.",
    StorageClassMissing: "The storage class of the spec does not exist, or there is no default one." => "Create it; the name cannot be changed on this cluster.",
    VolumePending: "A volume is not bound yet." => "See the claim's events.",
    WaitingForLearner: "A new member is catching up before it may vote." => "Wait.",
    WaitingForMember: "A member does not answer yet." => "See the pod's events and log.",
    WaitingForQuorum: "A change waits because it would leave too few members." => "Bring the members back that the message names.",
    WaitingForTerminations: "A pod is being ended." => "Wait.",

    // What can be wrong with a cluster.
    QuorumAvailable: "A linearizable read was answered." => "Nothing.",
    QuorumLost: "Too few voters can be reached to decide anything. Nothing is deleted while this lasts." => "Bring back the members that the message names.",
    Unreachable: "No member answers, so nothing is known." => "See the pods' events and logs.",
    MemberUnhealthy: "Some members are not healthy, the cluster still serves." => "See the members that the message names.",
    LeftoverIdentity: "Volumes of a former cluster of the same name are still there." => "Use another name, or delete the objects that the message names if their data is not needed.",
    IdentityUnreadable: "The cluster's identity record is gone or damaged while its volumes exist." => "Bring a member back, or restore the ConfigMap that the message names.",
    SeedVolumeLost: "The only member's volume is gone." => "Delete the cluster and restore it from a backup.",
    VolumeLost: "A member started with a blank volume." => "Nothing: it is replaced while quorum lasts.",
    ForeignMember: "The cluster has a member that is not one of its pods, or whose peer URL was changed." => "Do what the message says: put the URL back, or remove the member with etcdctl if it is not wanted.",
    ClusterIdMismatch: "A member answers with another cluster ID than the one on record." => "Do not write to it; find out whose volume it has.",
    AlarmRaised: "A member raised an alarm; NOSPACE stops writes." => "NOSPACE: raise spec.options.quotaBackendBytes or delete keys, compact, then etcdctl alarm disarm.",
    AccessDenied: "Authentication is enabled and the operator's user lacks the role root. The cluster serves, and is not repaired, scaled or backed up." => "Add the user and grant the role, as the message says.",
    ObjectNotOwned: "An object with a name the cluster needs belongs to someone else." => "Rename or delete it, or use another cluster name.",

    // Certificates.
    CertificatesValid: "Every certificate in use is valid." => "Nothing.",
    CertificatesIssued: "Certificates were issued or renewed." => "Nothing.",
    SecretMissing: "A Secret that the spec names does not exist." => "Create it.",
    SecretMalformed: "A Secret does not hold what it should." => "Correct the key that the message names.",
    CertificateExpiring: "A certificate of yours expires soon." => "Replace the Secret's content; members re-read it.",
    CertificateInvalid: "A certificate is expired, of another authority, or lacks a name or usage." => "Replace the Secret's content.",
    AuthorityReplaced: "The cluster's authority was replaced; both are trusted until certificates of the new one are in use." => "Wait; fetch the client Secret's ca.crt anew.",

    // Backups.
    BackupFresh: "The newest backup is as new as its schedule promises." => "Nothing.",
    BackupStale: "Two backups were due since the last one that succeeded, and neither has succeeded in time." => "See the newest EtcdBackup.",
    BackupFailing: "The newest backup failed." => "See the message.",
    NoSchedule: "No EtcdBackupSchedule names this cluster." => "Create one.",
    NoBackupYet: "A schedule exists, no backup has been due yet." => "Nothing.",
    Succeeded: "Done." => "Nothing.",
    Failed: "Given up." => "See the message; create another object to try again.",
    Running: "Under way." => "Wait.",
    JobFailed: "The Job ended with an error." => "See the message.",
    ClusterMissing: "The EtcdCluster does not exist." => "Create it, or correct clusterRef.",
    ClusterNotReady: "The cluster cannot be worked on now." => "See the cluster's conditions.",
    BackupMissing: "The EtcdBackup to restore from does not exist." => "Delete this cluster and create it with a bootstrap that names another backup: one made now is of today's data.",
    BackupNotReady: "The EtcdBackup to restore from has not succeeded." => "Wait for it.",
    StoredObjectKept: "The stored object could not be deleted and stays." => "Delete it by hand at the location the message names.",

    // Schedules.
    Scheduled: "The next backup has a time." => "Nothing.",
    Suspended: "The schedule is suspended." => "Set suspend to false.",
    UnknownTimeZone: "The time zone is not in the IANA database." => "Use a name such as Europe/Berlin or UTC.",
    MalformedSchedule: "The schedule cannot be read, or never comes." => "Use five cron fields, for example '0 3 * * *'.",
    BackupSkipped: "A backup was missed and is too late to be made." => "See startingDeadlineSeconds and why it was missed.",
    BackupCreated: "A backup was begun." => "Nothing.",
    BackupExpired: "A backup was deleted because newer ones replace it." => "Nothing.",

    // Events about members.
    ClusterCreated: "The first member was allowed to create the cluster." => "Nothing.",
    MemberAdded: "A member joined as a learner." => "Nothing.",
    MemberPromoted: "A learner became a voter." => "Nothing.",
    MemberRemoved: "A member was removed from the cluster." => "Nothing.",
    LeaderMoved: "Leadership was handed over." => "Nothing.",
    LeaderChanged: "Another member leads." => "Nothing.",
    PodRestarted: "A pod was deleted so that it starts again." => "Nothing.",
    VolumeQuarantined: "A volume was taken out of the cluster and kept." => "Delete it when its data is not needed.",
    Defragmented: "A member gave unused space back." => "Nothing.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_the_api_and_explain_themselves() {
        for reason in Reason::ALL {
            let name = reason.as_str();
            assert!(name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(reason.meaning().ends_with('.') && reason.next_step().contains('.'), "{name}");
        }
    }
}
