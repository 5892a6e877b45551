//! What is wanted, from the parameters or from a definition.

use host::Host;
use md5::{Digest, Md5};
use ocf::{Secret, prelude::*};

use crate::definition::{self, Definition};
use crate::target::LioTarget;
use crate::values::{Backstore, LunWord};
use crate::wanted::{Access, Backing, Chap, Initiator, Lun, Mapped, Portal, Target, Unit, Wanted};

/// The portal of a target that has been given none.
const EVERYWHERE: Portal = Portal {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    port: 3260,
    iser: false,
};

/// What the resource is to put into the kernel; None if its definition is not there, so that nothing is.
pub fn wanted(agent: &LioTarget, node: &Node) -> Result<Option<Definition>> {
    let mut definition = match &agent.definition {
        Some(path) => match definition::read(node, path)? {
            Some(definition) => definition,
            None => return Ok(None),
        },
        None => Definition {
            wanted: from_parameters(agent, node)?,
            assigned: Vec::new(),
        },
    };
    check(&definition.wanted)?;
    for unit in &mut definition.wanted.units {
        // Initiators of VMware compare the first eight characters only.
        let product = || hex(&unit.serial, 8);
        unit.product.get_or_insert_with(product);
    }
    Ok(Some(definition))
}

/// Each number, serial number and name once.
fn check(wanted: &Wanted) -> Result<()> {
    for (index, unit) in wanted.units.iter().enumerate() {
        for other in &wanted.units[..index] {
            ensure!(other.name != unit.name, "there are two units {}", unit.name);
            ensure!(
                other.serial != unit.serial,
                "units {} and {} have the same serial number {}",
                other.name,
                unit.name,
                unit.serial
            );
            ensure!(
                other.backing.path() != unit.backing.path(),
                "units {} and {} have the same device {}",
                other.name,
                unit.name,
                unit.backing.path()
            );
        }
    }
    for target in &wanted.targets {
        for (index, lun) in target.luns.iter().enumerate() {
            if let Some(other) = target.luns[..index]
                .iter()
                .find(|other| other.number == lun.number)
            {
                bail!(
                    "target {}: units {} and {} both have LUN {}",
                    target.iqn,
                    other.unit,
                    lun.unit,
                    lun.number
                );
            }
        }
    }
    Ok(())
}

fn from_parameters(agent: &LioTarget, node: &Node) -> Result<Wanted> {
    let iqn =
        agent
            .iqn
            .clone()
            .context(Exit::NotConfigured.because(
                "parameter iqn: required without a definition, but not given".to_owned(),
            ))?;
    let instance = node.call().instance.split(':').next().unwrap_or_default();
    let units: Vec<Unit> = match (&agent.path, agent.luns.0.as_slice()) {
        // As ocf:heartbeat:iSCSILogicalUnit makes it, so that a disk stays the same disk.
        (Some(path), _) => {
            let serial = agent.scsi_sn.clone().unwrap_or_else(|| hex(instance, 8));
            let number = agent.lun;
            vec![unit(
                agent,
                number,
                path,
                serial,
                agent.product_id.clone(),
                false,
            )]
        }
        (None, luns) => luns
            .iter()
            .map(|word| of_word(agent, instance, word))
            .collect(),
    };
    let numbers: Vec<u16> = match &agent.path {
        Some(_) => vec![agent.lun],
        None => agent.luns.0.iter().map(|word| word.number).collect(),
    };
    let luns: Vec<Lun> = numbers
        .iter()
        .zip(&units)
        .map(|(number, unit)| Lun {
            number: *number,
            unit: unit.name.clone(),
        })
        .collect();
    let initiator = |name: &String| Initiator {
        name: name.clone(),
        chap: None,
        depth: None,
        luns: luns
            .iter()
            .map(|lun| Mapped {
                number: lun.number,
                lun: lun.number,
                read_only: false,
            })
            .collect(),
    };
    let access = match agent.allowed_initiators.0.as_slice() {
        [] => Access::Anyone,
        names => Access::Only(names.iter().map(initiator).collect()),
    };
    let target = Target {
        iqn,
        tag: agent.tpgt,
        portals: portals(agent),
        attributes: agent.tpg_attributes.0.clone(),
        parameters: agent.additional_parameters.0.clone(),
        chap: chap(agent, node)?,
        luns,
        access,
    };
    Ok(Wanted {
        units,
        targets: vec![target],
    })
}

