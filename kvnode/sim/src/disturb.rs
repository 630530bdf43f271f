//! Who makes trouble, and who administers the cluster meanwhile.

use kvnode_mvcc::{MemberId as StoreMember, membership::json};
use kvnode_proto::raftpb::{ConfChange, ConfChangeType};
use kvnode_raft::{MemberId, Role};
use kvnode_storage::vfs::CrashPlan;

use crate::{
    machine,
    network::Weather,
    oracle::Judgement,
    sim::{Event, MILLISECOND, SECOND, Sim},
};

/// One piece of trouble, and when the next one comes.
pub(crate) fn disturb(sim: &mut Sim) -> Judgement {
    if sim.healed {
        return Ok(());
    }
    let delay = sim.random.between(50 * MILLISECOND, 1500 * MILLISECOND);
    sim.after(delay, Event::Disturb);
    let ids: Vec<u64> = sim.machines.iter().filter(|(_, m)| m.process.is_some()).map(|(id, _)| *id).collect();
    let Some(id) = sim.random.pick(&ids) else { return Ok(()) };
    // Leaders are where it hurts.
    let id = if sim.random.chance(300) { sim.leader().unwrap_or(id) } else { id };
    match sim.random.below(14) {
        0..=1 => {
            sim.stats.kills += 1;
            sim.note(|| format!("m{id} is killed"));
            sim.stop(id);
            come_back(sim, id);
        }
        2..=3 => {
            sim.stats.power_cuts += 1;
            sim.note(|| format!("m{id} loses power"));
            sim.cut_power(id);
            come_back(sim, id);
        }
        4..=6 => {
            let after = sim.random.below(20);
            let plan = if sim.random.chance(500) {
                CrashPlan::AtSync(after / 3)
            } else {
                CrashPlan::AtChange(after)
            };
            sim.machine(id).disk.arm(plan);
        }
        7..=8 => partition(sim, id),
        9 => {
            sim.note(|| "the network heals".to_owned());
            sim.network.heal();
        }
        10 => {
            let until = sim.now + sim.random.between(SECOND / 2, 5 * SECOND);
            sim.note(|| format!("m{id} is paused"));
            sim.machine(id).paused_until = until;
        }
        11 => sim.network.weather = Weather::draw(&mut sim.random),
        12 => {
            // A leader has to answer for its disk.
            let id = if sim.random.chance(800) { sim.leader().unwrap_or(id) } else { id };
            let until = sim.now + sim.random.between(SECOND / 2, 5 * SECOND);
            sim.note(|| format!("the disk of m{id} hangs"));
            let machine = sim.machine(id);
            machine.disk_hangs_until = until;
            let life = machine.life;
            if until > sim.now + 1100 * MILLISECOND {
                sim.after(1100 * MILLISECOND, Event::StepDown { at: id, life });
            }
        }
        _ => lose(sim, id),
    }
    Ok(())
}

fn come_back(sim: &mut Sim, id: u64) {
    let delay = sim.random.between(10 * MILLISECOND, 4 * SECOND);
    sim.after(delay, Event::Restart(id));
}

/// Cuts one member off, or splits the members in two, or cuts one direction only.
fn partition(sim: &mut Sim, id: u64) {
    sim.stats.partitions += 1;
    let others: Vec<u64> = sim.machines.keys().copied().filter(|other| *other != id).collect();
    let one_way = sim.random.chance(300);
    sim.note(|| format!("m{id} is cut off, one way: {one_way}"));
    let companion = sim.random.pick(&others).filter(|_| others.len() > 2 && sim.random.chance(300));
    for other in others.into_iter().filter(|other| Some(*other) != companion) {
        for inside in [Some(id), companion].into_iter().flatten() {
            sim.network.cut(inside, other);
            if !one_way {
                sim.network.cut(other, inside);
            }
        }
    }
}

/// A machine is gone with its disk: at most one at a time, and only where the others still are a quorum.
fn lose(sim: &mut Sim, id: u64) {
    let voters = sim.membership.values().filter(|votes| **votes).count();
    let lost_before = sim.membership.keys().any(|member| sim.machines.get(member).is_none_or(|m| m.lost));
    if voters < 3 || lost_before || !sim.membership.contains_key(&id) || !sim.is_membership_settled() {
        return;
    }
    sim.stats.lost_members += 1;
    sim.note(|| format!("m{id} is lost with its disk"));
    sim.stop(id);
    sim.machine(id).lost = true;
    sim.forget(id);
}

