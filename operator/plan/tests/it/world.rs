//! A toy world that plans are applied to: pods, volumes and a cluster that behave like the real ones where
//! decisions depend on it, and nowhere else. Time passes only by `tick`.

use std::collections::{BTreeMap, BTreeSet};

use crds::cluster::{DeletionPolicy, EtcdClusterSpec};
use crds::names::{ClusterNames, TEMPLATE_HASH_ANNOTATION};
use crds::{EtcdBackup, EtcdCluster};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use operator_plan::action::{Action, Expect};
use operator_plan::identity::IdentityRecord;
use operator_plan::ids::{ClusterId, MemberId, Ordinal, initial_cluster_id};
use operator_plan::observed::{
    ClaimRef, IdentityView, JobOutcome, JobView, Member, MemberList, NodeView, Observed, PodPhase, PodRef,
    PodTrouble, PodView, ReadAnswer, ServingMember, Settings, StatefulSetView, StorageClassView, VolumePhase,
    VolumeView, quorum,
};
use operator_plan::ticket::{Ticket, TicketKind};
use operator_plan::{Failures, Plan, Reading, pki, plan_cluster_given};

pub const UID: &str = "3f1c7a52-0000-4000-8000-000000000001";

/// A member's process and the pod around it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: String,
    pub hash: String,
    pub ticket: Option<String>,
    /// Ticks until it runs.
    pub starts_in: u32,
    /// Ticks until it is gone, once it is being deleted.
    pub gone_in: Option<u32>,
    pub applied: u64,
    pub image: String,
}

/// A claim and what is written on its volume.
#[derive(Clone, Debug)]
pub struct Volume {
    pub uid: String,
    pub size: String,
    pub deleting: bool,
    pub data: Option<MemberId>,
    /// The EtcdCluster is among its owners.
    pub owned: bool,
}

/// Where an action is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing of it happens.
    Before,
    /// Its first half happens.
    Half,
}

/// Everything there is.
#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    pub cluster: EtcdCluster,
    pub identity: Option<(IdentityRecord, u64)>,
    pub secrets: BTreeMap<String, Secret>,
    pub set: Option<StatefulSetView>,
    /// The StatefulSet takes its claims along when it is deleted.
    pub set_takes_claims: bool,
    pub pods: BTreeMap<u32, Pod>,
    pub volumes: BTreeMap<u32, Volume>,
    pub members: Vec<Member>,
    pub cluster_id: Option<ClusterId>,
    pub leader: Option<MemberId>,
    pub log: u64,
    pub partitioned: BTreeSet<u32>,
    /// Ordinals whose readiness probe fails although the member takes part.
    pub unready: BTreeSet<u32>,
    pub bad_images: BTreeSet<String>,
    pub restore_job: Option<JobView>,
    pub restore_job_ends_in: u32,
    pub restore_fails: Option<String>,
    pub backups: Vec<EtcdBackup>,
    pub storage_class: StorageClassView,
    pub creations: u32,
    pub quarantined: Vec<String>,
    pub removed: BTreeSet<MemberId>,
    pub cut: Option<Cut>,
    /// The storage class does not let volumes grow.
    pub fixed_size: bool,
    pub failures: Failures,
    /// Authentication is on, and the operator is nobody.
    pub denies: bool,
    serial: u64,
}