fn of_word(agent: &LioTarget, instance: &str, word: &LunWord) -> Unit {
    let own = || hex(&format!("{instance}:{}", word.number), 25);
    let serial = word.serial.clone().unwrap_or_else(own);
    let product = word.product.clone();
    unit(
        agent,
        word.number,
        &word.path,
        serial,
        product,
        word.read_only,
    )
}

fn unit(
    agent: &LioTarget,
    number: u16,
    path: &str,
    serial: String,
    product: Option<String>,
    read_only: bool,
) -> Unit {
    let path = path.to_owned();
    let backing = match agent.liot_bstype {
        Backstore::Block => Backing::Block { path, read_only },
        Backstore::Fileio => Backing::File {
            path,
            size: None,
            write_back: agent.write_cache.is_on(),
        },
        Backstore::Pscsi => Backing::Scsi { path },
    };
    let mut attributes = agent.attributes.0.clone();
    let mut add = |name: &str, value: String| {
        if !attributes.iter().any(|(known, _)| known == name) {
            attributes.push((name.to_owned(), value));
        }
    };
    if let Some(size) = agent.block_size {
        add("block_size", size.to_string());
    }
    for (name, flag) in [
        ("emulate_tpu", agent.emulate_tpu),
        ("emulate_3pc", agent.emulate_3pc),
        ("emulate_caw", agent.emulate_caw),
    ] {
        if let Some(flag) = flag {
            add(name, u8::from(flag.is_on()).to_string());
        }
    }
    Unit {
        name: number.to_string(),
        backing,
        serial,
        company_id: None,
        vendor: agent.vendor_id.clone(),
        product,
        revision: None,
        attributes,
    }
}

fn portals(agent: &LioTarget) -> Vec<Portal> {
    let mut portals = agent.portals.0.clone();
    if portals.is_empty() {
        portals.push(EVERYWHERE);
    }
    for wanted in &agent.iser_portals.0 {
        match portals
            .iter_mut()
            .find(|portal| (portal.address, portal.port) == (wanted.address, wanted.port))
        {
            Some(portal) => portal.iser = true,
            None => portals.push(Portal {
                iser: true,
                ..wanted.clone()
            }),
        }
    }
    portals
}

fn chap(agent: &LioTarget, node: &Host) -> Result<Option<Chap>> {
    let Some(user) = agent.incoming_username.clone() else {
        return Ok(None);
    };
    let mut lines = match &agent.password_file {
        Some(path) => secrets(node, path)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let missing = |name: &str| {
        Exit::NotConfigured.because(format!(
            "parameter {name}: required with a user name, but given neither here nor in password_file"
        ))
    };
    let password = agent.incoming_password.clone().or_else(|| lines.next());
    let password = password.context(missing("incoming_password"))?;
    let mutual = match agent.outgoing_username.clone() {
        None => None,
        Some(user) => {
            let password = agent.outgoing_password.clone().or_else(|| lines.next());
            Some((user, password.context(missing("outgoing_password"))?))
        }
    };
    Ok(Some(Chap {
        user,
        password,
        mutual,
    }))
}

/// The lines of a file that only its owner may read.
fn secrets(host: &Host, path: &str) -> Result<Vec<Secret>> {
    let mode = host.mode(path)?.with_context(|| {
        format!("parameter password_file: \"{path}\" is not there; expected a file on every node")
    })?;
    ensure!(
        mode & 0o077 == 0,
        "parameter password_file: \"{path}\" has mode {mode:04o}; expected 0600: nobody but root may read it"
    );
    let text = Secret::new(host.read(path)?.unwrap_or_default());
    let lines = text.reveal().lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty())
        .map(Secret::new)
        .collect())
}

/// The first digits of a text's MD5 sum: not to keep anything secret, but the same on every node.
fn hex(text: &str, digits: usize) -> String {
    let digest = Md5::digest(text.as_bytes());
    let all: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    all.chars().take(digits).collect()
}
