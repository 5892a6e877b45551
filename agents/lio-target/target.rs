//! An iSCSI target with its LUNs, portals and initiators: all of it in the kernel, or nothing.
//!
//! What is true is what configfs shows. Whatever a failed or killed action has left there is recognised by its names, and
//! taken away whatever the parameters are by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host::net::portblock::{self, Protocol};
use host::{Host, TooSlow};
use ocf::{Secret, prelude::*};
use probe::lio;
use probe::zfs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alua::{self, Passive, Role};
use crate::expected::Expected;
use crate::own::{Found, Named, Own};
use crate::plan::{self, Making};
use crate::reservations::{self, Kept};
use crate::steps::{self, Step};
use crate::values::{self, Backstore, Initiators, Luns, Portals, Settings};
use crate::wanted::{Access, Wanted};
use crate::{definition, depth, device, durable, names, source};

/// How long a device may take to appear that the resource before this one has just made: udev makes its name.
const APPEARS: Duration = Duration::from_secs(10);
/// How often it is looked whether devices that have not answered ever will; longer than it takes if none is waited for.
const LOOK: Duration = Duration::from_secs(2);
/// Time that is kept for saying why it failed.
const RESERVE: Duration = Duration::from_millis(700);

/// iSCSI target (LIO)
///
/// Makes an iSCSI target of the Linux kernel (LIO) on start, with any number of LUNs, portals and initiators, and takes it
/// away on stop. The target appears whole: it is enabled after everything else, and disabled before anything else.
///
/// configfs is used directly; targetcli and its saved configuration are neither needed nor touched, and targets that others
/// have made are left alone. A LUN is the same disk on every node: its serial number and all else that initiators know it
/// by come from the parameters or from a definition, never from chance.
///
/// The target is described by parameters, or by a definition (parameter definition) that lies in the pool or file system it
/// serves and moves with it.
///
/// Persistent reservations (SCSI-3) move along if aptpl_dir names a directory on the storage that moves.
///
/// As a promotable clone on two nodes (with notify=true), the promoted instance has the devices and is active/optimized;
/// the other offers the same LUNs as standby, and opens no device.
///
/// Portals need no address yet: the address may, and should, come after the target and go before it.
///
/// A stop that meets a device that does not answer fails shortly before its timeout, and names the LUN and its commands in
/// flight; for a volume of a pool that ZFS has suspended it fails after two seconds, because that pool will not answer.
///
/// Parameters have the names and meanings they have in ocf:heartbeat:iSCSITarget and ocf:heartbeat:iSCSILogicalUnit.
#[derive(clap::Parser, Debug)]
#[command(name = Self::NAME, version, rename_all = "snake_case")]
pub struct LioTarget {
    /// Name of the target
    ///
    /// An iSCSI name, such as iqn.2026-01.com.example:tank. Required unless there is a definition.
    #[arg(long, alias = "target_iqn", value_parser = names::iqn)]
    pub iqn: Option<String>,

    /// Portals
    ///
    /// Where the target listens: ADDRESS, ADDRESS:PORT or [IPV6]:PORT, separated by spaces; port 3260 if none is given.
    /// Without any here and in iser_portals: 0.0.0.0:3260. The addresses need not be there yet.
    #[arg(long, default_value = "")]
    pub portals: Portals,

    /// Portals over RDMA (iSER)
    ///
    /// Those of the portals that use iSER, in addition to TCP. It needs the kernel's module ib_isert and an RDMA device
    /// that has the address already: unlike TCP, the kernel does not listen by RDMA at an address that is yet to come. So
    /// the address is started before the target (vip's block_ports keeps clients away meanwhile), or it is 0.0.0.0.
    #[arg(long, default_value = "")]
    pub iser_portals: Portals,

    /// Initiators that may use the target
    ///
    /// Their iSCSI names, separated by spaces. Without any, every initiator may use it; then a persistent reservation that
    /// was moved is enforced for an initiator only after it has logged in again. When some are named for the first time, by
    /// a reload, all sessions end once: only so does LIO let strangers go.
    #[arg(long, default_value = "")]
    pub allowed_initiators: Initiators,

