//! `ocf:hastor:zfs-pool`: a ZFS pool, imported on one node at a time.

mod boot;
mod cluster;
mod datasets;
mod depth;
mod disks;
mod import;
mod pool;
mod release;
mod reservation;
mod values;

#[cfg(test)]
mod tests;

fn main() -> std::process::ExitCode {
    ocf::main::<pool::ZfsPool>()
}
