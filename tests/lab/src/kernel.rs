//! Which node holds an address, read from outside through /proc: no process is started on the
//! node. In a guest it is the guest's agent that reads.

use std::fs;
use std::net::IpAddr;

use lab_guest::addresses;

use crate::layout;
use crate::vm;
use crate::vm::room::Setup;

/// Whether the kernel of a node answers to an address. False for a node without power.
pub fn holds(node: &str, address: IpAddr) -> bool {
    let read = |file: &str| -> String {
        if Setup::file().exists() {
            return vm::read(node, &format!("/proc/net/{file}")).unwrap_or_default();
        }
        let init = fs::read_to_string(layout::pid_file(node)).unwrap_or_default();
        fs::read_to_string(format!("/proc/{}/net/{file}", init.trim())).unwrap_or_default()
    };
    addresses::holds(&read(addresses::file(address)), address)
}
