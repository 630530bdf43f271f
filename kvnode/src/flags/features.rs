//! `--feature-gates`: what may be switched on or off by name. Names, stages and defaults are etcd's
//! (`server/features/etcd_features.go`).

use super::value::{boolean, strings};

/// How far a feature has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless refused.
    Beta,
}

impl Stage {
    /// As metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }

    /// The name that stands for all features of the stage.
    fn all(self) -> &'static str {
        match self {
            Self::Alpha => "AllAlpha",
            Self::Beta => "AllBeta",
        }
    }
}

macro_rules! features {
    ($($(#[$doc:meta])* $field:ident = $stage:ident $name:literal;)*) => {
        /// Which features are on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Features {
            $($(#[$doc])* pub $field: bool,)*
            all_alpha: bool,
            all_beta: bool,
        }

        impl Default for Features {
            fn default() -> Self {
                Self { $($field: Stage::$stage == Stage::Beta,)* all_alpha: false, all_beta: false }
            }
        }

        impl Features {
            /// Name, stage and state of each, and of the names that stand for a stage.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, Stage, bool)> {
                [
                    $(($name, Stage::$stage, self.$field),)*
                    (Stage::Alpha.all(), Stage::Alpha, self.all_alpha),
                    (Stage::Beta.all(), Stage::Beta, self.all_beta),
                ]
                .into_iter()
            }

            fn find(&mut self, name: &str) -> Option<&mut bool> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    "AllAlpha" => Some(&mut self.all_alpha),
                    "AllBeta" => Some(&mut self.all_beta),
                    _ => None,
                }
            }

            fn set_stage(&mut self, stage: Stage, on: bool) {
                $(if Stage::$stage == stage { self.$field = on; })*
            }
        }
    };
}

features! {
    /// The health service says that nothing is served while the database is defragmented.
    stop_grpc_service_on_defrag = Alpha "StopGRPCServiceOnDefrag";
    /// Compare with the peers before taking part again.
    initial_corrupt_check = Alpha "InitialCorruptCheck";
    /// Compare the hashes of compactions while leading.
    compact_hash_check = Alpha "CompactHashCheck";
    /// About etcd's storage; without effect.
    txn_mode_write_with_shared_buffer = Beta "TxnModeWriteWithSharedBuffer";
    /// Replicate remaining lease times.
    lease_checkpoint = Alpha "LeaseCheckpoint";
    /// Demands the one before; what is replicated is always kept.
    lease_checkpoint_persist = Alpha "LeaseCheckpointPersist";
    /// About the addresses that etcd dials peers from; without effect.
    set_member_local_addr = Alpha "SetMemberLocalAddr";
    /// A keep-alive never waits for what is still to be applied; without effect.
    fast_lease_keep_alive = Beta "FastLeaseKeepAlive";
    /// Nothing is held back that could be let past; without effect.
    priority_request = Alpha "PriorityRequest";
}

impl Features {
    /// Reads `Name=true,Other=false`. What stands for itself wins over what stands for its stage.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut given = Vec::new();
        for item in strings(text) {
            let (name, on) = item.split_once('=').ok_or_else(|| format!("missing bool value for {item}"))?;
            let on = boolean(on).map_err(|why| format!("invalid value of {name}={on}: {why}"))?;
            given.push((name.trim().to_owned(), on));
        }
        let mut features = Self::default();
        for stage in [Stage::Alpha, Stage::Beta] {
            if let Some((_, on)) = given.iter().rev().find(|(name, _)| name == stage.all()) {
                features.set_stage(stage, *on);
            }
        }
        for (name, on) in given {
            *features.find(&name).ok_or_else(|| format!("unrecognized feature gate: {name}"))? = on;
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_the_defaults_of_their_features() {
        let features = Features::read("").unwrap();
        assert_eq!(features, Features::default());
        assert!(features.fast_lease_keep_alive && !features.lease_checkpoint);
        let features = Features::read("LeaseCheckpoint=false,AllAlpha=true,AllBeta=false").unwrap();
        assert!(features.priority_request && !features.lease_checkpoint && !features.fast_lease_keep_alive);
        assert!(features.list().any(|listed| listed == ("AllAlpha", Stage::Alpha, true)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("Flying=true", "unrecognized feature gate: Flying"),
            ("LeaseCheckpoint", "missing bool value"),
            ("LeaseCheckpoint=maybe", "LeaseCheckpoint=maybe"),
        ] {
            assert!(Features::read(text).unwrap_err().contains(part), "{text}");
        }
    }
}
