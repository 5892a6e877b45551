//! Fencing of a node by its BMC: whom it may hit, and with what.
//!
//! The parameters are here, and which node they are for. [`crate::course`] decides what is
//! done in which order; [`crate::bmc`] is what it is done with.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use host::Host;
use log::warn;
use ocf::fence::{Action, Common, Fence, Power, Target, Task};
use ocf::{Flag, Seconds, Secret};

use crate::bmc::Opener;
use crate::course::{Course, Method, Plan};
use crate::guid::Guid;
use crate::ipmitool::Ipmitool;
use crate::native::Native;
use crate::password::Source;

/// What a status, a monitor or a look round may take: they are repeated.
const LOOK: Duration = Duration::from_secs(15);
/// What "on" may take after "off", in a reboot.
const ON: Duration = Duration::from_secs(15);
/// The longest that one question may take; after that the session counts as lost.
const QUESTION: Duration = Duration::from_secs(5);
/// The least that power_timeout means.
const LEAST: Duration = Duration::from_secs(5);
/// What the usual readings of "off" take, which is part of the time for off.
const READINGS: Duration = Duration::from_secs(1);
/// Pacemaker's default, in seconds.
const STONITH_TIMEOUT: u64 = 60;
/// How long a reboot leaves the power off where power_wait does not say: power supplies need a
/// moment to drop.
const HOLD: Duration = Duration::from_secs(2);

