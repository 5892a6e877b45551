//! The test double: a machine made of a recorded tree, scripted commands, a network that behaves
//! and a clock of its own. It can fail, hang or die at any step an agent takes.
//!
//! ```
//! use host::{Cmd, testing::{Reply, Script}};
//! use std::time::Duration;
//!
//! let script = Script::empty().when(
//!     "zpool import tank",
//!     Reply::ok("").and(|tree| tree.write("/proc/spl/kstat/zfs/tank/state", "ONLINE\n")),
//! );
//! let host = script.host(Duration::from_secs(60));
//! host.run(&Cmd::new("zpool").args(["import", "tank"])).unwrap();
//! assert_eq!(host.read("/proc/spl/kstat/zfs/tank/state").unwrap().unwrap(), "ONLINE\n");
//! assert_eq!(script.steps(), ["zpool import tank"]);
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "the double makes the tree that stands for the machine, and starts its clock"
)]

mod block;
mod lio;
pub mod net;
mod reply;
mod script;
#[cfg(test)]
mod tests;
mod tree;

pub use block::PrDisk;
pub use lio::{Disk, Lio, LioKernel};
pub use net::{Network, Tables};
pub use reply::Reply;
pub use script::{Fault, Killed, Script};
pub use tree::Tree;
