//! The agent in process: its conclusions against a BMC that behaves and misbehaves, and its
//! parameters against a scripted ipmitool.

mod chip;
mod conclusions;
mod parameters;