/// Fence agent for nodes with a BMC, over IPMI
///
/// Takes the power from a node, and gives it back, by the node's BMC (iDRAC, iLO, XCC, IMM, CIMC,
/// OpenBMC and others), over IPMI on the network. A node counts as fenced only when its BMC has
/// said, several times in a row and authenticated, that the power is off. A BMC that cannot be
/// reached, does not answer in time or refuses is never taken for that: then fencing has failed,
/// and the reason is in the log.
///
/// A BMC shares its power with its node: if both are lost, this agent cannot fence. Give each node
/// a second level in the fencing topology, such as a switched PDU or a watchdog with sbd.
///
/// Parameters have the names they have in fence_ipmilan, and those of external/ipmi are accepted as
/// well, so that a device moves by changing its type. Unlike with those, the RMCP+ protocol
/// (lanplus) is the default; hostname ties the device to its node; and reboot succeeds when the
/// power was off, whether or not it comes back.
///
/// For delays use pcmk_delay_base. On a node that is fenced by a BMC, pressing the power button
/// must not shut it down gracefully: set HandlePowerKey=ignore in logind.conf.
#[derive(clap::Parser, Debug)]
#[command(name = Self::NAME, version, rename_all = "snake_case")]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Ipmi {
    #[command(flatten)]
    common: Common,

    /// Address of the BMC
    ///
    /// An IPv4 or IPv6 address (link-local ones as fe80::1%eth0), or a host name. A name needs a
    /// resolver that answers while the cluster is in trouble: prefer an address.
    #[arg(short = 'a', long, visible_alias = "ipaddr")]
    ip: Option<String>,

    /// UDP port of the BMC
    ///
    /// 1 to 65535.
    #[arg(short = 'u', long, default_value = "623", value_parser = ocf::number(1..=65_535))]
    ipport: u32,

    /// Name of the node that this BMC is in
    ///
    /// Or names, separated by blanks or commas. For other nodes the agent refuses, without asking
    /// the BMC. Left out, the device does what it does to whatever node it is asked for: then
    /// pcmk_host_list has to be right.
    #[arg(long, visible_alias = "nodes")]
    hostname: Option<String>,

    /// GUID of the system that this BMC is in
    ///
    /// 32 hexadecimal digits, as the action diag prints them; the order of bytes does not matter.
    /// A BMC with another one is not used: it answers at the address of the one that is meant.
    #[arg(long)]
    system_guid: Option<Guid>,

    /// User on the BMC
    ///
    /// At most 16 bytes.
    #[arg(short = 'l', long, visible_aliases = ["login", "userid"])]
    username: Option<String>,

    /// Password of that user
    ///
    /// At most 20 bytes. Taken exactly as it is.
    #[arg(short = 'p', long, visible_alias = "passwd")]
    password: Option<Secret>,

    /// Program that prints the password
    ///
    /// An absolute path and, after blanks, arguments; there is no shell. The first line it prints
    /// is the password. It has five seconds.
    #[arg(short = 'S', long, visible_alias = "passwd_script")]
    password_script: Option<String>,

    /// File that has the password
    ///
    /// An absolute path; its first line is the password. Only its owner should have access to it
    /// (mode 0600): anything else is used all the same, so that fencing works, but
    /// validate-all and monitor warn of it.
    #[arg(long)]
    password_file: Option<String>,

    /// What password is
    ///
    /// With file, password is the path of a file that has it, as password_file. The others are the
    /// same: the password is never on a command line.
    #[arg(long, default_value = "param")]
    passwd_method: PasswdMethod,

    /// BMC key (Kg)
    ///
    /// In hexadecimal, with or without 0x before it, at most 20 bytes; only where the BMC has one.
    #[arg(long)]
    hexadecimal_kg: Option<Secret>,

    /// Cipher suite
    ///
    /// 17 (SHA-256) or 3 (SHA-1), or another that the BMC has. Left out, 17 is tried, and 3 on
    /// BMCs without it. Suite 0, which authenticates nobody, is refused.
    #[arg(short = 'C', long, value_parser = ocf::number(0..=255))]
    cipher: Option<u32>,

    /// Privilege level of the session
    ///
    /// Switching power needs operator. A user that may not be administrator is taken for an
    /// operator.
    #[arg(
        short = 'L',
        long,
        visible_alias = "priv",
        default_value = "administrator",
        ignore_case = true
    )]
    privlvl: Privilege,

    /// What speaks to the BMC
    ///
    /// The agent itself (native), or ipmitool. With auto, ipmitool is used only for what the agent
    /// does not speak: IPMI 1.5 (lanplus=0), bridging (target) and rare cipher suites.
    #[arg(long, default_value = "auto")]
    backend: Backend,

    /// Speak IPMI 2.0 (RMCP+)
    ///
    /// Left out, yes. With 0 the BMC is spoken to in IPMI 1.5, by ipmitool: its passwords and
    /// commands can be read and forged on the network.
    #[arg(short = 'P', long)]
    lanplus: Option<Flag>,

    /// The same, in another word
    ///
    /// lanplus is IPMI 2.0, lan is IPMI 1.5.
    #[arg(long)]
    interface: Option<Interface>,

    /// Authentication of IPMI 1.5
    ///
    /// Only with lanplus=0.
    #[arg(short = 'A', long, ignore_case = true)]
    auth: Option<Auth>,

    /// Address to bridge to
    ///
    /// Behind the BMC, as ipmitool's -t takes it, such as 0x82. By ipmitool only.
    #[arg(long)]
    target: Option<String>,

    /// How a reboot is done
    ///
    /// With onoff by off and on, each of them verified. The BMC's own cycle and reset are used
    /// only with allow_cycle; without it, they are onoff.
    #[arg(short = 'm', long, default_value = "onoff")]
    method: MethodName,

    /// Allow the BMC's own cycle or reset
    ///
    /// These are sent once, and succeed only if their effect shows: for cycle, that the power was
    /// seen to be off; for reset, that the BMC names the command as the cause of a start that
    /// had another cause before. On many BMCs neither shows, and fencing fails.
    #[arg(long, default_value = "0")]
    allow_cycle: Flag,

    /// Time for off
    ///
    /// In seconds, 5 to 600. A reboot may take 15 s more. What power_wait, off_readings and
    /// stonith_status_sleep add to their defaults comes on top of both. Pacemaker's own timeout
    /// (pcmk_off_timeout and pcmk_reboot_timeout, else stonith-timeout, 60 s) has to be
    /// longer; it tries a second time if less than 70 % of that is over.
    #[arg(long, default_value = "40", value_parser = ocf::seconds(5..=600))]
    action_timeout: Seconds,

    /// The same, under its name in fence_ipmilan
    ///
    /// In seconds; 0 means action_timeout, and less than 5 means 5.
    #[arg(long, value_parser = ocf::seconds(0..=600))]
    power_timeout: Option<Seconds>,

    /// How long the power stays off
    ///
    /// In seconds, 0 to 60: at least so long after off, a reboot sends on; and for so long after
    /// the command, no "off" is believed. Left out, a reboot waits for 2 s, and readings count
    /// at once.
    #[arg(long, value_parser = ocf::seconds(0..=60))]
    power_wait: Option<Seconds>,

    /// Readings of "off" that are believed
    ///
    /// So many in a row, 2 to 20.
    #[arg(long, default_value = "2", value_parser = ocf::number(2..=20))]
    off_readings: u32,

    /// Time between two readings
    ///
    /// In seconds, 0 to 60.
    #[arg(long, default_value = "0.5", value_parser = ocf::seconds(0..=60))]
    stonith_status_sleep: Seconds,

    /// How long a silent BMC is waited for
    ///
    /// In seconds, 1 to 600. One that has answered, and is silent then, is waited for as long as
    /// the action lasts.
    #[arg(long, default_value = "10", value_parser = ocf::seconds(1..=600))]
    login_timeout: Seconds,

    /// Patience of ipmitool
    ///
    /// In seconds, 1 to 60: how long it waits before it sends a message again (its -N).
    #[arg(long, default_value = "1", value_parser = ocf::seconds(1..=60))]
    ipmitool_timeout: Seconds,

    /// Path of ipmitool
    ///
    /// Left out, it is looked for in the usual places.
    #[arg(long, visible_alias = "ipmitool")]
    ipmitool_path: Option<String>,

    /// Name of the node to fence
    ///
    /// The cluster sets it. It is compared with hostname, and is never an address.
    #[arg(short = 'n', long, visible_alias = "port")]
    plug: Option<String>,

    /// Use plug as an address (ignored)
    ///
    /// Accepted for old configurations, and ignored: the cluster puts the node's name there. Use
    /// ip.
    #[arg(long)]
    port_as_ip: Option<Flag>,

    /// Separator in plug (ignored)
    ///
    /// Accepted for old configurations, and ignored: a BMC has one node.
    #[arg(long)]
    plug_separator: Option<String>,

    /// Attempts to power on (ignored)
    ///
    /// Accepted for old configurations, and ignored: on is sent again until its time is over.
    #[arg(long)]
    retry_on: Option<String>,

    /// Wait without end (ignored)
    ///
    /// Accepted for old configurations, and ignored: see action_timeout.
    #[arg(long)]
    disable_timeout: Option<String>,

    /// Patience with a shell (ignored)
    ///
    /// Accepted for old configurations, and ignored: there is no shell.
    #[arg(long)]
    shell_timeout: Option<String>,

    /// Use sudo (ignored)
    ///
    /// Accepted for old configurations, and ignored: nothing here needs other rights than the
    /// agent has.
    #[arg(long, visible_alias = "sudo")]
    use_sudo: Option<Flag>,

    /// Path of sudo (ignored)
    ///
    /// Accepted for old configurations, and ignored: see use_sudo.
    #[arg(long)]
    sudo_path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PasswdMethod {
    Param,
    Env,
    File,
}

