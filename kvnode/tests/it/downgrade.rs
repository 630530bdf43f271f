//! Going back to the minor version before.

use crate::support::{Etcdctl, Member, member::get};

/// The cluster takes a step down, on disk too, and a step up again when it is told to stay.
#[test]
fn a_cluster_steps_down_one_version_and_up_again() {
    let member = Member::start();
    let Some(etcdctl) = Etcdctl::new(&member) else { return };
    assert!(etcdctl.fails("downgrade validate 3.5").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("downgrade validate 3.6").contains("cluster version 3.7"));
    assert!(etcdctl.fails("downgrade enable older").contains("wrong downgrade target version format"));
    etcdctl.ok("downgrade enable 3.6.0");
    member.wait_for_log("The server is ready to downgrade");
    let versions = "\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"";
    assert!(get(member.client_port, "/version").1.contains(versions));
    assert!(etcdctl.fails("downgrade enable 3.6.0").contains("invalid downgrade target version"));
    assert!(etcdctl.ok("endpoint status -w json").contains("\"targetVersion\":\"3.6.0\""));
    let position = member.log_position();
    etcdctl.ok("downgrade cancel");
    member.wait_for_log_after(position, "updating cluster version");
}
