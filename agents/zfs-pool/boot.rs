//! Would this machine import the pool by itself when it boots? Then two nodes may have it: the one that the cluster chose,
//! and one that was fenced and comes back (openzfs 15290: pools were destroyed that way).

use ocf::prelude::*;
use probe::zfs::{self, cache::PATH as CACHE};

use crate::pool::ZfsPool;

/// Where a unit is enabled for the machine's boot: directories with links to what is wanted.
const WANTS: [&str; 4] = [
    "/etc/systemd/system/zfs-import.target.wants",
    "/etc/systemd/system/zfs.target.wants",
    "/etc/systemd/system/multi-user.target.wants",
    "/etc/systemd/system/sysinit.target.wants",
];

/// Fails if the pool would be imported at boot, with what mends it.
pub fn check(pool: &ZfsPool, node: &Node) -> Result<()> {
    if is_enabled(node, "zfs-import-scan.service")?
        && node.read_bytes(CACHE)?.is_none_or(|cache| cache.is_empty())
    {
        bail!(Exit::NotInstalled.because(
            "zfs-import-scan.service is enabled: this machine imports every pool it sees when it boots, behind the cluster's \
             back; mend it with: systemctl mask zfs-import-scan.service"
        ));
    }
    let cached = zfs::cache::pools(node, CACHE)?;
    if !cached.iter().any(|cached| cached.pool == pool.pool) {
        return Ok(());
    }
    let mended = format!(
        "zpool set cachefile=none {} (where it is imported), or remove {CACHE} if it names no other pool",
        pool.pool
    );
    if is_enabled(node, "zfs-import-cache.service")? {
        bail!(Exit::NotInstalled.because(format!(
            "{CACHE} names pool {} and zfs-import-cache.service is enabled: this machine would import it when it boots, behind the \
             cluster's back; mend it with: {mended}",
            pool.pool
        )));
    }
    warn!(
        "{CACHE} names pool {}, and nothing reads it at boot as long as zfs-import-cache.service is not enabled; better: {mended}",
        pool.pool
    );
    Ok(())
}

/// Is this unit started at boot: wanted, and not masked?
fn is_enabled(node: &Node, unit: &str) -> Result<bool> {
    let masked = |dir: &str| -> Result<bool> {
        Ok(node
            .link_target(&format!("{dir}/{unit}"))?
            .is_some_and(|target| target.ends_with("/dev/null")))
    };
    if masked("/etc/systemd/system")? || masked("/run/systemd/system")? {
        return Ok(false);
    }
    for dir in WANTS {
        if node.link_target(&format!("{dir}/{unit}"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