/// Privilege levels, by the words of fence_ipmilan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Privilege {
    Callback,
    User,
    Operator,
    Administrator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    Auto,
    Native,
    Ipmitool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Interface {
    Lanplus,
    Lan,
}

/// Authentication types of IPMI 1.5, by the words of fence_ipmilan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    Md5,
    Password,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    Onoff,
    Cycle,
    Reset,
}

/// Longest user name, password and key of IPMI 2.0, and password of 1.5, in bytes.
const USERNAME_MAX: usize = 16;
const PASSWORD_MAX: usize = 20;
const PASSWORD_MAX_15: usize = 16;
const KG_MAX: usize = 20;
/// The suites that the agent speaks itself.
const NATIVE_SUITES: &[u32] = &[1, 2, 3, 15, 16, 17];
/// Suites whose packets prove nothing about their sender, once the session is open.
const WITHOUT_INTEGRITY: &[u32] = &[1, 6, 11, 15];

impl Fence for Ipmi {
    const NAME: &'static str = "fence_hastor_ipmi";
    const VENDOR_URL: &'static str = "https://github.com/hastor/hastor";
    const EXAMPLE: &'static [&'static str] = &[
        "hostname=NODE",
        "ip=ADDRESS",
        "username=USERNAME",
        "password=PASSWORD",
    ];

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> Result<()> {
        let ip = self.ip.as_deref().unwrap_or_default().trim();
        ensure!(
            !ip.is_empty(),
            "parameter ip: not given; expected the address of the BMC"
        );
        ensure!(
            !ip.starts_with('-') && !ip.contains(|c: char| c.is_whitespace() || c.is_control()),
            "parameter ip: \"{}\" is no address; expected one such as 192.0.2.1",
            ip.escape_debug()
        );
        let username = self.username.as_deref().unwrap_or_default();
        ensure!(
            username.len() <= USERNAME_MAX,
            "parameter username: \"{username}\" has {} bytes; expected at most {USERNAME_MAX}",
            username.len()
        );
        self.check_password()?;
        if let Some(kg) = &self.hexadecimal_kg {
            let bytes = kg_bytes(kg).unwrap_or_default();
            ensure!(
                (1..=KG_MAX).contains(&bytes.len()),
                "parameter hexadecimal_kg: expected 1 to {KG_MAX} bytes in hexadecimal"
            );
        }
        ensure!(
            self.cipher != Some(0),
            "parameter cipher: \"0\" authenticates nobody, so that anybody could say \"off\"; expected another, such as 17 or 3"
        );
        if let (Some(lanplus), Some(interface)) = (self.lanplus, self.interface) {
            ensure!(
                lanplus.is_on() == (interface == Interface::Lanplus),
                "parameters lanplus and interface contradict each other; expected one of them"
            );
        }
        if self.backend == Backend::Native {
            if let Some((name, why)) = self.needs_ipmitool() {
                bail!(
                    "parameter {name}: {why} only by ipmitool; expected backend auto or ipmitool"
                );
            }
        }
        Ok(())
    }

    fn remarks(&self, host: &Host) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut remark = |text: &str| remarks.push(text.to_owned());
        if self.hostname.is_none() {
            remark(
                "hostname is not given: this device fences its machine whatever node it is asked for, so that pcmk_host_list or pcmk_host_map has to be right",
            );
        }
        let ip = self.ip.as_deref().unwrap_or_default();
        if !is_address(ip) {
            remark(
                "ip is a name: fencing depends on a resolver that answers while the cluster is in trouble",
            );
        }
        if !self.speaks_2_0() {
            remark("IPMI 1.5: password and commands can be read and forged on the network");
        }
        if self
            .cipher
            .is_some_and(|cipher| WITHOUT_INTEGRITY.contains(&cipher))
        {
            remark("this cipher suite does not protect the answers of the BMC against forgery");
        }
        if self.privlvl < Privilege::Operator {
            remark("privlvl: switching power needs operator");
        }
        let reboot = self.limit(Action::Reboot).as_secs();
        if reboot >= STONITH_TIMEOUT {
            remark(&format!(
                "a reboot may take {reboot} s: pcmk_reboot_timeout, or stonith-timeout, has to be longer"
            ));
        }
        if self.method != MethodName::Onoff && !self.allow_cycle.is_on() {
            remark("method is done as onoff: the BMC's own needs allow_cycle");
        }
        if self.port_as_ip.is_some_and(Flag::is_on) {
            remark("port_as_ip is ignored: plug is a node's name, ip is the address");
        }
        remarks.extend(self.source().ok().and_then(|source| source.remark(host)));
        remarks
    }

    fn limit(&self, action: Action) -> Duration {
        match action {
            Action::Off => self.off_limit(),
            Action::On => self.patience(),
            Action::Reboot => self.off_limit() + self.on_limit(),
            _ => LOOK,
        }
    }

    fn power(&self, task: &Task) -> Result<Power> {
        self.must_be_ours(task)?;
        self.with_course(task, |course| Ok(course.look()?.power))
    }

    fn monitor(&self, task: &Task) -> Result<()> {
        self.with_course(task, |course| {
            let chassis = course.look()?;
            if chassis.control_fault {
                warn!(
                    "{}: reports a power control fault: fencing may fail",
                    self.device()
                );
            }
            course.must_obey()
        })
    }

    fn off(&self, task: &Task) -> Result<()> {
        self.must_be_ours(task)?;
        self.with_course(task, |course| course.off())
    }

    fn on(&self, task: &Task) -> Result<()> {
        self.must_be_ours(task)?;
        self.with_course(task, |course| course.on())
    }

    fn reboot(&self, task: &Task) -> Result<()> {
        self.must_be_ours(task)?;
        self.with_course(task, |course| course.reboot())
    }

    fn targets(&self) -> Result<Vec<Target>> {
        // An error, not an empty list: that would say "fences nobody", and this device asks nobody
        // whom it may fence.
        ensure!(
            self.hostname.is_some(),
            "parameter hostname: not given, so that there is nothing to list; expected the node's name"
        );
        let target = |name: &str| Target {
            name: name.into(),
            alias: String::new(),
        };
        Ok(self.hostnames().map(target).collect())
    }

    fn diag(&self, task: &Task) -> Result<String> {
        self.with_course(task, |course| {
            let chassis = course.look()?;
            let by = task.now() + task.time_left();
            let survey = course.ask(by, |session, _| {
                let mut lines = vec![("Session", session.session())];
                let guid = session.session_guid().map(|guid| guid.to_string());
                lines.extend(guid.map(|guid| ("Session GUID", guid)));
                lines.extend(session.survey(by));
                Ok(lines)
            })?;
            let mut text = format!("{}\n  {:<22} {}\n", self.device(), "Power", chassis.power);
            for (name, value) in survey {
                text.push_str(&format!("  {name:<22} {value}\n"));
            }
            Ok(text)
        })
    }
}

