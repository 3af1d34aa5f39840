//! What a Redis says of itself, and whether a store may stand on it (S3, S6).

/// The first version whose commands the scripts use, and that is still maintained somewhere.
const OLDEST: (u32, u32) = (6, 2);

/// What `INFO` says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Health {
    version: (u32, u32),
    pub(super) run_id: String,
    is_primary: bool,
    is_cluster: bool,
    policy: String,
    used: f64,
    most: f64,
}

/// Why none may stand on it.
#[derive(Debug, PartialEq)]
pub(super) enum Unfit {
    /// For good: the way out is for people.
    Refused(String),
    /// A replica may become the primary.
    Replica,
}

impl Health {
    pub(super) fn read(info: &str) -> Self {
        let mut health = Self::default();
        for (name, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
            match name {
                "redis_version" => health.version = version(value),
                "run_id" => health.run_id = value.to_owned(),
                "role" => health.is_primary = value == "master",
                "cluster_enabled" => health.is_cluster = value == "1",
                "maxmemory_policy" => health.policy = value.to_owned(),
                "used_memory" => health.used = value.parse().unwrap_or(0.0),
                "maxmemory" => health.most = value.parse().unwrap_or(0.0),
                _ => {}
            }
        }
        health
    }

    /// # Errors
    /// What is wrong, and the way out.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        let refused = |why: &str| Err(Unfit::Refused(why.to_owned()));
        if self.is_cluster {
            return refused(
                "it is a Redis Cluster, which cannot take a step over several keys; use one primary, or Sentinel \
                 (redis+sentinel://)",
            );
        }
        if self.version < OLDEST {
            let ((major, minor), (oldest, and)) = (self.version, OLDEST);
            return Err(Unfit::Refused(format!(
                "it is version {major}.{minor}; at least {oldest}.{and} is needed"
            )));
        }
        if !self.policy.is_empty() && self.policy != "noeviction" {
            return Err(Unfit::Refused(format!(
                "its maxmemory-policy is {:?}, which would drop records that must not be dropped; set it to \
                 \"noeviction\"",
                self.policy
            )));
        }
        if self.run_id.is_empty() {
            return refused(
                "INFO does not tell its run_id: a proxy stands before it; connect to the server itself",
            );
        }
        if self.is_primary { Ok(()) } else { Err(Unfit::Replica) }
    }

    /// From 0 to 1; 0 where it has no limit.
    pub(super) fn fill_ratio(&self) -> f64 {
        if self.most > 0.0 { (self.used / self.most).min(1.0) } else { 0.0 }
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
