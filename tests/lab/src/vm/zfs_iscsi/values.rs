//! The stack's values in the lab.

use std::fmt::Write;

use anyhow::Result;

use super::POOLS;
use crate::{bmc, layout};

/// The networks of the clients: name, interface.
pub const SANS: [(&str, &str); 2] = [("san1", "lan0"), ("san2", "repl0")];

/// The clients by the names that they log in with.
pub const INITIATORS: &str = "iqn.2026-01.example.hastor:client iqn.2026-01.example.hastor:client2";

/// The file for `hastor apply`, with so many LUNs on each pool.
pub fn text(luns: usize) -> Result<String> {
    let mut text = "[cluster]\npreferred = \"n1\"\n".to_owned();
    for head in POOLS.iter().map(|pool| pool.home) {
        let number = layout::number(head)?;
        write!(
            text,
            r#"
[[heads]]
name = "{head}"
bmc_ip = "{}"
bmc_user = "{}"
bmc_password_file = "/etc/pacemaker/{head}.bmc"
bmc_guid = "{}"
"#,
            layout::bmc_address(number),
            bmc::USER,
            bmc::guid(number)
        )?;
    }
    for (name, nic) in SANS {
        write!(
            text,
            "\n[[sans]]\nname = \"{name}\"\nprefix = 24\nnic = \"{nic}\"\n"
        )?;
    }
    for pool in &POOLS {
        let (name, home, iqn) = (pool.name, pool.home, pool.iqn());
        let list: Vec<String> = (1..=luns)
            .map(|lun| format!("{lun}=/dev/zvol/{name}/lun{lun}"))
            .collect();
        write!(
            text,
            r#"
[[pools]]
name = "{name}"
home = "{home}"
iqn = "{iqn}"
luns = "{}"
initiators = "{INITIATORS}"
aptpl_dir = "/{name}/ha"
"#,
            list.join(" ")
        )?;
        for ((san, _), address) in SANS.iter().zip(pool.addresses) {
            write!(
                text,
                "\n[[pools.addresses]]\nsan = \"{san}\"\nip = \"{address}\"\n"
            )?;
        }
    }
    Ok(text)
}