impl Ipmi {
    /// Refuses what is about another node than this BMC's, before anybody is asked.
    fn must_be_ours(&self, task: &Task) -> Result<()> {
        // With pcmk_host_map, plug is an alias, and the node's own name is still nodename.
        let asked = task.target().or(self.plug.as_deref());
        let (Some(asked), Some(hostname)) = (asked, &self.hostname) else {
            return Ok(());
        };
        ensure!(
            // As Pacemaker compares them.
            self.hostnames()
                .any(|name| name.eq_ignore_ascii_case(asked)),
            "not my node: \"{}\" was asked for, and hostname is \"{hostname}\"",
            asked.escape_debug()
        );
        Ok(())
    }

    fn hostnames(&self) -> impl Iterator<Item = &str> {
        let text = self.hostname.as_deref().unwrap_or_default();
        text.split(|c: char| c.is_whitespace() || c == ',' || c == ';')
            .filter(|name| !name.is_empty())
    }

    fn with_course<T>(&self, task: &Task, act: impl FnOnce(&mut Course) -> Result<T>) -> Result<T> {
        let plan = self.plan();
        let opener = self.opener(task)?;
        let mut course = Course::new(&plan, task, &*opener);
        act(&mut course)
    }

    fn opener<'a>(&'a self, task: &'a Task) -> Result<Box<dyn Opener + 'a>> {
        let password = self.source()?.read(task)?;
        self.check_length(&password)?;
        let access = self.access(password)?;
        Ok(match self.uses_ipmitool() {
            true => Box::new(Ipmitool::new(access, task)),
            false => Box::new(Native::new(access)),
        })
    }