/// What an administrator does now and then: replace the lost, grow, shrink, promote, move the leader.
pub(crate) fn administer(sim: &mut Sim) -> Judgement {
    let delay = sim.random.between(SECOND / 5, 3 * SECOND);
    sim.after(delay, Event::Administer);
    let Some(leader) = sim.leader() else { return Ok(()) };
    if let Some(change) = next_change(sim, leader) {
        let valid = sim
            .machine(leader)
            .process
            .as_ref()
            .is_some_and(|process| process.store.view().validate_conf_change(&change, 1).is_ok());
        if valid {
            sim.note(|| format!("m{leader} is asked for {:?} of m{}", change.r#type(), change.node_id));
            return sim.with(leader, |process| {
                // Refused or lost: the next round sees it and asks again.
                let _ = process.raft.propose_conf_change(&change);
                Ok(process.pump())
            });
        }
        return Ok(());
    }
    let voters: Vec<u64> = sim.membership.iter().filter(|(_, votes)| **votes).map(|(id, _)| *id).collect();
    match sim.random.pick(&voters) {
        Some(to) if to != leader && sim.random.chance(300) => {
            sim.stats.transfers += 1;
            sim.note(|| format!("m{leader} is asked to hand over to m{to}"));
            sim.with(leader, |process| {
                process.raft.transfer_leader(MemberId(to));
                Ok(process.pump())
            })
        }
        _ => Ok(()),
    }
}

fn next_change(sim: &mut Sim, leader: u64) -> Option<ConfChange> {
    let lost =
        sim.membership.keys().copied().find(|id| sim.machines.get(id).is_none_or(|machine| machine.lost));
    if let Some(id) = lost {
        return Some(removal(id));
    }
    let voters: Vec<u64> = sim.membership.iter().filter(|(_, votes)| **votes).map(|(id, _)| *id).collect();
    let learner = sim.membership.iter().find(|(_, votes)| !**votes).map(|(id, _)| *id);
    if let Some(id) = learner {
        return caught_up(sim, leader, id).then(|| promotion(id));
    }
    if sim.healed || voters.is_empty() {
        return None;
    }
    match sim.random.below(10) {
        // Ids are never used again.
        0..=3 if voters.len() < 5 => {
            Some(addition(sim.machines.keys().max().map_or(1, |highest| highest + 1)))
        }
        4..=5 if voters.len() > 3 => sim.random.pick(&voters).map(removal),
        _ => None,
    }
}

fn caught_up(sim: &Sim, leader: u64, learner: u64) -> bool {
    let Some(process) = sim.machines.get(&leader).and_then(|machine| machine.process.as_ref()) else {
        return false;
    };
    let status = process.raft.status();
    let close = |matched: u64| matched * 10 >= status.last * 9;
    status.role == Role::Leader
        && status.progress.iter().any(|peer| peer.id.0 == learner && peer.learner && close(peer.matched))
}

fn change(kind: ConfChangeType, id: u64, context: Vec<u8>) -> ConfChange {
    ConfChange { id: 0, r#type: kind.into(), node_id: id, context: context.into() }
}

fn removal(id: u64) -> ConfChange {
    change(ConfChangeType::ConfChangeRemoveNode, id, Vec::new())
}

fn addition(id: u64) -> ConfChange {
    let mut member = machine::member(id);
    member.is_learner = true;
    let context = json::encode_context(&json::ChangeContext::Add(member));
    change(ConfChangeType::ConfChangeAddLearnerNode, id, context)
}

fn promotion(id: u64) -> ConfChange {
    let context = json::encode_context(&json::ChangeContext::Promote(StoreMember(id)));
    change(ConfChangeType::ConfChangeAddNode, id, context)
}

/// Ends all trouble. Who was removed stays away, who was lost stays lost.
pub(crate) fn heal(sim: &mut Sim) {
    sim.note(|| "everything heals".to_owned());
    sim.healed = true;
    sim.healed_at = sim.now;
    sim.network.heal();
    sim.network.weather = Weather::CALM;
    let ids: Vec<u64> = sim.machines.keys().copied().collect();
    for id in ids {
        let machine = sim.machine(id);
        machine.paused_until = 0;
        machine.disk_hangs_until = 0;
        machine.disk.arm(CrashPlan::Never);
        sim.after(0, Event::Restart(id));
    }
}