    /// LUNs
    ///
    /// As NUMBER=PATH words, such as "1=/dev/zvol/tank/vm1 2=/dev/zvol/tank/vm2". Behind the path can stand
    /// ",serial=TEXT", ",product=TEXT" (16 characters; VMware compares the first 8) and ",ro" (writes are refused; without
    /// allowed_initiators LIO can do that for all LUNs of the target or for none).
    #[arg(long, default_value = "")]
    pub luns: Luns,

    /// Device of the only LUN
    ///
    /// Instead of luns: the path of the device or file.
    #[arg(long, value_parser = values::path)]
    pub path: Option<String>,

    /// Number of the only LUN
    ///
    /// 0 to 16383; with path.
    #[arg(long, default_value = "0", value_parser = values::lun_number)]
    pub lun: u16,

    /// Serial number of the only LUN
    ///
    /// With path. If it is not given: 8 digits made of the resource's name, as ocf:heartbeat:iSCSILogicalUnit makes them.
    #[arg(long, value_parser = values::serial)]
    pub scsi_sn: Option<String>,

    /// Vendor
    ///
    /// As initiators see it, at most 8 characters.
    #[arg(long, value_parser = values::vendor)]
    pub vendor_id: Option<String>,

    /// Product of the only LUN
    ///
    /// With path: as initiators see it, at most 16 characters. If it is not given: 8 digits made of the serial number.
    #[arg(long, value_parser = values::product)]
    pub product_id: Option<String>,

    /// Definition of the target
    ///
    /// The absolute path of a file that describes everything, instead of the parameters above: lio.toml (see the manual
    /// page), or the stmf-ha.conf of a pool that comes from illumos. If there is no such file, nothing is done; if it is empty, every
    /// volume of the pool it lies in becomes a LUN.
    #[arg(long)]
    pub definition: Option<String>,

    /// User that initiators log in as (CHAP)
    ///
    /// Without it, initiators need no password.
    #[arg(long)]
    pub incoming_username: Option<String>,

    /// Password that initiators log in with
    ///
    /// At most 255 characters. Better: password_file.
    #[arg(long)]
    pub incoming_password: Option<Secret>,

    /// User that the target logs in as (mutual CHAP)
    ///
    /// With incoming_username.
    #[arg(long)]
    pub outgoing_username: Option<String>,

    /// Password that the target logs in with
    ///
    /// At most 255 characters. Better: password_file.
    #[arg(long)]
    pub outgoing_password: Option<Secret>,

    /// File with the passwords
    ///
    /// The absolute path of a file on every node, mode 0600: the incoming password on its first line, the outgoing one on
    /// its second.
    #[arg(long)]
    pub password_file: Option<String>,

    /// Number of the portal group
    ///
    /// 1 to 65535. Persistent reservations are bound to it.
    #[arg(long, default_value = "1", value_parser = group_tag)]
    pub tpgt: u16,

    /// Negotiated parameters
    ///
    /// As name=value words: MaxConnections, DefaultTime2Retain and so on, as configfs names them.
    #[arg(long, default_value = "")]
    pub additional_parameters: Settings,

    /// Attributes of the portal group
    ///
    /// As name=value words: login_timeout, default_cmdsn_depth and so on, as configfs names them.
    #[arg(long, default_value = "")]
    pub tpg_attributes: Settings,

    /// Attributes of the backstores
    ///
    /// As name=value words: emulate_tpu, max_write_same_len, queue_depth and so on, as configfs names them.
    #[arg(long, default_value = "")]
    pub attributes: Settings,

    /// Fail if the kernel lacks an attribute
    ///
    /// Otherwise an attribute that this kernel does not know is a warning.
    #[arg(long, default_value = "false")]
    pub strict: Flag,

    /// Kind of backstore
    ///
    /// block: a block device. fileio: a file, or a device by way of the page cache. pscsi: a SCSI device, whose commands
    /// are passed through; persistent reservations and identity are then that device's own.
    #[arg(long, alias = "backstore", default_value = "block")]
    pub liot_bstype: Backstore,