    fn access(&self, password: Secret) -> Result<Access> {
        Ok(Access {
            address: without_brackets(self.ip.as_deref().unwrap_or_default().trim()).to_owned(),
            port: u16::try_from(self.ipport)?,
            username: self.username.clone().unwrap_or_default(),
            password,
            kg: self.hexadecimal_kg.as_ref().and_then(kg_bytes),
            cipher: self.cipher,
            privilege: self.privlvl,
            lanplus: self.speaks_2_0(),
            auth: self.auth,
            target: self.target.clone(),
            program: self.ipmitool_path.clone(),
            resend: self.ipmitool_timeout.into(),
        })
    }

    pub(crate) fn plan(&self) -> Plan {
        let wait = self.power_wait.map(Duration::from);
        Plan {
            device: self.device(),
            question: match self.uses_ipmitool() {
                // It opens a session for each question, and asks a silent BMC again by itself.
                true => self.login_timeout.into(),
                false => QUESTION,
            },
            pin: self.system_guid,
            readings: self.off_readings,
            interval: self.stonith_status_sleep.into(),
            settle: wait.unwrap_or(Duration::ZERO),
            hold: wait.unwrap_or(HOLD),
            reach: self.login_timeout.into(),
            off: self.off_limit(),
            on: self.on_limit(),
            method: match (self.method, self.allow_cycle.is_on()) {
                (MethodName::Cycle, true) => Method::Cycle,
                (MethodName::Reset, true) => Method::Reset,
                _ => Method::OnOff,
            },
        }
    }

    fn device(&self) -> String {
        let ip = self.ip.as_deref().unwrap_or_default();
        match self.ipport {
            623 => format!("BMC {ip}"),
            port => format!("BMC {ip} port {port}"),
        }
    }

    /// How long a BMC may need.
    fn patience(&self) -> Duration {
        let power_timeout = self.power_timeout.map(Duration::from);
        // fence_ipmilan does not care for it as long as the cluster calls, so that any value may stand there.
        power_timeout
            .filter(|time| !time.is_zero())
            .map_or(self.action_timeout.into(), |time| time.max(LEAST))
    }