impl World {
    pub fn new(spec: EtcdClusterSpec) -> Self {
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let cluster = EtcdCluster {
            metadata: ObjectMeta {
                name: Some("core".into()),
                namespace: Some("db".into()),
                uid: Some(UID.into()),
                generation: Some(1),
                creation_timestamp: Some(Time(now)),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        };
        Self {
            now,
            cluster,
            identity: None,
            secrets: BTreeMap::new(),
            set: None,
            set_takes_claims: false,
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            members: Vec::new(),
            cluster_id: None,
            leader: None,
            log: 0,
            partitioned: BTreeSet::new(),
            unready: BTreeSet::new(),
            bad_images: BTreeSet::new(),
            restore_job: None,
            restore_job_ends_in: 0,
            restore_fails: None,
            backups: Vec::new(),
            storage_class: StorageClassView::Usable,
            creations: 0,
            quarantined: Vec::new(),
            removed: BTreeSet::new(),
            cut: None,
            fixed_size: false,
            failures: Failures::default(),
            denies: false,
            serial: 100,
        }
    }

    pub fn names(&self) -> ClusterNames {
        ClusterNames::new("db", "core")
    }

    fn next(&mut self, what: &str) -> String {
        self.serial += 1;
        format!("{what}-{}", self.serial)
    }

    // --- the cluster of members ---

    fn runs(&self, ordinal: u32) -> bool {
        self.pods
            .get(&ordinal)
            .is_some_and(|p| p.starts_in == 0 && p.gone_in.is_none() && !self.bad_images.contains(&p.image))
    }

    fn data(&self, ordinal: u32) -> Option<MemberId> {
        self.volumes.get(&ordinal).and_then(|v| v.data)
    }

    fn ordinal_of(&self, member: &Member) -> Option<u32> {
        // A process answers where it is, whatever its peers are told.
        let names = self.names();
        member.ordinal(&names).map(|o| o.0).or_else(|| names.ordinal_of_pod(&member.name))
    }

    /// Its process runs on its data and others hear it.
    pub fn alive(&self, member: &Member) -> bool {
        let Some(ordinal) = self.ordinal_of(member) else { return false };
        self.runs(ordinal) && self.data(ordinal) == Some(member.id) && !self.partitioned.contains(&ordinal)
    }

    pub fn voters(&self) -> Vec<&Member> {
        self.members.iter().filter(|m| !m.is_learner).collect()
    }

    pub fn has_quorum(&self) -> bool {
        let voters = self.voters();
        let alive = voters.iter().filter(|m| self.alive(m)).count();
        !voters.is_empty() && alive >= quorum(voters.len())
    }

    /// Voters whose data is intact, reachable or not, without the given ordinal.
    pub fn intact_without(&self, ordinal: u32) -> usize {
        let voters = self.voters().into_iter();
        voters
            .filter(|m| self.ordinal_of(m).is_some_and(|o| o != ordinal && self.data(o) == Some(m.id)))
            .count()
    }

    fn elect(&mut self) {
        if !self.has_quorum() {
            self.leader = None;
            return;
        }
        let leads = self.leader.and_then(|id| self.voters().into_iter().find(|m| m.id == id).cloned());
        if leads.is_none_or(|m| !self.alive(&m)) {
            self.leader = self.voters().into_iter().find(|m| self.alive(m)).map(|m| m.id);
        }
    }

    // --- time ---

    pub fn tick(&mut self) {
        self.now = self.now.checked_add(SignedDuration::from_secs(2)).unwrap();
        self.run_stateful_set();
        for pod in self.pods.values_mut() {
            pod.starts_in = pod.starts_in.saturating_sub(1);
            pod.gone_in = pod.gone_in.map(|n| n.saturating_sub(1));
        }
        self.pods.retain(|_, p| p.gone_in != Some(0));
        let used: BTreeSet<u32> = self.pods.keys().copied().collect();
        self.volumes.retain(|o, v| !v.deleting || used.contains(o));
        self.run_restore();
        self.start_blank_nodes();
        self.elect();
        if self.leader.is_some() {
            self.log += 10;
        }
        self.replicate();
    }

    fn run_stateful_set(&mut self) {
        let Some(set) = self.set.clone() else { return };
        for ordinal in 0..set.replicas {
            if !self.volumes.contains_key(&ordinal) {
                let uid = self.next("claim");
                let size = set.template_storage.clone().unwrap_or_default();
                let volume = Volume { uid, size, deleting: false, data: None, owned: false };
                self.volumes.insert(ordinal, volume);
            }
            let blocked = self.volumes.get(&ordinal).is_some_and(|v| v.deleting);
            if !self.pods.contains_key(&ordinal) && !blocked {
                let uid = self.next("pod");
                let hash = set.template_hash.clone().unwrap_or_default();
                let image = self.cluster.spec.image.clone().unwrap_or_default();
                let pod = Pod { uid, hash, ticket: None, starts_in: 2, gone_in: None, applied: 0, image };
                self.pods.insert(ordinal, pod);
            }
        }
        for (ordinal, pod) in &mut self.pods {
            if *ordinal >= set.replicas && pod.gone_in.is_none() {
                pod.gone_in = Some(2);
            }
        }
    }

    fn run_restore(&mut self) {
        let Some(job) = &mut self.restore_job else { return };
        if job.outcome != JobOutcome::Running {
            return;
        }
        self.restore_job_ends_in = self.restore_job_ends_in.saturating_sub(1);
        if self.restore_job_ends_in > 0 {
            return;
        }
        job.ended_at = Some(self.now);
        if let Some(error) = &self.restore_fails {
            job.outcome = JobOutcome::Failed;
            job.said = Some(error.clone());
            return;
        }
        job.outcome = JobOutcome::Succeeded;
        // What a former Job restored is left as it is.
        if self.volumes.get(&0).is_some_and(|volume| volume.data.is_some()) {
            return;
        }
        let url = self.names().peer_url(0);
        let id = operator_plan::ids::initial_member_id(std::slice::from_ref(&url), UID);
        if let Some(volume) = self.volumes.get_mut(&0) {
            volume.data = Some(id);
        }
        let name = self.names().pod(0);
        self.members = vec![Member { id, name, peer_urls: vec![url], is_learner: false }];
        self.cluster_id = Some(initial_cluster_id(&[id]));
        self.creations += 1;
    }

    fn start_blank_nodes(&mut self) {
        for ordinal in self.pods.keys().copied().collect::<Vec<_>>() {
            if !self.runs(ordinal) || self.data(ordinal).is_some() {
                continue;
            }
            let Some(pod) = self.pods.get(&ordinal) else { continue };
            let Some(ticket) = pod.ticket.as_deref().and_then(Ticket::from_json) else { continue };
            // The node refuses what is not for it.
            if ticket.pod_uid != pod.uid || ticket.cluster_uid != UID {
                continue;
            }
            let id = ticket.member().unwrap();
            let name = self.names().pod(ordinal);
            match ticket.kind {
                TicketKind::Create => {
                    self.creations += 1;
                    let peer_urls = vec![self.names().peer_url(ordinal)];
                    self.members = vec![Member { id, name, peer_urls, is_learner: false }];
                    self.cluster_id = Some(initial_cluster_id(&[id]));
                }
                TicketKind::Join { .. } => {
                    if let Some(member) = self.members.iter_mut().find(|m| m.id == id) {
                        member.name = name;
                    }
                }
            }
            if let Some(volume) = self.volumes.get_mut(&ordinal) {
                volume.data = Some(id);
            }
        }
    }

    fn replicate(&mut self) {
        let Some(_) = self.leader else { return };
        let alive: Vec<u32> =
            self.members.iter().filter(|m| self.alive(m)).filter_map(|m| self.ordinal_of(m)).collect();
        for ordinal in alive {
            let Some(pod) = self.pods.get_mut(&ordinal) else { continue };
            let gap = self.log - pod.applied.min(self.log);
            pod.applied += gap.min(5000);
        }
    }

    // --- what the operator sees and does ---

    pub fn observe(&self) -> Observed {
        let names = self.names();
        let nodes = self.pods.iter().filter_map(|(o, p)| self.node(*o, p)).collect();
        let readable = self.has_quorum();
        let lost = "context deadline exceeded".to_owned();
        let list =
            MemberList { cluster_id: self.cluster_id.unwrap_or(ClusterId(0)), members: self.members.clone() };
        Observed {
            now: self.now,
            settings: settings(),
            cluster: self.cluster.clone(),
            identity: match &self.identity {
                None => IdentityView::Absent,
                Some((record, version)) => {
                    IdentityView::Present { record: record.clone(), resource_version: version.to_string() }
                }
            },
            stateful_set: self.set.clone(),
            pods: self.pods.iter().map(|(o, p)| self.pod_view(*o, p)).collect(),
            volumes: self.volumes.iter().map(|(o, v)| volume_view(&names, *o, v)).collect(),
            secrets: self.secrets.clone(),
            restore_job: self.restore_job.clone(),
            storage_class: self.storage_class.clone(),
            members: if readable {
                Reading::Fresh(list)
            } else {
                Reading::Unreachable { error: lost.clone() }
            },
            nodes,
            linearizable_read: if readable {
                Reading::Fresh(if self.denies { ReadAnswer::Denied } else { ReadAnswer::Value })
            } else {
                Reading::Unreachable { error: lost }
            },
            backups: self.backups.clone(),
            schedules: Vec::new(),
            failures: self.failures.clone(),
        }
    }

    fn node(&self, ordinal: u32, pod: &Pod) -> Option<(Ordinal, Reading<NodeView>)> {
        if !self.runs(ordinal) {
            return None;
        }
        let gone = |error: &str| Some((Ordinal(ordinal), Reading::Unreachable { error: error.to_owned() }));
        if self.partitioned.contains(&ordinal) {
            return gone("connection timed out");
        }
        let Some(id) = self.data(ordinal) else {
            return Some((Ordinal(ordinal), Reading::Fresh(NodeView::AwaitingTicket)));
        };
        let Some(member) = self.members.iter().find(|m| m.id == id) else {
            return gone("connection refused");
        };
        let leader = self.leader.filter(|_| self.has_quorum());
        let serving = ServingMember {
            member_id: id,
            cluster_id: self.cluster_id.unwrap_or(ClusterId(0)),
            leader,
            raft_index: if leader == Some(id) { self.log } else { pod.applied },
            raft_applied_index: pod.applied,
            is_learner: member.is_learner,
            version: "3.7.0".into(),
            errors: Vec::new(),
        };
        Some((Ordinal(ordinal), Reading::Fresh(NodeView::Serving(serving))))
    }

    fn pod_view(&self, ordinal: u32, pod: &Pod) -> PodView {
        let removed = self.data(ordinal).is_some_and(|id| self.removed.contains(&id));
        let trouble = if self.bad_images.contains(&pod.image) {
            Some(PodTrouble::ImagePull { image: pod.image.clone(), message: "not found".into() })
        } else if removed && pod.starts_in == 0 {
            let message = "back-off restarting failed container: exit code 0".into();
            Some(PodTrouble::Failing { container: "kvnode".into(), message, exit_code: Some(0) })
        } else {
            None
        };
        PodView {
            ordinal: Ordinal(ordinal),
            reference: PodRef {
                name: self.names().pod(ordinal),
                uid: pod.uid.clone(),
                resource_version: self.serial.to_string(),
            },
            owner_uid: self.set.as_ref().map(|s| s.uid.clone()),
            phase: if self.runs(ordinal) || pod.gone_in.is_some() {
                PodPhase::Running
            } else {
                PodPhase::Pending
            },
            ready: self.runs(ordinal) && self.data(ordinal).is_some() && !self.unready.contains(&ordinal),
            terminating: pod.gone_in.is_some(),
            created_at: None,
            node: None,
            template_hash: Some(pod.hash.clone()),
            ticket: pod.ticket.clone(),
            trouble,
        }
    }

    /// One pass of the operator: plan, apply, act, report. Returns the plan it followed.
    pub fn pass(&mut self) -> Plan {
        let plan = plan(&self.observe());
        self.apply(&plan);
        if let Some(action) = &plan.action {
            // The guard: look again, and act only if the same is still wanted.
            let again = self::plan(&self.observe()).action;
            if again.as_ref().is_some_and(|a| a.same_as(action)) {
                self.act(&again.unwrap());
            }
        }
        self.cluster.status = Some(plan.report.status.clone());
        plan
    }

    pub fn apply(&mut self, plan: &Plan) {
        let Some(objects) = &plan.objects else { return };
        for change in &objects.claim_owners {
            assert_eq!(change.owner.uid, UID, "no other owner is touched");
            let volume = self.volumes.values_mut().find(|v| v.uid == change.claim.uid).expect("a claim");
            assert_ne!(volume.owned, change.owned, "nothing is written that is so already");
            volume.owned = change.owned;
        }
        if let Some(wanted) = &objects.stateful_set {
            let view = StatefulSetView::from_object(wanted);
            let uid = self.set.as_ref().map(|s| s.uid.clone()).unwrap_or_else(|| self.next("set"));
            let hash = wanted.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
            let hash = hash.annotations.as_ref().unwrap()[TEMPLATE_HASH_ANNOTATION].clone();
            if let Some(before) = &self.set {
                assert_eq!(before.template_storage, view.template_storage, "Kubernetes refuses to change it");
            }
            let retention = wanted.spec.as_ref().unwrap().persistent_volume_claim_retention_policy.as_ref();
            self.set_takes_claims = retention.unwrap().when_deleted.as_deref() == Some("Delete");
            self.set = Some(StatefulSetView { uid, template_hash: Some(hash), ..view });
        }
        if objects.seed_claim.is_some() && !self.volumes.contains_key(&0) {
            let uid = self.next("claim");
            let size = self.cluster.spec.storage.size.clone();
            self.volumes.insert(0, Volume { uid, size, deleting: false, data: None, owned: false });
        }
        if let Some(job) = &objects.restore_job
            && self.restore_job.is_none()
        {
            self.restore_job = Some(JobView::from_objects(job, &[]));
            self.restore_job.as_mut().unwrap().uid = self.next("job");
            self.restore_job_ends_in = 3;
        }
    }

    pub fn act(&mut self, action: &Action) {
        self.check_before(action);
        let cut = self.cut.take();
        if cut == Some(Cut::Before) {
            return;
        }
        if matches!(action, Action::ExpandVolume { .. }) && self.fixed_size {
            self.failures.failed(action, self.now, "the storage class does not allow it");
            return;
        }
        self.failures.succeeded(action);
        let half = cut == Some(Cut::Half);
        let quorum_before = self.has_quorum();
        match action {
            Action::RecordIdentity { record, expect } => self.record(record, expect),
            Action::GrantCreate { record, expect, pod, ticket } => {
                self.record(record, expect);
                if !half {
                    self.give_ticket(pod, ticket.clone());
                }
            }
            Action::AddLearner { ordinal, pod, peer_url, cluster_uid, cluster_id } => {
                assert!(self.has_quorum(), "MemberAdd needs quorum");
                assert_eq!(Some(*cluster_id), self.cluster_id);
                assert!(self.members.iter().all(|m| !m.is_learner), "one learner at a time");
                let id = MemberId(0x1000 + self.serial);
                self.serial += 1;
                let peer_urls = vec![peer_url.clone()];
                self.members.push(Member { id, name: String::new(), peer_urls, is_learner: true });
                let list = MemberList { cluster_id: *cluster_id, members: self.members.clone() };
                let name = self.names().pod(ordinal.0);
                if !half {
                    self.give_ticket(pod, Ticket::join(cluster_uid, &pod.uid, id, &name, &list).to_json());
                }
            }
            Action::Promote { member } => {
                let found = self.members.iter_mut().find(|m| m.id == member.id).expect("a member");
                assert!(found.is_learner, "only a learner is promoted");
                found.is_learner = false;
            }
            Action::RemoveMember { member, .. } => {
                let found = self.members.iter().find(|m| m.id == member.id).expect("a member");
                assert!(found.is_learner || self.voters().len() > 1, "the last voter is never removed");
                self.members.retain(|m| m.id != member.id);
                self.removed.insert(member.id);
                self.elect();
            }
            Action::MoveLeader { to, .. } => self.leader = Some(to.id),
            Action::DeletePod { pod, .. } => self.delete_pod(pod),
            Action::QuarantineVolume { claim, pod, ordinal } => {
                let volume = self.volumes.get_mut(&ordinal.0).expect("a claim");
                assert_eq!(volume.uid, claim.uid, "UID precondition");
                volume.deleting = true;
                self.quarantined.push(claim.uid.clone());
                if let (Some(pod), false) = (pod, half) {
                    self.delete_pod(pod);
                }
            }
            Action::ExpandVolume { claim, size } => {
                let volume = self.volumes.values_mut().find(|v| v.uid == claim.uid).expect("a claim");
                volume.size = size.clone();
            }
            Action::DeleteRestoreJob { uid, .. } => {
                assert_eq!(self.restore_job.as_ref().map(|j| &j.uid), Some(uid));
                self.restore_job = None;
            }
        }
        self.check_after(action, quorum_before);
    }

    /// What must hold of every action, whatever the planner thought.
    fn check_before(&self, action: &Action) {
        let learners = self.members.iter().filter(|m| m.is_learner).count();
        assert!(learners <= 1, "one change at a time");
        match action {
            Action::GrantCreate { .. } => {
                assert_eq!(self.creations, 0, "a cluster is created once");
                assert!(self.members.is_empty());
            }
            Action::DeletePod { pod, .. } => {
                let (ordinal, _) = self.pods.iter().find(|(_, p)| p.uid == pod.uid).expect("the very pod");
                let data = self.data(*ordinal);
                let works = self.runs(*ordinal) && self.members.iter().any(|m| Some(m.id) == data);
                assert!(!works || self.has_quorum(), "nothing that runs is deleted while quorum is absent");
            }
            Action::RemoveMember { member, .. } => {
                assert!(self.has_quorum(), "members are removed by quorum only");
                let found = self.members.iter().find(|m| m.id == member.id).expect("a member");
                assert_eq!(
                    found.ordinal(&self.names()),
                    Some(member.ordinal),
                    "ID and ordinal belong together"
                );
                assert_ne!(self.leader, Some(member.id), "a leader is never removed without a transfer");
            }
            Action::QuarantineVolume { ordinal, .. } => {
                let data = self.data(ordinal.0);
                let used = self.members.iter().any(|m| Some(m.id) == data);
                assert!(!used, "the volume of a member is never taken from it");
            }
            Action::Promote { member } => {
                let ordinal = member.ordinal.0;
                let behind = self.log - self.pods.get(&ordinal).map_or(0, |p| p.applied.min(self.log));
                assert!(behind <= 1000, "only a learner that caught up is promoted");
            }
            Action::RecordIdentity { .. }
            | Action::AddLearner { .. }
            | Action::MoveLeader { .. }
            | Action::ExpandVolume { .. }
            | Action::DeleteRestoreJob { .. } => {}
        }
    }

    fn check_after(&self, action: &Action, quorum_before: bool) {
        if quorum_before && self.voters().len() > 1 {
            assert!(self.has_quorum(), "our own hand took quorum away: {action}");
        }
        assert!(self.creations <= 1, "a cluster is created once");
    }

    fn record(&mut self, record: &IdentityRecord, expect: &Expect) {
        let version = self.identity.as_ref().map(|(_, v)| *v);
        match (expect, version) {
            (Expect::Absent, None) => {}
            (Expect::Version(expected), Some(have)) => assert_eq!(*expected, have.to_string()),
            (expect, have) => panic!("compare and swap: expected {expect:?}, there is {have:?}"),
        }
        self.identity = Some((record.clone(), version.unwrap_or(0) + 1));
    }

    fn give_ticket(&mut self, pod: &PodRef, ticket: String) {
        let found = self.pods.values_mut().find(|p| p.uid == pod.uid).expect("UID precondition");
        found.ticket = Some(ticket);
    }

    fn delete_pod(&mut self, pod: &PodRef) {
        let found = self.pods.values_mut().find(|p| p.uid == pod.uid).expect("UID precondition");
        found.gone_in = Some(2);
        self.elect();
    }

    // --- faults ---

    pub fn kill(&mut self, ordinal: u32) {
        if let Some(pod) = self.pods.get_mut(&ordinal) {
            pod.gone_in.get_or_insert(1);
        }
        self.elect();
    }

    /// The volume of an ordinal is blank from now on, and its process starts anew.
    pub fn wipe(&mut self, ordinal: u32) {
        if let Some(volume) = self.volumes.get_mut(&ordinal) {
            volume.data = None;
        }
        self.kill(ordinal);
    }

    /// The claim of an ordinal is deleted and made anew, as when its disk is gone.
    pub fn lose_claim(&mut self, ordinal: u32) {
        self.wipe(ordinal);
        self.volumes.remove(&ordinal);
    }

    /// Somebody tells the members another URL of a voter; it reaches the same pod. (With a learner that nobody knows
    /// etcd would refuse the next one.)
    pub fn update_url(&mut self, ordinal: u32) {
        let url = self.names().peer_url(ordinal);
        let updated = url.replace(".svc:", ".svc.cluster.local:");
        if self.members.iter().any(|m| m.peer_urls.contains(&updated)) {
            return;
        }
        for member in self.members.iter_mut().filter(|m| m.peer_urls.contains(&url) && !m.is_learner) {
            member.peer_urls = vec![updated.clone()];
        }
    }

    /// Somebody puts the URL back; or, if the pod has not that member's data any more, removes the member.
    pub fn put_url_back(&mut self) {
        let names = self.names();
        let misplaced = self.members.iter().find(|m| m.ordinal(&names).is_none() && !m.is_learner);
        let Some((id, ordinal)) = misplaced.and_then(|m| Some((m.id, self.ordinal_of(m)?))) else { return };
        if self.data(ordinal) != Some(id) {
            self.members.retain(|m| m.id != id);
            self.removed.insert(id);
        } else if let Some(member) = self.members.iter_mut().find(|m| m.id == id) {
            member.peer_urls = vec![names.peer_url(ordinal)];
        }
    }

    /// Somebody deletes the StatefulSet and leaves its pods.
    pub fn delete_set(&mut self) {
        self.set = None;
        let taken = std::mem::take(&mut self.set_takes_claims);
        self.volumes.values_mut().for_each(|volume| volume.deleting |= taken);
    }

    /// Somebody deletes the EtcdCluster: garbage collection takes along what it owns.
    pub fn delete_cluster(&mut self) {
        self.delete_set();
        self.pods.keys().copied().collect::<Vec<_>>().into_iter().for_each(|ordinal| self.kill(ordinal));
        self.volumes.values_mut().for_each(|volume| volume.deleting |= volume.owned);
    }

    /// Somebody says what is to become of the volumes.
    pub fn deletion_policy(&mut self, policy: DeletionPolicy) {
        self.cluster.spec.deletion_policy = policy;
        self.cluster.metadata.generation = self.cluster.metadata.generation.map(|g| g + 1);
    }

    /// Somebody scales the StatefulSet itself.
    pub fn scale_set(&mut self, replicas: u32) {
        if let Some(set) = &mut self.set {
            set.replicas = replicas;
        }
    }

    pub fn scale(&mut self, replicas: i32) {
        self.cluster.spec.replicas = replicas;
        self.cluster.metadata.generation = self.cluster.metadata.generation.map(|g| g + 1);
    }
}

fn volume_view(names: &ClusterNames, ordinal: u32, volume: &Volume) -> VolumeView {
    VolumeView {
        ordinal: Ordinal(ordinal),
        reference: ClaimRef {
            name: names.claim(ordinal),
            uid: volume.uid.clone(),
            resource_version: "1".into(),
        },
        phase: VolumePhase::Bound,
        terminating: volume.deleting,
        requested: Some(volume.size.clone()),
        created_at: None,
        owners: if volume.owned { vec![UID.to_owned()] } else { Vec::new() },
    }
}

pub fn settings() -> Settings {
    Settings {
        node_image: "kvnode:test".into(),
        operator_image: "operator:test".into(),
        node_image_pull_policy: None,
        operator_image_pull_policy: None,
        dns_domain: "cluster.local".into(),
    }
}

/// The plan, with the certificates taken to be good: what is checked about them has its own tests.
pub fn plan(observed: &Observed) -> Plan {
    plan_cluster_given(observed, |_| pki::CertificatesPlan {
        expires: Some("2027-02-21T06:00:00Z".parse().unwrap()),
        ..pki::CertificatesPlan::default()
    })
}

/// The smallest spec, with the defaults that admission fills in.
pub fn spec(replicas: i32) -> EtcdClusterSpec {
    serde_json::from_value(serde_json::json!({ "replicas": replicas })).unwrap()
}