    /// Block size
    ///
    /// Of the LUNs, in bytes: 512, 1024, 2048 or 4096. Kept the same for the life of a LUN.
    #[arg(long, value_parser = block_size)]
    pub block_size: Option<u32>,

    /// Cache writes in memory
    ///
    /// Without it a write is on the disks before the initiator is told so. For this the volumes of ZFS that are LUNs get the
    /// property sync=always at start, if they have another value, and files (liot_bstype=fileio) are written synchronously;
    /// a pool with a log device on flash keeps that fast. With true, volumes are left as they are, and files are cached:
    /// data that an initiator has written can be in this node's memory only, and a failover loses it, even if the
    /// initiator flushes: its flush is repeated to the other node, which knows nothing of that data and says that all is
    /// well. Other block devices cache nothing in a node's memory.
    #[arg(long, default_value = "false")]
    pub write_cache: Flag,

    /// UNMAP
    ///
    /// Whether initiators may unmap blocks (emulate_tpu).
    #[arg(long)]
    pub emulate_tpu: Option<Flag>,

    /// EXTENDED COPY
    ///
    /// Whether initiators may let the target copy (emulate_3pc).
    #[arg(long)]
    pub emulate_3pc: Option<Flag>,

    /// COMPARE AND WRITE
    ///
    /// Whether initiators may compare and write in one (emulate_caw), as VMware does.
    #[arg(long)]
    pub emulate_caw: Option<Flag>,

    /// Directory for persistent reservations
    ///
    /// An absolute path on the storage that moves with the target, best a small dataset with sync=always. What initiators
    /// have registered and reserved is kept there, and is in force again before the target is enabled elsewhere. Without
    /// it, reservations are lost when the target moves.
    #[arg(long)]
    pub aptpl_dir: Option<String>,

    /// State of the instance that is not promoted
    ///
    /// Of a promotable clone: standby, or unavailable.
    #[arg(long, default_value = "standby")]
    pub alua_passive: Passive,

    /// Numbers of the target port groups
    ///
    /// Of a promotable clone: NODE=NUMBER words, 1 to 65535, one for each node. Without it: the nodes' own numbers in the
    /// cluster.
    #[arg(long, default_value = "")]
    pub alua_groups: Settings,
}