    /// How long an off may take: with the time in which no "off" is believed, and that of the readings, as far as it is not
    /// the usual one.
    fn off_limit(&self) -> Duration {
        let settle = self.power_wait.map_or(Duration::ZERO, Duration::from);
        let readings = Duration::from(self.stonith_status_sleep) * self.off_readings;
        self.patience() + settle + readings.saturating_sub(READINGS)
    }

    /// How long a reboot's on may take, and what the power stays off before it.
    fn on_limit(&self) -> Duration {
        let hold = self.power_wait.map_or(HOLD, Duration::from);
        ON + hold.saturating_sub(HOLD)
    }

    fn speaks_2_0(&self) -> bool {
        self.lanplus.is_none_or(Flag::is_on) && self.interface != Some(Interface::Lan)
    }

    fn uses_ipmitool(&self) -> bool {
        match self.backend {
            Backend::Auto => self.needs_ipmitool().is_some(),
            Backend::Native => false,
            Backend::Ipmitool => true,
        }
    }

    /// The parameter that asks for what the agent does not speak itself, if there is one.
    fn needs_ipmitool(&self) -> Option<(&'static str, &'static str)> {
        let rare = |cipher: &u32| !NATIVE_SUITES.contains(cipher);
        if !self.speaks_2_0() {
            let name = self.interface.map_or("lanplus", |_| "interface");
            Some((name, "IPMI 1.5 is spoken"))
        } else if self.target.is_some() {
            Some(("target", "bridging is done"))
        } else if self.cipher.as_ref().is_some_and(rare) {
            Some(("cipher", "this suite is spoken"))
        } else {
            None
        }
    }

    fn check_password(&self) -> Result<()> {
        if let Source::Given(password) = self.source()? {
            self.check_length(&password)?;
        }
        Ok(())
    }

    fn check_length(&self, password: &Secret) -> Result<()> {
        let most = if self.speaks_2_0() {
            PASSWORD_MAX
        } else {
            PASSWORD_MAX_15
        };
        let length = password.reveal().len();
        ensure!(
            length <= most,
            "the password has {length} bytes; expected at most {most}, which is all that IPMI has room for"
        );
        ensure!(
            !password.reveal().contains('\0'),
            "the password has a NUL byte; expected none"
        );
        Ok(())
    }

    /// Where the password comes from; the anonymous user's is empty.
    fn source(&self) -> Result<Source> {
        let of_file = |path: &str| Source::File(path.to_owned());
        let password = self
            .password
            .as_ref()
            .map(|password| match self.passwd_method {
                PasswdMethod::File => ("password", of_file(password.reveal())),
                _ => ("password", Source::Given(password.clone())),
            });
        let file = self.password_file.as_deref();
        let file = file.map(|path| ("password_file", of_file(path)));
        let program = self.password_script.clone();
        let program = program.map(|line| ("password_script", Source::Program(line)));
        let mut given = [password, file, program].into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => Ok(Source::Given(Secret::new(""))),
            (Some((_, source)), None) => {
                let path = match &source {
                    Source::Given(_) => return Ok(source),
                    Source::File(path) | Source::Program(path) => path,
                };
                // Not printed: with the wrong passwd_method it may be the password itself.
                ensure!(
                    path.starts_with('/'),
                    "the password's file or program is not given by an absolute path"
                );
                Ok(source)
            }
            (Some((first, _)), Some((second, _))) => {
                bail!(
                    "parameters {first} and {second}: each gives a password; expected one of them"
                )
            }
        }
    }
}

/// How to get at a BMC: what every backend needs, and what ipmitool needs besides.
#[derive(Clone, Debug)]
pub struct Access {
    pub address: String,
    pub port: u16,
    pub username: String,
    pub password: Secret,
    pub kg: Option<Vec<u8>>,
    pub cipher: Option<u32>,
    pub privilege: Privilege,
    pub lanplus: bool,
    pub auth: Option<Auth>,
    pub target: Option<String>,
    pub program: Option<String>,
    pub resend: Duration,
}

/// The bytes of a key in hexadecimal.
fn kg_bytes(text: &Secret) -> Option<Vec<u8>> {
    let text = text.reveal().trim();
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// An IPv6 address as ipmitool takes it, too.
fn without_brackets(ip: &str) -> &str {
    let inside = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    inside.unwrap_or(ip)
}

fn is_address(text: &str) -> bool {
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let text = text.split('%').next().unwrap_or_default();
    text.parse::<IpAddr>().is_ok()
}
