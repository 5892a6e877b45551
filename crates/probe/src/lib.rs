//! Reading one subsystem each, without policy: pure parsers and computations over what
//! [`host::Host`] shows. What it means for a resource is the agent's to say.

pub mod attributes;
pub mod iscsi;
pub mod lio;
pub mod mounts;
pub mod net;
pub mod users;
pub mod zfs;