impl Agent for LioTarget {
    const NAME: &'static str = "lio-target";
    const OPERATIONS: &'static [Operation] = &[
        Operation::start(60),
        Operation::stop(60),
        Operation::promote(60),
        Operation::demote(60),
        Operation::monitor(20).every(10),
        Operation::monitor(20).every(11).in_role("Promoted"),
        Operation::monitor(60).every(60).at_depth(10),
        Operation::notify(60),
        Operation::reload_agent(60),
    ];
    const UNIQUE: &'static [(&'static str, &'static [&'static str])] = &[("iqn", &["iqn"])];
    const RELOADABLE: &'static [&'static str] = &[
        "portals",
        "iser_portals",
        "allowed_initiators",
        "luns",
        "incoming_username",
        "incoming_password",
        "outgoing_username",
        "outgoing_password",
        "password_file",
        "additional_parameters",
        "tpg_attributes",
        "attributes",
        "strict",
        "emulate_tpu",
        "emulate_3pc",
        "emulate_caw",
    ];

    fn check(&self) -> Result<()> {
        for (name, path) in [
            ("definition", &self.definition),
            ("aptpl_dir", &self.aptpl_dir),
            ("password_file", &self.password_file),
        ] {
            if let Some(path) = path.as_ref().filter(|path| !path.starts_with('/')) {
                bail!("parameter {name}: \"{path}\" is not an absolute path; expected one");
            }
        }
        let given = [
            ("iqn", self.iqn.is_some()),
            ("portals", !self.portals.0.is_empty()),
            ("allowed_initiators", !self.allowed_initiators.0.is_empty()),
            ("luns", !self.luns.0.is_empty()),
            ("path", self.path.is_some()),
            ("incoming_username", self.incoming_username.is_some()),
        ];
        match &self.definition {
            Some(path) => {
                if let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given) {
                    bail!(
                        "parameter {name}: given together with definition {path}; expected one or the other"
                    );
                }
            }
            None => ensure!(
                self.iqn.is_some(),
                "parameter iqn: required without a definition, but not given"
            ),
        }
        if let Some(path) = self.path.as_ref().filter(|_| !self.luns.0.is_empty()) {
            bail!("parameter path: \"{path}\" given together with luns; expected one or the other");
        }
        if let Some(user) = self.outgoing_username.as_ref() {
            ensure!(
                self.incoming_username.is_some(),
                "parameter outgoing_username: \"{user}\" given without incoming_username; expected both for mutual CHAP"
            );
        }
        Ok(())
    }

    fn validate(&self, node: &Node) -> Result<()> {
        if node.call().action != "validate-all" {
            return Ok(());
        }
        let Some(wanted) = self.wanted(node)? else {
            return Ok(());
        };
        for unit in &wanted.units {
            ensure!(
                node.real_path(unit.backing.path())?.is_some(),
                "unit {}: {} is not there",
                unit.name,
                unit.backing.path()
            );
        }
        Ok(())
    }

    fn monitor(&self, node: &Node, depth: Depth) -> Result<State> {
        let expected = Expected::noted(node);
        let own = Own::of(node);
        let found = own.find_named(node, &self.named(expected.as_ref()))?;
        let is_empty = found.is_nothing();
        let expected = match expected {
            Some(expected) if expected.is_unmanaged() && is_empty => return Ok(State::Running),
            _ if is_empty => return Ok(State::Stopped),
            Some(expected) => expected,
            None => bail!(
                "something of it is left here, but it was not started, or was stopped in part"
            ),
        };
        expected.check(node, &found)?;
        if depth >= Depth::Normal && !node.call().is_probe() {
            depth::look(node, &expected)?;
            if let (Some(dir), Some(true) | None) = (&self.aptpl_dir, expected.is_active) {
                reservations::back_up(node, dir, &expected.serials())?;
            }
        }
        Ok(match expected.is_active {
            Some(true) => State::Promoted,
            _ => State::Running,
        })
    }

    fn is_gone(&self, node: &Node) -> Result<bool> {
        let expected = Expected::noted(node);
        let found = self.find(node)?;
        let Some(expected) = expected else {
            return Ok(found.is_nothing());
        };
        let ways = reservations::links(node, &expected.serials())?;
        Ok(found.is_nothing() && ways.is_empty())
    }

    fn start(&self, node: &Node) -> Result<()> {
        load_modules(node)?;
        let Some(wanted) = self.settled(node)? else {
            info!(
                "there is no definition {}: nothing is served",
                self.definition.as_deref().unwrap_or_default()
            );
            return Expected::default().note(node);
        };
        let found = self.find(node)?;
        check_foreign(node, &wanted, &found)?;
        if !found.is_nothing() {
            warn!("taking away what an earlier start or stop has left");
            take_away(node, &found, &[])?;
        }
        let role = self.role(node, false)?;
        self.bring(node, &wanted, role.as_ref(), &Found::default())?;
        if role.is_some() {
            alua::tell_ready(node, &wanted);
        }
        Ok(())
    }

    fn stop(&self, node: &Node) -> Result<()> {
        let found = self.find(node)?;
        let serials = self.serials(node, &found)?;
        take_away(node, &found, &serials)
    }

    fn promote(&self, node: &Node) -> Result<()> {
        let wanted = self.change(node, true)?;
        alua::tell_sizes(node, &wanted);
        Ok(())
    }

    fn demote(&self, node: &Node) -> Result<()> {
        self.change(node, false).map(drop)
    }

    /// Another node that was promoted has told how large the units are: the stand-ins follow.
    fn notify(&self, node: &Node) -> Result<()> {
        let told = |name: &str| node.call().meta.get(name).map(String::as_str);
        let is_promotion =
            told("notify_type") == Some("post") && told("notify_operation") == Some("promote");
        let stands_by =
            || Expected::noted(node).is_some_and(|expected| expected.is_active == Some(false));
        match is_promotion && stands_by() {
            true => self.change(node, false).map(drop),
            false => Ok(()),
        }
    }

    fn reload(&self, node: &Node) -> Result<()> {
        let active = Expected::noted(node).and_then(|expected| expected.is_active);
        let wanted = self.change(node, active.unwrap_or(false))?;
        // One of them may have grown.
        if active == Some(true) {
            alua::tell_sizes(node, &wanted);
        }
        Ok(())
    }

    const COMMANDS: &'static [(&'static str, &'static str)] = &[
        (
            "verify",
            "say whether the parameters and the definition can be used",
        ),
        (
            "plan",
            "say what a start or a reload would change in the kernel; OCF_RESOURCE_INSTANCE in the environment says of which resource",
        ),
        ("import", "say the definition as lio.toml"),
    ];

    const MANUAL: &'static str = definition::MANUAL;

    fn by_hand(&self, node: &Node, name: &str) -> Result<String> {
        let wanted = self.wanted(node)?;
        let Some(wanted) = wanted else {
            return Ok("there is no definition: nothing would be done\n".into());
        };
        match name {
            "verify" => Ok(format!(
                "{}, {}: good\n",
                counted(wanted.targets.len(), "target"),
                counted(wanted.units.len(), "unit")
            )),
            "import" => Ok(definition::to_toml(&wanted)),
            _ => {
                let found = self.find(node)?;
                let checked = check_foreign(node, &wanted, &found);
                match node.call().resource() {
                    "" => checked.context(
                        "the resource is not known, and so not what is its own; expected its name in OCF_RESOURCE_INSTANCE",
                    )?,
                    _ => checked?,
                }
                let active = Expected::noted(node).and_then(|expected| expected.is_active);
                let role = self.role(node, active.unwrap_or(false))?;
                let kept = self.kept(node, &wanted, role.as_ref())?;
                let own = Own::of(node);
                let making = self.making(&own, &wanted, &kept, role.as_ref());
                let expected = Expected::of(&making);
                let steps = steps(node, &making, &expected, &found)?;
                let first = match stands_by(role.as_ref()) {
                    true => None,
                    false => durable::command(node, &wanted)?,
                };
                let first = first.iter().map(|command| format!("{command}\n"));
                let lines = first.chain(steps.iter().map(|step| format!("{step}\n")));
                let mut text: String = lines.collect();
                if let Some(before) = Expected::noted(node).filter(|_| !found.is_nothing()) {
                    if let Err(why) = expected.check_nothing_forgotten(&before, &steps) {
                        text += &format!("a reload would fail: {why:#}\n");
                    }
                }
                Ok(match text.is_empty() {
                    true => "nothing would change\n".to_owned(),
                    false => text,
                })
            }
        }
    }
}

