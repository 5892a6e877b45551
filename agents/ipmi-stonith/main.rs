//! `stonith:fence_hastor_ipmi`: fencing by a node's BMC, over IPMI.

mod bmc;
mod course;
mod guid;
mod ipmi;
mod ipmitool;
mod native;
mod password;

#[cfg(test)]
mod tests;

fn main() -> std::process::ExitCode {
    ocf::fence::main::<ipmi::Ipmi>()
}
