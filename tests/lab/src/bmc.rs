//! The nodes' BMCs: one `ipmi_sim` of OpenIPMI a node, on the management network, whose chassis is the machine room's power
//! switch.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::control;
use crate::layout::{self, PATH, SHARE, STATE};
use crate::switch;

/// Who may switch power, and with what.
pub const USER: &str = "fence";
/// The password of [`USER`], the same on all BMCs.
pub const PASSWORD: &str = "lab-fence";

/// As the machine room's log has it: who asked.
pub const ASKER: &str = "bmc";

/// The GUID of a node, by its number, as its BMC has it.
pub fn guid(number: u8) -> String {
    format!("68617374-6f72-2d6c-6162-0000000000{number:02x}")
}

/// The simulators. They end with this value, and with the room.
pub struct Bmcs(Vec<Child>);

/// Gives each node a BMC; for the process that lives in the switch's network namespace.
pub fn start(nodes: &[String]) -> Result<Bmcs> {
    let mut bmcs = Bmcs(Vec::new());
    for node in nodes {
        let number = layout::number(node)?;
        switch::ip(&format!(
            "address add {}/24 dev management\n",
            layout::bmc_address(number)
        ))?;
        bmcs.0
            .push(simulator(node, number).with_context(|| format!("the BMC of {node}"))?);
    }
    Ok(bmcs)
}

fn simulator(node: &str, number: u8) -> Result<Child> {
    let place = format!("{STATE}/bmc/{node}");
    fs::create_dir_all(format!("{place}/state"))?;
    let (address, guid) = (layout::bmc_address(number), guid(number).replace('-', ""));
    let lan = format!(
        "name \"{node}\"\nset_working_mc 0x20\nstartlan 1\n addr {address} 623\n priv_limit admin\n \
         allowed_auths_admin none md2 md5 straight\n guid {guid}\nendlan\n\
         chassis_control \"{SHARE}/bin/lab chassis {node}\"\n\
         user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n"
    );
    fs::write(format!("{place}/lan.conf"), lan)?;
    let emulated = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x20 1 1 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n";
    fs::write(format!("{place}/emu"), emulated)?;
    let log = fs::File::create(format!("{place}/log"))?;
    let mut command = Command::new(format!("{SHARE}/bin/lab"));
    command.args(["tied", "--kill", "ipmi_sim", "-n"]);
    command.args(["-c", "lan.conf", "-f", "emu", "-s", "state"]);
    command
        .current_dir(&place)
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("starting ipmi_sim")
}

impl Drop for Bmcs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `ipmi_sim` runs to look at its chassis and to switch it: `get power`, `set power 0`.
pub fn chassis(node: &str, words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["get", "power"] => {
            let on = control::ask(&["status", node])? == "on";
            println!("power:{}", u8::from(on));
        }
        ["set", "power", "0"] => drop(control::ask(&["off", node, ASKER])?),
        ["set", "power", "1"] => drop(control::ask(&["on", node])?),
        ["get", "boot"] => println!("boot:default"),
        _ => bail!("{words:?}: expected get power, or set power 0 or 1"),
    }
    Ok(())
}