impl LioTarget {
    /// What is wanted.
    fn wanted(&self, node: &Node) -> Result<Option<Wanted>> {
        Ok(source::wanted(self, node)?.map(|definition| definition.wanted))
    }

    /// The same; what was chosen for it is stored, so that it is chosen once.
    fn settled(&self, node: &Node) -> Result<Option<Wanted>> {
        let Some(definition) = source::wanted(self, node)? else {
            return Ok(None);
        };
        definition::store(node, &definition.assigned)?;
        Ok(Some(definition.wanted))
    }

    /// The targets that are this resource's by their names.
    fn named(&self, expected: Option<&Expected>) -> Named {
        Named {
            noted: expected.map(Expected::iqns).unwrap_or_default(),
            parameter: self.iqn.clone(),
        }
    }

    /// What there is of this resource. A LUN whose device does not answer can be half removed, and then its directory
    /// cannot be listed either.
    fn find(&self, node: &Node) -> Result<Found> {
        let expected = Expected::noted(node);
        let (own, named) = (Own::of(node), self.named(expected.as_ref()));
        let expected: Vec<Expected> = expected.into_iter().collect();
        // Not all of the time: who looks first is not the one who has to say why it failed.
        let limit = node.time_left() / 2;
        let what = "looking for what is there";
        apart(node, what, limit, &expected, |host| own.find(host, &named))
    }

    fn making<'a>(
        &self,
        own: &'a Own,
        wanted: &'a Wanted,
        kept: &'a BTreeMap<String, Kept>,
        access: Option<&'a Role>,
    ) -> Making<'a> {
        Making {
            own,
            wanted,
            kept,
            access,
            strict: self.strict.is_on(),
        }
    }

    /// How a promotable clone offers the units here; None if the resource is no such clone.
    fn role(&self, node: &Node, is_active: bool) -> Result<Option<Role>> {
        let call = node.call();
        let promotable = call.meta_flag("promotable")
            || ["promoted_max", "master_max"]
                .iter()
                .any(|name| call.meta_number(name).unwrap_or(0) > 0);
        if !promotable {
            return Ok(None);
        }
        Ok(Some(Role {
            is_active,
            group: alua::group(node, &self.alua_groups.0)?,
            passive: self.alua_passive,
            sizes: match is_active {
                true => BTreeMap::new(),
                // Until another one is promoted, the one that is demoted knows best.
                false => alua::told_sizes(node, call.action == "demote"),
            },
        }))
    }

    /// The reservations that are kept; none without a directory for them, and none where another node has the devices.
    fn kept(
        &self,
        node: &Node,
        wanted: &Wanted,
        role: Option<&Role>,
    ) -> Result<BTreeMap<String, Kept>> {
        match &self.aptpl_dir {
            Some(dir) if !stands_by(role) => reservations::read(node, wanted, dir),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Brings what is there in line with what is wanted.
    fn bring(
        &self,
        node: &Node,
        wanted: &Wanted,
        role: Option<&Role>,
        found: &Found,
    ) -> Result<()> {
        let begun = node.now();
        if !stands_by(role) {
            await_devices(node, wanted)?;
            durable::make(node, wanted)?;
        }
        let kept = self.kept(node, wanted, role)?;
        reservations::make_way(node, &kept)?;
        if self.aptpl_dir.is_some() && wanted.targets.iter().any(|t| t.access == Access::Anyone) {
            warn!(
                "any initiator may use the target: a reservation that was kept binds one only after it has logged in again; name them in allowed_initiators"
            );
        }
        let own = Own::of(node);
        let making = self.making(&own, wanted, &kept, role);
        let expected = Expected::of(&making);
        let steps = steps(node, &making, &expected, found)?;
        let before = Expected::noted(node).filter(|_| !found.is_nothing());
        let is_reload = matches!(node.call().action.as_str(), "reload" | "reload-agent");
        if let Some(before) = before.as_ref().filter(|_| is_reload) {
            expected.check_nothing_forgotten(before, &steps)?;
        }
        // Noted before: a stop after an end in the middle finds what was made, and what was there, by its name.
        let gone = before.as_ref().map(Expected::iqns).unwrap_or_default();
        expected.note_with(node, gone)?;
        // What goes may be what does not answer.
        let concerned: Vec<Expected> = before.into_iter().chain([expected.clone()]).collect();
        carry_out(node, "making the target", &steps, &concerned)?;
        expected.note(node)?;
        open_ports(node, wanted);
        let (count, took) = (steps.len(), node.now() - begun);
        info!(
            "{}, {}: {count} changes in {:.3} s",
            counted(wanted.targets.len(), "target"),
            counted(wanted.units.len(), "LUN"),
            took.as_secs_f32()
        );
        Ok(())
    }

    /// Changes a target that is there; to what is wanted, which is nothing without a definition.
    fn change(&self, node: &Node, is_active: bool) -> Result<Wanted> {
        let found = self.find(node)?;
        let Some(wanted) = self.settled(node)? else {
            take_away(node, &found, &self.serials(node, &found)?)?;
            Expected::default().note(node)?;
            return Ok(Wanted::default());
        };
        check_foreign(node, &wanted, &found)?;
        let role = self.role(node, is_active)?;
        self.bring(node, &wanted, role.as_ref(), &found)?;
        Ok(wanted)
    }

    /// The serial numbers of all units that may have reservations here.
    fn serials(&self, node: &Node, found: &Found) -> Result<Vec<String>> {
        let mut serials = Expected::noted(node)
            .map(|expected| expected.serials())
            .unwrap_or_default();
        for store in &found.stores {
            serials.extend(lio::serial(node, store)?.filter(|serial| !serial.is_empty()));
        }
        serials.sort();
        serials.dedup();
        Ok(serials)
    }
}

/// The steps from what is there to what is wanted.
fn steps(node: &Node, making: &Making, expected: &Expected, found: &Found) -> Result<Vec<Step>> {
    let mut steps = making.steps(node, found)?;
    // Reservations are the other node's now, and on storage that both see, what the kernel wrote would go there.
    if stands_by(making.access) {
        steps.extend(reservations::links(node, &expected.serials())?);
    }
    Ok(steps)
}

/// Are the units offered here only on behalf of another node, which has the devices?
fn stands_by(role: Option<&Role>) -> bool {
    role.is_some_and(|role| !role.is_active)
}

/// Makes the kernel's target and iSCSI known.
fn load_modules(node: &Node) -> Result<()> {
    if !node.is_dir(lio::ROOT) {
        let modules = ["-a", "configfs", "target_core_mod", "iscsi_target_mod"];
        node.run(&Cmd::new("modprobe").args(&modules))
            .context(Exit::NotInstalled.because("the kernel has no LIO target".to_owned()))?;
    }
    if !node.is_dir(lio::ROOT) {
        let at = "/sys/kernel/config";
        node.mount("configfs", at, "configfs", host::MountFlags::empty(), "")
            .with_context(|| format!("mounting configfs at {at}"))?;
    }
    node.mkdir(lio::ISCSI)
}

/// Nobody else may have a target or a unit of the same name: they would be mixed up, by us or by initiators.
fn check_foreign(node: &Node, wanted: &Wanted, found: &Found) -> Result<()> {
    for target in &wanted.targets {
        let dir = format!("{}/{}", lio::ISCSI, target.iqn);
        ensure!(
            found.targets.contains_key(&target.iqn) || !node.is_dir(&dir),
            "target {} is here already, and was made by something else (another resource, or targetcli)",
            target.iqn
        );
    }
    for hba in lio::hbas(node)? {
        for store in lio::stores(node, &hba)? {
            if found.stores.contains(&store) {
                continue;
            }
            let serial = lio::serial(node, &store)?.unwrap_or_default();
            if let Some(unit) = wanted.units.iter().find(|unit| unit.serial == serial) {
                bail!(
                    "unit {}: the serial number {serial} is that of {}/{}, which was made by something else: initiators would take both for one disk",
                    unit.name,
                    store.hba,
                    store.name
                );
            }
        }
    }
    Ok(())
}

/// The resource before this one may have made them just now.
fn await_devices(node: &Node, wanted: &Wanted) -> Result<()> {
    let ends = node.now() + APPEARS;
    for unit in &wanted.units {
        let path = unit.backing.path();
        let mut pause = Duration::from_millis(5);
        while node.real_path(path)?.is_none() {
            ensure!(
                node.now() < ends && node.time_left() > RESERVE,
                "unit {}: {path} is not there",
                unit.name
            );
            node.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// "1 LUN", "2 LUNs".
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Lets clients in that an address of this node has kept waiting (`block_ports` of ocf:hastor:vip). It would do so by
/// itself, a little later.
fn open_ports(node: &Node, wanted: &Wanted) {
    let portals = wanted.targets.iter().flat_map(|target| &target.portals);
    for portal in portals {
        let lifted = node
            .net(None)
            .and_then(|net| portblock::lift(&*net, portal.address, Protocol::Tcp, portal.port));
        match lifted {
            Ok(0) => {}
            Ok(_) => info!("clients of {portal} are let in"),
            Err(error) => warn!("clients of {portal} may have to wait: {error}"),
        }
    }
}

/// Takes everything away, with the ways for reservations to be written.
fn take_away(node: &Node, found: &Found, serials: &[String]) -> Result<()> {
    let begun = node.now();
    let mut steps = plan::removal(node, found)?;
    steps.extend(reservations::links(node, serials)?);
    if steps.is_empty() {
        return Ok(());
    }
    let expected: Vec<Expected> = Expected::noted(node).into_iter().collect();
    carry_out(node, "taking the target away", &steps, &expected)?;
    let took = (node.now() - begun).as_secs_f32();
    info!("taken away: {} changes in {took:.3} s", steps.len());
    Ok(())
}

/// Carries steps out.
fn carry_out(node: &Node, what: &str, steps: &[Step], concerned: &[Expected]) -> Result<()> {
    let limit = node.time_left().saturating_sub(RESERVE);
    let warnings = apart(node, what, limit, concerned, |host| {
        steps::apply(host, steps)
    })?;
    for warning in warnings {
        warn!("{warning}");
    }
    Ok(())
}

/// Does something in configfs in a process of its own, for at most `limit`: with a device that does not answer, the kernel waits in the middle of
/// it. If that device never will, as a volume of a pool that ZFS has suspended, the time that is left would be lost.
fn apart<T: Serialize + DeserializeOwned>(
    node: &Node,
    what: &str,
    limit: Duration,
    concerned: &[Expected],
    work: impl FnOnce(&Host) -> Result<T>,
) -> Result<T> {
    let mut go_on = || {
        waiting(node, concerned)
            .iter()
            .all(|it| it.suspended.is_none())
    };
    let done = node.apart_watching(what, limit, LOOK, &mut go_on, work);
    done.map_err(|error| match error.downcast_ref::<TooSlow>() {
        None => error,
        Some(_) => match waiting(node, concerned)[..] {
            [] => error,
            ref units => error.context(told(units)),
        },
    })
}

/// A unit whose device has not answered.
struct Waiting<'a> {
    lun: u16,
    path: &'a str,
    /// Commands that it has not answered. A volume of ZFS does not count flushes.
    count: u64,
    /// The pool that ZFS has suspended, if it is a volume of one: then it will not answer.
    suspended: Option<String>,
}

/// The units whose devices have not answered, or never will, each once.
fn waiting<'a>(node: &Host, concerned: &'a [Expected]) -> Vec<Waiting<'a>> {
    let mut seen = BTreeSet::new();
    let luns = concerned.iter().flat_map(|expected| {
        let luns = expected.targets.iter().flat_map(|target| &target.luns);
        luns.map(move |(lun, name)| (expected, lun, name))
    });
    let one = |(expected, lun, name): (&'a Expected, &u16, &String)| {
        let unit = expected.units.iter().find(|unit| unit.name == *name)?;
        let path = unit.path.as_deref().filter(|path| seen.insert(*path))?;
        let class = device::class(node, path).ok().flatten()?;
        let count = device::in_flight(node, &class).unwrap_or(0);
        let suspended = suspended_pool(node, path);
        (count > 0 || suspended.is_some()).then_some(Waiting {
            lun: *lun,
            path,
            count,
            suspended,
        })
    };
    luns.filter_map(one).collect()
}

/// The pool of the volume to which a path leads, if ZFS has suspended it. By the path alone: to ask the device could take for
/// ever.
fn suspended_pool(node: &Host, path: &str) -> Option<String> {
    let volume = definition::volumes::of_link(path)?;
    let (pool, _) = volume.split_once('/')?;
    zfs::is_suspended(node, pool).then(|| pool.to_owned())
}

fn told(units: &[Waiting]) -> String {
    let one = |it: &Waiting| {
        let Waiting { lun, path, .. } = it;
        let why = match &it.suspended {
            Some(pool) => format!(", and pool {pool} is suspended: it does not answer"),
            None => String::new(),
        };
        format!("LUN {lun} ({path}): {} commands in flight{why}", it.count)
    };
    let all: Vec<String> = units.iter().map(one).collect();
    all.join(", ")
}

fn group_tag(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(tag) if tag > 0 => Ok(tag),
        _ => Err("is not a portal group's number; expected 1 to 65535".into()),
    }
}

fn block_size(text: &str) -> Result<u32, String> {
    definition::volumes::block_size(text.parse().unwrap_or(0))
}
